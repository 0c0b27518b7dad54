"""What was asked for, read back to be asked again: all of it, alike rows together, a window at a time."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from egress.audit import AuditReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from egress.audit import AuditWriter

TIME_US = 1_790_000_000_000_000


@pytest.mark.parametrize("window", [1, 7, 100, 20_000])
def test_every_decision_is_counted_once(
    window: int, database: Path, start: Callable[..., AuditWriter], decision: Callable
) -> None:
    """Whatever the window, the counts of alike rows add up."""
    writer = start()
    for number in range(100):
        writer.offer(decision(number, path=f"/{number % 3}", address=None if number % 2 else "192.0.2.1"))
    assert writer.flush(5)
    counts: Counter[tuple[str | None, str | None]] = Counter()
    with AuditReader(database) as reader:
        for row in reader.asked(window=window):
            counts[row.path, row.address] += row.count
            assert (row.method, row.scheme, row.host, row.port, row.sandbox) == (
                *("GET", "https", "api.example.com"),
                *(443, "agent"),
            )
    expected = Counter((f"/{number % 3}", None if number % 2 else "192.0.2.1") for number in range(100))
    assert counts == expected


def test_since_leaves_out_what_is_older(database: Path, start: Callable[..., AuditWriter], decision: Callable) -> None:
    """By the time of the decision, in microseconds."""
    writer = start()
    for number in range(100):
        writer.offer(decision(number, time_us=TIME_US + number * 60_000_000))
    assert writer.flush(5)
    with AuditReader(database) as reader:
        assert sum(row.count for row in reader.asked(TIME_US + 90 * 60_000_000)) == 10
        assert sum(row.count for row in reader.asked(TIME_US + 1000 * 60_000_000)) == 0


def test_nothing_is_held_open_between_windows(
    database: Path, start: Callable[..., AuditWriter], decision: Callable
) -> None:
    """The proxy writes on, and its checkpoints wait for nobody; what comes after the start is left out."""
    writer = start()
    for number in range(10):
        writer.offer(decision(number))
    assert writer.flush(5)
    with AuditReader(database) as reader:
        rows = reader.asked(window=5)
        first = next(rows).count
        assert not reader._connection.in_transaction
        writer.offer(decision(11))
        assert writer.flush(5)
        assert sum(row.count for row in rows) == 10 - first


def test_empty_record_has_nothing_to_ask(database: Path, start: Callable[..., AuditWriter]) -> None:
    """No row, no error."""
    start()
    with AuditReader(database) as reader:
        assert list(reader.asked()) == []
