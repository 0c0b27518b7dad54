"""Events, writers and databases for the tests of the audit."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

import pytest

from egress.audit import AuditWriter, DecisionEvent, OutcomeEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TIME_US = 1_790_000_000_000_000


def _decision(number: int, **changed: object) -> DecisionEvent:
    values: dict[str, object] = {
        "id": f"id-{number:06d}",
        "time_us": TIME_US + number,
        "sandbox": "agent",
        "client": "127.0.0.1:40000",
        "verdict": "allow",
        "reason": "rule-allow",
        "host": "api.example.com",
        "port": 443,
        "method": "GET",
        "path": "/v1",
        "scheme": "https",
    }
    return DecisionEvent(**(values | changed))  # type: ignore[arg-type]


def _outcome(number: int, **changed: object) -> OutcomeEvent:
    values: dict[str, object] = {"id": f"id-{number:06d}", "time_us": TIME_US + number + 50, "status": 200}
    return OutcomeEvent(**(values | changed))  # type: ignore[arg-type]


@pytest.fixture
def decision() -> Callable[..., DecisionEvent]:
    """Make the decision with that number."""
    return _decision


@pytest.fixture
def outcome() -> Callable[..., OutcomeEvent]:
    """Make the outcome of the decision with that number."""
    return _outcome


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where a writer is to make its database."""
    return tmp_path / "state" / "audit.db"


@pytest.fixture
def start(database: Path) -> Iterator[Callable[..., AuditWriter]]:
    """Start writers that flush fast; what is still open is closed at the end."""
    writers: list[AuditWriter] = []

    def started(path: Path = database, *, flush_interval: float = 0.02, **options: int) -> AuditWriter:
        writer = AuditWriter(path, flush_interval=flush_interval, **options)
        writer.start()
        writers.append(writer)
        return writer

    yield started
    for writer in writers:
        writer.close(timeout=5)


@pytest.fixture
def rows() -> Callable[..., list[tuple[object, ...]]]:
    """Ask a database something, as a reviewer with the SQLite shell would."""

    def ask(path: Path, sql: str, *parameters: object) -> list[tuple[object, ...]]:
        connection = sqlite3.connect(path)
        try:
            return connection.execute(sql, parameters).fetchall()
        finally:
            connection.close()

    return ask


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Wait until something holds, ten seconds at most."""

    def wait(holds: Callable[[], bool], seconds: float = 10) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, "it never came to hold"
            time.sleep(0.01)

    return wait
