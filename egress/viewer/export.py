"""Writes the rows that a filter gives into a new file, a JSON object a line, while the screen goes on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from egress.audit.lines import json_line
from egress.errors import AuditError
from egress.viewer.asker import Asker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from egress.audit import Filter

_ROWS: Final = 1_000


async def export(
    path: Path, wanted: Filter, file: Path, *, going: Callable[[int], bool], progress: Callable[[int, int], object]
) -> int:
    """How many rows were written. `progress` is told rows and key; `going` may end it. Raises AuditError.

    The file is a new one with mode 0600: what stands in an audit is not for everybody, and nothing is overwritten.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise AuditError(f"{file} cannot be made: {(error.strerror or '').lower()}") from error
    asker = Asker(path)
    count, high = 0, 0
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            while going(high):
                after = high
                page = await asker.ask(lambda reader: reader.after(after, wanted, limit=_ROWS, going=going))  # noqa: B023 -- awaited before the next turn
                stream.writelines(f"{json_line(row)}\n" for row in page.rows)
                count, high = count + len(page.rows), page.reached - 1
                progress(count, high)
                if page.whole:
                    break
    except OSError as error:
        raise AuditError(f"{file} cannot be written: {(error.strerror or '').lower()}") from error
    finally:
        asker.close()
    return count
