"""Records as the proxy leaves them, for tests of what reads one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.audit import AuditWriter, DecisionEvent

if TYPE_CHECKING:
    from pathlib import Path

    from egress.audit import OutcomeEvent

TIME_US = 1_790_000_000_000_000


def record(path: Path, *events: DecisionEvent | OutcomeEvent) -> None:
    """Have a writer add these to the record, and close it."""
    writer = AuditWriter(path, flush_interval=0.02)
    writer.start()
    for event in events:
        while not writer.offer(event):
            assert writer.flush(10)
    assert writer.close(10)


def denied(**changed: object) -> DecisionEvent:
    """A request that no rule allows, but for what is changed."""
    values: dict[str, object] = {
        "id": "denied",
        "time_us": TIME_US,
        "sandbox": "default",
        "client": "127.0.0.1:1",
        "verdict": "deny",
        "reason": "host-not-allowed",
        "host": "api.example.com",
        "port": 443,
        "method": "POST",
        "path": "/v1/items",
        "protocol": "https",
    }
    return DecisionEvent(**(values | changed))  # type: ignore[arg-type]
