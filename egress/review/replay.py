"""Asks two policies again what an audit has recorded, and gathers what would change.

The record has no header values and no values of a query, so rules that ask for those are judged without them. What
was refused before it could be read, or is stored cut, cannot be asked again; nor can what a sandbox asked for which a
denial cannot be written out, since its labels are not known. It is counted, never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from egress.errors import ConfigError
from egress.policy import WITHOUT_REQUEST, Certainty, Protocol, Refusal, Request, parse_host
from egress.review.changes import Answer, Changes, Kind, differences, request_text
from egress.review.explain import judge
from egress.review.explanation import Explanation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from egress.config import LoadedPolicy
    from egress.policy import Address
    from egress.review.spelling import JsonObject

_CUT: Final = "…"
_LAST_PORT: Final = 65_535
_REMEMBERED_AT_MOST: Final = 20_000
_DEPENDS: Final = "depends on the request, which a CONNECT does not show"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the audit tells of requests that were alike, and how many they were.

    `scheme` counts where `protocol` says nothing.
    """

    method: str | None
    scheme: str | None
    protocol: str | None
    host: str | None
    port: int | None
    path: str | None
    sandbox: str
    address: str | None
    count: int = 1


@dataclass(slots=True)
class Replay:
    """What would change. `asked` and `unread` count recorded decisions: those asked again, and those that cannot be."""

    changes: Changes = field(default_factory=Changes)
    asked: int = 0
    unread: int = 0

    @property
    def same(self) -> bool:
        """Whether both policies say the same to everything recorded."""
        return not self.changes.groups

    def as_json(self) -> JsonObject:
        """Everything as plain values."""
        return {"same": self.same, "groups": self.changes.as_json(), "asked": self.asked, "unread": self.unread}


def replay(rows: Iterable[Recorded], old: LoadedPolicy, new: LoadedPolicy) -> Replay:
    """Ask both policies each row, as it comes. Memory does not grow with their number."""
    found = Replay()
    known: dict[tuple[Request, tuple[Address, ...]], list[tuple[Kind, str, str]] | None] = {}
    for row in rows:
        read = _request(row)
        if read is None:
            found.unread += row.count
            continue
        if read not in known:
            if len(known) >= _REMEMBERED_AT_MOST:
                known.clear()
            known[read] = _differences(*read, old, new)
        changed = known[read]
        if changed is None:
            found.unread += row.count
            continue
        found.asked += row.count
        for kind, before, after in changed:
            request, addresses = read
            example = request_text(request, addresses[0] if addresses else None)
            found.changes.add(kind, before, after, example, requests=row.count)
    return found


def _request(row: Recorded) -> tuple[Request, tuple[Address, ...]] | None:
    word = row.protocol if row.protocol in Protocol else row.scheme
    if word is None or word not in Protocol or not row.host or row.port is None or not 0 < row.port <= _LAST_PORT:
        return None
    if any(_CUT in text for text in (row.method, row.host, row.path) if text is not None):
        return None
    host = parse_host(row.host)
    if isinstance(host, Refusal):
        return None
    address = None if row.address is None or host.address is not None else parse_host(row.address)
    dialled = () if address is None or isinstance(address, Refusal) or address.address is None else (address.address,)
    return Request(row.sandbox, Protocol(word), host, row.port, row.method, row.path), dialled


def _differences(
    request: Request, addresses: tuple[Address, ...], old: LoadedPolicy, new: LoadedPolicy
) -> list[tuple[Kind, str, str]] | None:
    """What differs between the two answers; None where a policy cannot be written out for the sandbox that asked."""
    try:
        for side in (old, new):
            side.of(request.sandbox)
    except ConfigError:
        return None
    answers = [_answer(request, addresses, side) for side in (old, new)]
    before, after = (
        None if told is None else Answer(told, side) for told, side in zip(answers, (old, new), strict=True)
    )
    if before is not None and after is not None:
        return [(kind, before.source, after.source) for kind in differences(before, after)]
    if before is after:
        return []
    sources = [_DEPENDS if answer is None else answer.source for answer in (before, after)]
    return [(Kind.DEPENDS, sources[0], sources[1])]


def _answer(request: Request, addresses: tuple[Address, ...], side: LoadedPolicy) -> Explanation | None:
    """The policy's answer; None where it depends on a request that was not recorded."""
    if request.method is None and request.protocol not in WITHOUT_REQUEST:
        name = side.of(request.sandbox).decide_name(request)
        if name.certainty is Certainty.MAYBE:
            return None
        if name.certainty is Certainty.YES:
            return Explanation(
                name.decision.verdict, name.decision.reason, name.decision.detail, request, name.decision
            )
    return judge(request, side, addresses)
