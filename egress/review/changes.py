"""What differs between two answers to one request, and the differences gathered by the rules that made them.

Only what reaches a client or a server counts: the verdict, the headers and their secrets, how TLS is carried, where the
request goes. That another rule, or another reason, leads to the same is no change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from egress.policy import Protocol, Verdict, told
from egress.review.spelling import plain, rule_text, signing_values

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from egress.config import LoadedPolicy
    from egress.policy import Address, Injection, Request, Swap
    from egress.review.explanation import Explanation
    from egress.review.spelling import JsonObject

_DEFAULT_PORTS = {
    **dict.fromkeys((Protocol.HTTPS, Protocol.WSS, Protocol.GRPC), 443),
    **dict.fromkeys((Protocol.HTTP, Protocol.WS), 80),
    Protocol.DNS: 53,
}


class Kind(StrEnum):
    """How an answer differs, in the order of telling."""

    ALLOWED = "newly allowed"
    ASKED = "newly asks a person"
    DENIED = "newly denied"
    DEPENDS = "now depends on the request"
    CREDENTIALS = "other credentials"
    HEADERS = "other headers"
    TLS = "TLS carried otherwise"
    DESTINATION = "goes elsewhere"


_OF_VERDICT = {Verdict.ALLOW: Kind.ALLOWED, Verdict.ASK: Kind.ASKED, Verdict.DENY: Kind.DENIED}


@dataclass(slots=True)
class Group:
    """All differences of one kind between two rules: how many requests to how many destinations, and one of them."""

    kind: Kind
    old: str
    new: str
    example: str
    requests: int = 0
    destinations: int = 0


@dataclass(slots=True)
class Changes:
    """The groups by kind and rules; their number is bounded by the rules, not by the requests."""

    groups: dict[Hashable, Group] = field(default_factory=dict)

    def add(self, kind: Kind, old: str, new: str, example: str, *, requests: int = 1) -> Group:
        """Count a difference, and give its group."""
        group = self.groups.setdefault((kind, old, new), Group(kind, old, new, example))
        group.requests += requests
        return group

    def in_order(self) -> list[Group]:
        """By kind, then the most frequent first."""
        order = list(Kind)
        return sorted(self.groups.values(), key=lambda group: (order.index(group.kind), -group.requests, group.old))

    def as_json(self) -> list[JsonObject]:
        """The groups as plain values."""
        return [
            {
                "kind": group.kind.value,
                "old": group.old,
                "new": group.new,
                "requests": group.requests,
                "destinations": group.destinations,
                "example": group.example,
            }
            for group in self.in_order()
        ]


@dataclass(frozen=True, slots=True)
class Answer:
    """An explanation with the policy that gave it."""

    explanation: Explanation
    loaded: LoadedPolicy

    @property
    def source(self) -> str:
        """The verdict, and the rule that spoke or why none did, with what the rule sets."""
        told = self.explanation
        if told.rule is None:
            return f"{told.verdict.value}, no rule ({told.reason.value})"
        spoke = (
            "" if told.reason.value in {"rule-allow", "rule-deny", "approval-required"} else f" ({told.reason.value})"
        )
        return f"{told.verdict.value}, {rule_text(told.rule)}{spoke}"

    def credentials(self) -> Sequence[object]:
        """The headers that carry secrets, the signature, and where the secrets come from (places, never values)."""
        found = sorted(
            [
                *(
                    (one.header.lower(), plain((one.user, one.parts)), [self._source(name) for name in one.secrets])
                    for one in self._injections()
                    if one.secrets
                ),
                *(("swap", plain(swap), [self._source(swap.secret)]) for swap in self._swaps()),
            ],
            key=str,
        )
        decision = self.explanation.decision
        signing = None if decision is None else decision.sign
        return found if signing is None else [*found, (signing_values(signing), self._source(signing.secret))]

    def carriers(self) -> frozenset[str]:
        """The headers that carry secrets."""
        return frozenset(injection.header.lower() for injection in self._injections() if injection.secrets)

    def headers(self, apart: frozenset[str]) -> Sequence[object]:
        """The headers set without secrets, and those removed, but for some."""
        decision = self.explanation.decision
        names = [] if decision is None else [name.lower() for name in decision.remove]
        removed = sorted(name for name in names if name not in apart)
        literal = ((one.header.lower(), plain((one.user, one.parts))) for one in self._injections() if not one.secrets)
        return [sorted(literal), removed]

    def tls(self) -> Hashable:
        """How TLS is carried."""
        decision = self.explanation.decision
        return None if decision is None else (decision.tls, self.explanation.lane)

    def destination(self) -> Hashable:
        """Where it goes up to, if a rule rewrites it."""
        sent = self.explanation.sent
        return None if sent is None else (sent.protocol, sent.host.text, sent.port, sent.path)

    def _injections(self) -> tuple[Injection, ...]:
        decision = self.explanation.decision
        return () if decision is None else decision.inject

    def _swaps(self) -> tuple[Swap, ...]:
        decision = self.explanation.decision
        return () if decision is None else decision.swap

    def _source(self, name: str) -> str:
        definition = self.loaded.secrets.get(name)
        if definition is None:
            return ""
        bound = plain((definition.methods, definition.paths, definition.placeholder))
        return f"{name}: {definition.source} {bound}"


def differences(old: Answer, new: Answer) -> list[Kind]:
    """How the answers differ; nothing if no client and no server could tell."""
    before, after = old.explanation.verdict, new.explanation.verdict
    if before is not after:
        return [_OF_VERDICT[after]]
    if before is not Verdict.ALLOW:
        return []
    found = []
    if old.credentials() != new.credentials():
        found.append(Kind.CREDENTIALS)
    # A header of the client's goes away where a secret takes its place; that is told already.
    apart = old.carriers() | new.carriers()
    if old.headers(apart) != new.headers(apart):
        found.append(Kind.HEADERS)
    if old.tls() != new.tls():
        found.append(Kind.TLS)
    if old.destination() != new.destination():
        found.append(Kind.DESTINATION)
    return found


def request_text(request: Request, address: Address | None = None) -> str:
    """A request for people: `GET https://api.example.com/path`, and what its name resolves to."""
    host = f"[{request.host.text}]" if ":" in request.host.text else request.host.text
    port = "" if _DEFAULT_PORTS.get(request.protocol) == request.port else f":{request.port}"
    query = "" if request.query is None else f"?{request.query}"
    method = "" if request.method is None else f"{request.method} "
    headers = "".join(f", with {name}: {value}" for name, value in request.headers)
    asking = "" if request.body is None else f", asking for {told(request.body)}"
    resolved = "" if address is None else f", resolving to {address}"
    return f"{method}{request.protocol.value}://{host}{port}{request.path or ''}{query}{headers}{asking}{resolved}"
