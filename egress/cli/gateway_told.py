"""What `egress gateway status` tells: as text, and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from egress.confine.gateway_status import Count, GatewayStatus

_MOST = 20
_TOLD = {
    "in-force": "in force",
    "closed": "CLOSED: everything is refused, as `down --leave-closed` left it",
    "drifted": "NOT AS SET: the rules are not those that `up` sets; `egress gateway up` restores them",
    "absent": "NOT THERE: there is no such table, nothing is confined",
    "foreign": "NOT OURS: the table was not made by `egress gateway`",
}


def as_object(status: GatewayStatus) -> dict[str, Any]:
    """The status as one JSON object."""
    from egress.confine.gateway import options  # noqa: PLC0415 -- `egress --help` needs none of it

    return {
        "table": status.table,
        "state": status.state.value,
        "ready": status.ready,
        "options": [list(option) for option in options(status.gateway)] if status.gateway else None,
        "differences": list(status.differences),
        "silent": list(status.silent),
        "counters": {whom: _plain(counts) for whom, counts in status.counts.items()},
        "notes": list(status.notes),
    }


def _plain(counts: Mapping[str, Count]) -> dict[str, dict[str, int]]:
    return {kind: asdict(count) for kind, count in counts.items()}


def lines(status: GatewayStatus) -> Iterator[str]:
    """The status for people."""
    from egress.confine.gateway_text import command_line  # noqa: PLC0415 -- `egress --help` needs none of it

    yield f"table {status.table}: {_TOLD[status.state.value]}"
    if status.gateway is not None:
        yield f"  {command_line(status.gateway)}"
    yield from (f"  {difference}" for difference in status.differences[:_MOST])
    if (more := len(status.differences) - _MOST) > 0:
        yield f"  and {more} more"
    yield from (f"NOT SERVED: {told}" for told in status.silent)
    for whom, counts in status.counts.items():
        yield f"{whom}: " + ", ".join(f"{count.packets} {kind}" for kind, count in counts.items())
    yield from (f"note: {note}" for note in status.notes)
