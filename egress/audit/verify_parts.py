"""Verifying a large record by several processes: each takes parts of it, and they are put together in their order.

A batch's hash needs only the stored hash of the batch before it, so a part can be verified by who knows where the one
before it ends as the file says. A part that does not follow from the one before is found as it is by one process.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Final

from egress.audit.chain import Bounds, End
from egress.audit.database import explain
from egress.audit.verify import Report, Verifying
from egress.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor, Future
    from pathlib import Path

    from egress.audit.verify import Expected

# Batches of a part: forty thousand rows at most.
_PART: Final = 20
_BOUNDARY: Final = (
    "SELECT number, decisions, outcomes, events, hash FROM batches WHERE number > ? ORDER BY number LIMIT 1 OFFSET ?"
)


def verify_in_parts(
    connection: sqlite3.Connection,
    path: Path,
    *,
    key: bytes | None,
    expected: Sequence[Expected],
    progress: Callable[[int], object],
    processes: int,
) -> Report:
    """As `verify`, with so many processes. Raises AuditError."""
    whole = Verifying(connection, key, expected, progress)
    try:
        with _pool(processes) as pool:
            end = whole.begin()
            waiting: deque[Future[tuple[Report, End]]] = deque()
            for start, last in _parts(connection, end):
                waiting.append(pool.submit(_verify_part, str(path), key, tuple(expected), start, last))
                if len(waiting) > processes:
                    end = _take(waiting.popleft(), whole, progress)
            while waiting:
                end = _take(waiting.popleft(), whole, progress)
        # What was recorded meanwhile.
        return whole.end(whole.part(end))
    except sqlite3.Error as error:
        raise explain(error, path) from error
    except BrokenExecutor as error:
        raise AuditError("a process that verified ended too early", hint="was it killed? verify again") from error


def _pool(processes: int) -> Executor:
    # Spawned, since the caller may have threads.
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"))


def _take(future: Future[tuple[Report, End]], whole: Verifying, progress: Callable[[int], object]) -> End:
    part, end = future.result()
    whole.report.add(part)
    progress(whole.report.rows)
    return end


def _parts(connection: sqlite3.Connection, end: End) -> Iterator[tuple[End, int]]:
    """Where each part begins, and the number of its last batch. The last batches, too few for a part, are left."""
    while (row := connection.execute(_BOUNDARY, (end.number, _PART - 1)).fetchone()) is not None:
        yield end, row[0]
        end = End(end.chain, row[0], Bounds(*row[1:4]), row[4])


def _verify_part(
    path: str, key: bytes | None, expected: tuple[Expected, ...], start: End, last: int
) -> tuple[Report, End]:
    from egress.audit.reader import AuditReader  # noqa: PLC0415 -- it imports this module

    with AuditReader(path) as reader:
        verifying = Verifying(reader.connection, key, expected, lambda _: None)
        end = verifying.part(start, last)
        return verifying.report, end
