"""Compares two policies by meaning: what each says to requests that stand for all that the files can tell apart.

1. destinations  of every target of both, of every secret, and one of each kind that neither names;
2. alike         those that targets of the same meaning name on both sides need no asking: their answers are the same;
3. requests      to the others, by port, protocol, method and path (`representatives`), through both policies;
4. addresses     where both allow, those that the name could resolve to, by the ranges that the files name.
5. unjudged      what requests alone do not show (a field unknown here, a scope's mode) is compared as it is written.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from egress.config import is_bound
from egress.policy import (
    Certainty,
    Host,
    HostTarget,
    NetworkTarget,
    Protocol,
    Refusal,
    TlsMode,
    Verdict,
    classify,
    parse_host,
    readings,
    unmap,
)
from egress.review.changes import Answer, Changes, differences, request_text
from egress.review.explain import judge
from egress.review.naming import Meanings, Named, Names, edges, kind_of_address
from egress.review.representatives import OVERRIDE, one_of_each, requests_to
from egress.review.unjudged import unjudged

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from egress.config import LoadedPolicy
    from egress.policy import Address, Network, Request
    from egress.review.spelling import JsonObject

_DEFAULT_PORT: Final = 443
# A WebSocket begins as a request of HTTP, gRPC is one, and their names are judged as its.
_BEFORE_UPGRADE: Final = {Protocol.WS: Protocol.HTTP, Protocol.WSS: Protocol.HTTPS, Protocol.GRPC: Protocol.HTTPS}
_NOWHERE: Final = "no-rule-names-this.test"


@dataclass(slots=True)
class Comparison:
    """What was found, and how much was asked. `written` are differences that requests alone do not show."""

    changes: Changes = field(default_factory=Changes)
    written: list[str] = field(default_factory=list)
    destinations: int = 0
    alike: int = 0
    requests: int = 0

    @property
    def same(self) -> bool:
        """Whether the two mean the same."""
        return not self.changes.groups and not self.written

    def as_json(self) -> JsonObject:
        """Everything as plain values."""
        return {
            "same": self.same,
            "groups": self.changes.as_json(),
            "written": self.written,
            "destinations": self.destinations,
            "alike": self.alike,
            "requests": self.requests,
        }


def compare(old: LoadedPolicy, new: LoadedPolicy) -> Comparison:
    """Ask both policies everything that their files can tell apart."""
    return _Comparing(old, new).run()


class _Comparing:
    def __init__(self, old: LoadedPolicy, new: LoadedPolicy) -> None:
        meanings = Meanings()
        self.sides = (old, new)
        self.names = (Names(old.policy, meanings), Names(new.policy, meanings))
        self.found = Comparison()
        self.held = {
            named.target.what.network
            for names in self.names
            for named in names.held
            if isinstance(named.target.what, NetworkTarget)
        }
        self.same_frame = _frame(old, self.names[0]) == _frame(new, self.names[1])

    def run(self) -> Comparison:
        self.found.written = unjudged(*self.sides)
        classes: dict[Hashable, tuple[Host, int]] = {}
        for host in _hosts(self.sides):
            self.found.destinations += 1
            names = [tuple(named.meaning for named in side.naming(host)) for side in self.names]
            if self.same_frame and names[0] == names[1]:
                self.found.alike += 1
                continue
            key = (*names, self._bound(host), self._of_address(host))
            first, count = classes.get(key, (host, 0))
            classes[key] = (first, count + 1)
        for host, count in classes.values():
            self._ask_all(host, count)
        return self.found

    def _ask_all(self, host: Host, destinations: int) -> None:
        named = self._named(host)
        bound = {port for _, _, port in self._bound(host)}
        addresses = self._addresses(named) if host.address is None else []
        touched: set[Hashable] = set()
        for request in requests_to(host, named, bound, self._is_read):
            touched |= self._ask(request, addresses)
        for key in touched:
            self.found.changes.groups[key].destinations += destinations

    def _ask(self, request: Request, addresses: list[Address]) -> set[Hashable]:
        verdict, touched = self._compare(request, None)
        # A denial stays one whatever else is asked, and a difference is told once.
        if touched or verdict is Verdict.DENY:
            return touched
        if request.method is not None:
            touched |= self._compare(replace(request, headers=(*request.headers, *OVERRIDE)), None)[1]
        if verdict is Verdict.ALLOW:
            for address in addresses:
                touched |= self._compare(request, address)[1]
        return touched

    def _compare(self, request: Request, address: Address | None) -> tuple[Verdict, set[Hashable]]:
        """The old policy's verdict, and the groups of the differences."""
        self.found.requests += 1
        addresses = () if address is None else (address,)
        old, new = (Answer(judge(request, side, addresses), side) for side in self.sides)
        touched: set[Hashable] = set()
        for kind in differences(old, new):
            self.found.changes.add(kind, old.source, new.source, request_text(request, address))
            touched.add((kind, old.source, new.source))
        return old.explanation.verdict, touched

    def _is_read(self, unread: Request) -> bool:
        """Whether either policy looks inside, to answer a request of which this much is known."""
        protocol = _BEFORE_UPGRADE.get(unread.protocol, unread.protocol)
        names = [side.policy.decide_name(replace(unread, protocol=protocol)) for side in self.sides]
        return any(name.certainty is not Certainty.NO and name.tls is not TlsMode.TUNNEL for name in names)

    def _named(self, host: Host) -> list[Named]:
        return [named for side in self.names for named in side.naming(host)]

    def _bound(self, host: Host) -> tuple[tuple[int, str, int], ...]:
        """Which secrets are bound to the destination, and on which port."""
        return tuple(
            (place, name, port)
            for place, side in enumerate(self.sides)
            for name, definition in side.secrets.items()
            for target in definition.hosts
            if is_bound((target,), host, port := _DEFAULT_PORT if target.port is None else target.port)
        )

    def _of_address(self, host: Host) -> Hashable:
        if host.address is None:
            return None
        named = self._named(host)
        opened = tuple(host.address in network for network in _opened(named))
        if any(opened) or any(isinstance(each.target.what, NetworkTarget) for each in named):
            return kind_of_address(host.address), opened
        # Of addresses that no rule names, a default opens those that are public.
        return classify(host.address).public

    def _addresses(self, named: list[Named]) -> list[Address]:
        """What a name could resolve to, one address of each kind; none where no range plays a part."""
        opened = _opened(named)
        if not opened and not self.held:
            return []

        def alike(address: Address) -> Hashable:
            holding = tuple(tuple(one.meaning for one in side.naming_address(address)) for side in self.names)
            inside = tuple(any(reading in network for reading in readings(address)) for network in opened)
            # Where no rule opens it, all that counts is whether it is public.
            return holding, inside, kind_of_address(address) if any(inside) else classify(address).public

        return one_of_each(edges({*opened, *self.held}), alike)


