"""The whole record, oldest first, a page at a time: at any size in constant memory, and beside a running proxy.

Each page is a short transaction of its own, found by key, so that the proxy's checkpoints never wait for the reader. A
page is bounded twice: by the rows that it gives, and by those that it looks at, which bounds its time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from egress.audit.filters import Filter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.audit.reader import AuditReader, AuditRow

ROWS: Final = 500
LOOKED_AT: Final = 20_000


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, in the order of the record. `done` of `total` rows have been looked at so far."""

    rows: tuple[AuditRow, ...]
    done: int
    total: int


def pages(
    reader: AuditReader, wanted: Filter | None = None, *, rows: int = ROWS, looked_at: int = LOOKED_AT
) -> Iterator[Page]:
    """The rows that meet the filter and are there now; what is recorded meanwhile is left for the next time."""
    wanted = wanted or Filter()
    first, last = reader.bounds(wanted)
    start, place = first - 1, first - 1
    while place < last:
        end = min(place + looked_at, last)
        found = reader.between(place, end, wanted, limit=rows)
        place = found[-1].seq if len(found) == rows else end
        yield Page(tuple(found), place - start, last - start)
