"""Exports a policy as a Kubernetes NetworkPolicy (networking.k8s.io/v1): address ranges and TCP ports, nothing else.

1. names      cannot be said, so every rule about names is left out; what an agent needs by name goes through egress
2. ranges     an `allow` of ranges becomes an `ipBlock`; denied ranges inside it become its `except`
3. all denied the policy selects all pods of its namespace, so that what it does not name is refused (names to look up
              too: no DNS is opened)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from egress.policy import OVER_TLS, NetworkTarget, PortRange, Protocol, Verdict
from egress.review.convert.loss import Converted, Effect
from egress.review.convert.outgoing import has_any, outgoing, unsaid
from egress.review.convert.overlap import networks_meet, ports_of
from egress.review.yaml_text import text

if TYPE_CHECKING:
    from egress.config import LoadedPolicy
    from egress.policy import Network, Rule, Target
    from egress.review.convert.outgoing import Outgoing
    from egress.review.yaml_text import Plain

_CLEAR: Final = frozenset({Protocol.HTTP, Protocol.WS})


def to_network_policy(loaded: LoadedPolicy, *, keep_wider: bool = False) -> Converted:
    """The NetworkPolicy for a policy, and what of it could not be said."""
    out = outgoing(loaded, keep_wider=keep_wider)
    ranges = Ranges(out)
    blocks: list[Plain] = []
    for rule in out.rules:
        if rule.verdict is not Verdict.ALLOW:
            continue
        if any(not isinstance(target.what, NetworkTarget) for target in rule.targets):
            out.losses.of(rule, Effect.LEFT_OUT, "names cannot be said there")
        for target, network, denied in ranges.allowed(rule):
            block: dict[str, Plain] = {"cidr": str(network)}
            if denied:
                block["except"] = [str(inner) for inner in denied]
            blocks.append({"to": [{"ipBlock": block}], "ports": ports_there(rule, target)})
    if blocks:
        out.losses.add(Effect.OPEN, "an allowed port carries any TCP there, not HTTP alone")
    spec: dict[str, Plain] = {"podSelector": {}, "policyTypes": ["Egress"], "egress": blocks}
    policy: dict[str, Plain] = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "egress"},
        "spec": spec,
    }
    return Converted(text(policy), tuple(out.losses.found))


@dataclass(slots=True)
class Ranges:
    """The ranges that a policy allows, each with the denied ones inside it. A denied range is denied on every port."""

    out: Outgoing
    _denied: list[tuple[Rule, Network]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for rule in self.out.rules:
            for target in () if rule.verdict is Verdict.ALLOW else rule.targets:
                if isinstance(target.what, NetworkTarget):
                    self._denied.append((rule, target.what.network))

    def allowed(self, rule: Rule) -> list[tuple[Target, Network, list[Network]]]:
        """The ranges of an `allow` that go out, each with what it is without."""
        found = [target for target in rule.targets if isinstance(target.what, NetworkTarget)]
        if not found or not self.out.may_go(rule, unsaid_of_ranges(rule)) or self._is_under_any(rule):
            return []
        return [one for target in found if (one := self._one(rule, target)) is not None]

    def _one(self, rule: Rule, target: Target) -> tuple[Target, Network, list[Network]] | None:
        assert isinstance(target.what, NetworkTarget)  # noqa: S101 -- its caller keeps these alone
        network = target.what.network
        inside: list[Network] = []
        for deny, denied in self._denied:
            if not networks_meet(network, denied):
                continue
            if denied.version == network.version and network.subnet_of(denied):  # type: ignore[arg-type]
                self.out.losses.of(rule, Effect.LEFT_OUT, f"{network} is inside {denied}, denied on line {deny.line}")
                return None
            if deny.ports is not None or deny.protocols is not None:
                self.out.losses.of(deny, Effect.NARROWER, f"{denied} is refused there on every port")
            inside.append(denied)
        return target, network, list(dict.fromkeys(inside))

    def _is_under_any(self, rule: Rule) -> bool:
        """Whether a `deny` or `ask` of `**`, which names addresses too, stands before the rule."""
        for before in self.out.rules:
            if before is rule:
                return False
            if before.verdict is not Verdict.ALLOW and has_any(before):
                self.out.losses.of(rule, Effect.LEFT_OUT, f"`**` is denied before it, on line {before.line}")
                return True
        return False


def unsaid_of_ranges(rule: Rule) -> list[str]:
    """The conditions of an `allow` that ranges and ports cannot say."""
    return [reason for reason in unsaid(rule) if reason != "`protocol`"]


def spans_of(rule: Rule, target: Target) -> tuple[PortRange, ...]:
    """The ports of an `allow`; those of its protocols alone where it names protocols and no ports."""
    stated = target.port is not None or rule.ports is not None
    if stated or rule.protocols is None or (rule.protocols & _CLEAR and rule.protocols & OVER_TLS):
        return ports_of(rule, target)
    port = 80 if rule.protocols & _CLEAR else 443
    return (PortRange(port, port),)


def ports_there(rule: Rule, target: Target) -> list[Plain]:
    """The ports of a rule as Kubernetes writes them: one, or a range to `endPort`."""
    found: list[Plain] = []
    for span in spans_of(rule, target):
        port: dict[str, Plain] = {"protocol": "TCP", "port": span.first}
        if span.last != span.first:
            port["endPort"] = span.last
        found.append(port)
    return found
