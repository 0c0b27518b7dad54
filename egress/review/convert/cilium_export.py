"""Exports a policy as a CiliumNetworkPolicy (cilium.io/v2): names, ranges, ports, and HTTP rules where it is in clear.

The shape follows "DNS based" and "Layer 7 Policies" of Cilium's documentation.

1. names      `toFQDNs`; `*` stands for one label there, so a wildcard goes out as patterns of one, two and three labels
2. denials    there are none of names, so each `allow` that a `deny` or `ask` before it overlaps is left out; denied
              ranges become `egressDeny`, which holds whatever is allowed
3. HTTP       methods and paths become `rules.http`; inside TLS they cannot be seen there, so such a rule refuses TLS
4. DNS        only the allowed names may be looked up, at the cluster's own DNS
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from egress.policy import HostTarget, NetworkTarget, Protocol, Verdict
from egress.review.convert.kubernetes_export import Ranges, spans_of, unsaid_of_ranges
from egress.review.convert.loss import Converted, Effect
from egress.review.convert.outgoing import has_any, outgoing
from egress.review.rule_fields import conditions
from egress.review.yaml_text import text

if TYPE_CHECKING:
    from egress.config import LoadedPolicy
    from egress.policy import Rule, Target
    from egress.review.convert.outgoing import Outgoing
    from egress.review.yaml_text import Plain

_LEVELS: Final = 3
_DNS_ENDPOINT: Final = {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s:k8s-app": "kube-dns"}


def to_cilium(loaded: LoadedPolicy, *, keep_wider: bool = False) -> Converted:
    """The CiliumNetworkPolicy for a policy, and what of it could not be said."""
    out = outgoing(loaded, keep_wider=keep_wider)
    writer = _Writer(out, Ranges(out))
    for rule in out.rules:
        if rule.verdict is Verdict.ALLOW:
            writer.allow(rule)
        else:
            writer.refuse(rule)
    if writer.egress:
        out.losses.add(Effect.OPEN, "an allowed port carries any TCP there, not HTTP alone")
    spec: dict[str, Plain] = {"endpointSelector": {}, "egress": [*writer.dns(), *writer.egress] or [{}]}
    if writer.denied:
        spec["egressDeny"] = [{"toCIDR": writer.denied}]
    policy: dict[str, Plain] = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "egress"},
        "spec": spec,
    }
    return Converted(text(policy), tuple(out.losses.found))


@dataclass(slots=True)
class _Writer:
    out: Outgoing
    ranges: Ranges
    egress: list[Plain] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)
    names: list[Plain] = field(default_factory=list)

    def allow(self, rule: Rule) -> None:
        """The names of an `allow`, then its ranges."""
        losses = self.out.losses
        hosts = [target for target in rule.targets if isinstance(target.what, HostTarget)]
        if has_any(rule):
            losses.of(rule, Effect.LEFT_OUT, "`**` cannot be said there without addresses")
        rules = _http_rules(rule)
        unsaid = [reason for reason in unsaid_of_ranges(rule) if reason not in {"`methods`", "`paths`"}]
        if rules is None:
            unsaid.append("`paths`")
        if hosts and self.out.may_go(rule, unsaid):
            self._note(rule, http=bool(rules))
            for target in hosts:
                self._names(rule, target, rules or [])
        for target, network, _ in self.ranges.allowed(rule):
            self.egress.append({"toCIDR": [str(network)], "toPorts": _ports(rule, target, [])})

    def refuse(self, rule: Rule) -> None:
        """A `deny` or `ask`: its ranges hold there, its names are lost."""
        for target in rule.targets:
            if isinstance(target.what, NetworkTarget) and str(target.what.network) not in self.denied:
                self.denied.append(str(target.what.network))
                if conditions(rule) or target.port is not None:
                    self.out.losses.of(rule, Effect.NARROWER, f"{target.what.network} is refused there whole")
        if any(not isinstance(target.what, NetworkTarget) for target in rule.targets):
            self.out.lose(rule, "names cannot be denied there")

    def dns(self) -> list[Plain]:
        """The rule that lets the allowed names be looked up, without which `toFQDNs` learns no address."""
        if not self.names:
            return []
        ports: list[Plain] = [{"port": "53", "protocol": "ANY"}]
        to_ports: list[Plain] = [{"ports": ports, "rules": {"dns": self.names}}]
        return [{"toEndpoints": [{"matchLabels": _DNS_ENDPOINT}], "toPorts": to_ports}]

    def _names(self, rule: Rule, target: Target, rules: list[Plain]) -> None:
        what = target.what
        assert isinstance(what, HostTarget)  # noqa: S101 -- its caller keeps these alone
        found: list[Plain] = [{"matchName": what.name}] if what.exact else []
        if what.below:
            patterns = [f"{'*.' * level}{what.name}" for level in range(1, _LEVELS + 1)]
            found += [{"matchPattern": pattern} for pattern in patterns]
            message = f"*.{what.name} became {', '.join(patterns)}; deeper names are refused"
            self.out.losses.of(rule, Effect.NARROWER, message)
        self.names += [name for name in found if name not in self.names]
        self.egress.append({"toFQDNs": found, "toPorts": _ports(rule, target, rules)})

    def _note(self, rule: Rule, *, http: bool) -> None:
        if http:
            message = "`methods` and `paths` are seen there in cleartext only; over TLS the rule refuses"
            self.out.losses.of(rule, Effect.NARROWER, message)
        if http and rule.paths is not None:
            self.out.losses.of(
                rule, Effect.OPEN, "paths are compared as sent there: what `..` means is up to the server"
            )


def _ports(rule: Rule, target: Target, rules: list[Plain]) -> list[Plain]:
    ports: list[Plain] = []
    for span in spans_of(rule, target):
        port: dict[str, Plain] = {"port": str(span.first), "protocol": "TCP"}
        if span.last != span.first:
            port["endPort"] = span.last
        ports.append(port)
    found: dict[str, Plain] = {"ports": ports}
    if rules:
        found["rules"] = {"http": rules}
    return [found]


def _http_rules(rule: Rule) -> list[Plain] | None:
    """`rules.http` for methods and paths; `[]` for a rule without either, None where they cannot be said."""
    if rule.methods is None and rule.paths is None:
        return []
    if rule.protocols is not None and Protocol.TCP in rule.protocols:
        return None
    methods = [None] if rule.methods is None else sorted(rule.methods)
    paths = [None] if rule.paths is None else [_regex(path) for path in rule.paths]
    return [
        {key: value for key, value in (("method", method), ("path", path)) if value is not None}
        for path in paths
        for method in methods
    ]


def _regex(pattern: str) -> str:
    """The path pattern as a regular expression of a whole path, in which a query may follow."""
    parts = ["[^/?]+" if part == "*" else ".*" if part == "**" else re.escape(part) for part in pattern[1:].split("/")]
    return f"/{'/'.join(parts)}(\\?.*)?"