def _opened(named: list[Named]) -> list[Network]:
    return list(dict.fromkeys(network for each in named for network in each.rule.addresses))


def _hosts(sides: tuple[LoadedPolicy, ...]) -> Iterator[Host]:
    """The destinations that stand for all: each once."""
    seen: set[str] = set()
    for host in _all_hosts(sides):
        if host.text not in seen:
            seen.add(host.text)
            yield host


def _all_hosts(sides: tuple[LoadedPolicy, ...]) -> Iterator[Host]:
    yield Host(_NOWHERE)
    networks: set[Network] = set()
    rules = [rule for side in sides for scope in side.policy.scopes for rule in scope.rules]
    targets = [target for rule in rules for target in rule.targets]
    targets += [target for side in sides for secret in side.secrets.values() for target in secret.hosts]
    for rule in rules:
        networks.update(rule.addresses)
    for target in targets:
        match target.what:
            case HostTarget(name, exact, below):
                yield from _around(name, exact=exact, below=below)
            case NetworkTarget(network):
                networks.add(network)
    for address in edges(networks):
        own = unmap(address)
        yield Host(str(own), own)


def _around(name: str, *, exact: bool, below: bool) -> Iterator[Host]:
    """The name, and names one and two labels below it, as far as the target names them."""
    texts = [name] if exact else []
    texts += [f"below.{name}", f"two.below.{name}"] if below else []
    for text in texts:
        host = parse_host(text)
        if not isinstance(host, Refusal):
            yield host


def _frame(side: LoadedPolicy, names: Names) -> Hashable:
    """What counts for every destination: what scopes state, the secrets, and the ranges that no name may resolve to."""
    scopes = tuple(replace(scope, rules=()) for scope in side.policy.scopes)
    secrets = tuple(sorted(side.secrets.items()))
    return scopes, secrets, tuple(named.meaning for named in names.held)
