"""Each case through two lanes: the least that its rules need, and mitmproxy. What both make of it must be the same.

What may differ, and why that is no weaker, stands in DIFFERENCES. A line of it that is not needed is a failure too.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from corpus_runner.evidence import kept

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Connection
    from harness.proxy import Row
    from harness.world import World

    from corpus_runner.evidence import Evidence

LEAST, MITM = "", "mitm"
LANES = (LEAST, MITM)

# Of a row: what was judged, by what, and what became of it. Ids, times, ports of clients and byte counts vary by run.
_COLUMNS = ("verdict", "reason", "scheme", "host", "port", "method", "path", "rule", "secrets", "status")
_ANSWER = re.compile(rb"HTTP/1\.[01] (\d{3})")
_REASON = re.compile(rb'"reason": ?"([a-z-]+)"')
# From here on the system hands ports out as it likes.
_ANY_PORT = 32768


@dataclass(frozen=True)
class Carried:
    """What a lane made of what one client did. Each field is a respect in which two lanes are compared."""

    rows: tuple[tuple[object, ...], ...]
    origin: Counter[tuple[object, ...]]
    client: tuple[tuple[int, ...], tuple[str, ...]]

    @classmethod
    def of(cls, evidence: Evidence) -> Carried:
        """From what the recorders saw."""
        data = evidence.client_bytes
        return cls(
            tuple(sorted((_row(row) for row in evidence.rows), key=repr)),
            Counter(request for seen in evidence.connections for request in _arrived(seen)),
            (
                tuple(int(code) for code in _ANSWER.findall(data)),
                tuple(reason.decode() for reason in _REASON.findall(data)),
            ),
        )


@dataclass(frozen=True)
class Difference:
    """In which respects (fields of `Carried`) the lanes differ for these cases, and why that is no weaker.

    `sometimes`: it depends on which of two things happens first, and neither order can be brought about from outside.
    """

    ids: tuple[str, ...]
    respects: frozenset[str]
    why: str
    sometimes: bool = False


DIFFERENCES = (
    Difference(
        ("HOSTCANON-002", "HOSTCANON-014", "HOSTCANON-030"),
        frozenset({"rows", "client"}),
        "mitmproxy itself refuses a target whose host is none, so it is malformed before its name is judged",
    ),
    Difference(
        ("H1FRAMING-032", "H1FRAMING-033", "H1FRAMING-034", "H1FRAMING-035", "H1FRAMING-036"),
        frozenset({"rows"}),
        "mitmproxy reads head and framing in one step: a request whose framing is refused has no method in its row",
    ),
    Difference(
        ("RAWPROTOCO-037",),
        frozenset({"rows", "client"}),
        "mitmproxy reads on behind a CONNECT that it refused, and refuses what it finds as well",
    ),
    Difference(
        ("RAWPROTOCO-038",),
        frozenset({"rows"}),
        "mitmproxy reads on behind a CONNECT that it refused, and refuses what comes before it has hung up as well",
        sometimes=True,
    ),
    Difference(
        ("RAWPROTOCO-041",),
        frozenset({"rows", "origin", "client"}),
        "the listener refuses a hello in that many records; mitmproxy reads it, and holds it to its name",
    ),
    Difference(
        ("SECRETREFL-034",),
        frozenset({"client"}),
        "mitmproxy has sent the head when the body turns out to grow beyond measure; the page comes too late, or not",
    ),
    Difference(
        ("UPGRADETUN-013",),
        frozenset({"rows", "client"}),
        "mitmproxy has no page for a flow that is killed: the client's connection ends without one",
    ),
)

# Cases that bring proxies of their own, or that are about questions to our DNS alone: no lane of ours carries those.
WITHOUT_LANES = frozenset({"FAILOPEN-026", "FAILOPEN-018", "DNS-031", "DOS-029", "TAMPER-013", "TAMPER-014"})

# Cases about load, faults, the record and the start: what they look at is not what a lane makes of a request. Each is
# played through one of the lanes, by turns, so that both have their share.
BY_TURNS = ("DOS-", "FAILOPEN-", "AUDITLOG-", "TAMPER-")


def lanes_of(case_id: str) -> tuple[str, ...]:
    """The lanes that a case is played through."""
    if case_id in WITHOUT_LANES:
        return LANES[:1]
    if case_id.startswith(BY_TURNS):
        return (LANES[int(case_id[-3:]) % len(LANES)],)
    return LANES


def through_lanes(world: World, case_id: str, play: Callable[[], object]) -> None:
    """Play a case through each of its lanes, and compare."""
    carried: list[list[Carried]] = []
    for lane in lanes_of(case_id):
        with world.carried_by(lane), kept() as found:
            try:
                play()
            except AssertionError as failure:
                failure.add_note(f"carried by {lane or 'the least lane'}")
                raise
        carried.append([Carried.of(evidence) for evidence in found])
    if len(carried) > 1:
        hold_alike(case_id, *carried)


def hold_alike(case_id: str, least: list[Carried], mitm: list[Carried]) -> None:
    """Hold two lanes to the same, but for what is listed."""
    assert len(least) == len(mitm), f"{case_id}: not as many clients in both lanes"
    found = [unlike(one, other) for one, other in zip(least, mitm, strict=True)]
    differences = [one for one in DIFFERENCES if case_id in one.ids]
    listed = frozenset[str]().union(*(one.respects for one in differences))
    surprising = [{name: pair for name, pair in one.items() if name not in listed} for one in found]
    assert not any(surprising), f"{case_id}: the lanes differ (least, mitm): {surprising}"
    always = frozenset[str]().union(*(one.respects for one in differences if not one.sometimes))
    needless = always - frozenset[str]().union(*found)
    assert not needless, f"{case_id}: DIFFERENCES lists what does not differ: {sorted(needless)}"


def unlike(one: Carried, other: Carried) -> dict[str, tuple[object, object]]:
    """The respects in which they differ, with what each has."""
    pairs = {field.name: (getattr(one, field.name), getattr(other, field.name)) for field in fields(Carried)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _row(row: Row) -> tuple[object, ...]:
    port = row["port"]
    known = port is None or int(str(port)) < _ANY_PORT
    return tuple(row[column] if known or column != "port" else "any" for column in _COLUMNS)


def _arrived(seen: Connection) -> list[tuple[object, ...]]:
    # How many connections carry them is the lane's business; a connection with bytes that are no request counts as one.
    where = (seen.role, seen.address, seen.port, seen.tls, seen.sni)
    requests: list[tuple[object, ...]] = [(*where, head.line, head.fields) for head in seen.requests]
    return requests or ([(*where, "no request")] if seen.received else [])
