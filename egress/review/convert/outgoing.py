"""What every export asks of a policy: its rules in order, and which permissions may go out at all.

1. one scope       the formats know no scopes, so only the files of one scope are exported
2. no dropped `if` a condition that the other side cannot say is never dropped from an `allow`: the rule stays here
3. lost denials    a `deny` or `ask` that the other side cannot say takes every later `allow` with it that it overlaps
4. unneeded ones   a `deny` or `ask` that overlaps no later `allow` says what the default says
5. addresses       nobody else judges what names resolve to: what our own table refuses is said once; a denied range of
                   the public Internet is a loss that widens
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from egress.policy import AnyTarget, HostTarget, NetworkTarget, PortRange, Protocol, Verdict, classify
from egress.review.convert.loss import ConversionError, Effect, Losses
from egress.review.convert.overlap import overlap
from egress.review.rule_fields import conditions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from egress.config import LoadedPolicy
    from egress.policy import Network, Rule, ScopeRules, Target

_HTTP_PORTS: Final = frozenset({80, 443})
_KNOWN: Final = frozenset({"ports", "methods", "paths", "protocols"})


@dataclass(slots=True)
class Outgoing:
    """A policy on its way out.

    `keep_wider`: permissions go out without the conditions that cannot be said. `says_default`: the other side can
    allow by default; else it refuses what it does not name.
    """

    scope: ScopeRules
    losses: Losses
    keep_wider: bool = False
    says_default: bool = False
    _lost: list[Rule] = field(default_factory=list)

    @property
    def rules(self) -> Sequence[Rule]:
        """The rules in order."""
        return self.scope.rules

    @property
    def allows_the_rest(self) -> bool:
        """Whether what no rule names is allowed there as well."""
        return self.says_default and self.scope.default is Verdict.ALLOW

    def may_go(self, rule: Rule, reasons: Iterable[str]) -> bool:
        """Whether an `allow` goes out. `reasons` are what of it the other side cannot say."""
        said = ", ".join(reasons)
        if said:
            effect = Effect.WIDER if self.keep_wider else Effect.LEFT_OUT
            self.losses.of(rule, effect, f"the other side cannot say {said}")
            if not self.keep_wider:
                return False
        before = None if self.keep_wider else next((lost for lost in self._lost if overlap(lost, rule)), None)
        if before is not None:
            place = f"the `{before.verdict}` on line {before.line}"
            self.losses.of(rule, Effect.LEFT_OUT, f"{place} takes a part of it away, and cannot be said there")
        return before is None

    def names_of(self, rule: Rule) -> list[Target]:
        """The targets of an `allow` that a list of hosts can say: names, on the ports of HTTP. Notes the others.

        Where wider is fine, also names on other ports, and `**`.
        """
        found: list[Target] = []
        for target in rule.targets:
            why = _not_a_host(rule, target)
            if not why:
                found.append(target)
            elif self.keep_wider and not isinstance(target.what, NetworkTarget):
                self.losses.of(rule, Effect.WIDER, why)
                found.append(target)
            else:
                self.losses.of(rule, Effect.LEFT_OUT, why)
        return found

    def lose(self, rule: Rule, why: str) -> None:
        """Note a `deny` or `ask` that the other side cannot say."""
        if self.allows_the_rest:
            self.losses.of(rule, Effect.WIDER, f"this `{rule.verdict}` is lost: {why}")
        elif self.is_needed(rule):
            self.losses.of(
                rule, Effect.WIDER if self.keep_wider else Effect.NARROWER, f"{why}; what it overlaps is left out"
            )
            self._lost.append(rule)

    def is_needed(self, rule: Rule) -> bool:
        """Whether a `deny` or `ask` takes anything away from what follows it."""
        return self.allows_the_rest or any(overlap(rule, later) for later in self._after(rule))

    def judge_addresses(self, rule: Rule) -> None:
        """Note what becomes of a `deny` or `ask` of addresses where only names can be said."""
        networks = [target.what.network for target in rule.targets if isinstance(target.what, NetworkTarget)]
        for network in networks:
            if self.allows_the_rest:
                self.losses.of(rule, Effect.WIDER, f"{network} is refused here, and allowed there as all the rest is")
            elif not is_private(network):
                message = f"names that resolve into {network}, a range of the public Internet, are not refused there"
                self.losses.of(rule, Effect.WIDER, message)
        if networks:
            self.losses.add(Effect.OPEN, "the addresses that names resolve to are judged by nobody there")

    def _after(self, rule: Rule) -> list[Rule]:
        place = next(index for index, found in enumerate(self.rules) if found is rule)
        return [later for later in self.rules[place + 1 :] if later.verdict is Verdict.ALLOW]


def outgoing(loaded: LoadedPolicy, *, keep_wider: bool, says_default: bool = False) -> Outgoing:
    """The policy's one scope. Raises ConversionError where there are more."""
    scopes = loaded.policy.scopes
    if len(scopes) != 1:
        raise ConversionError("the formats know no scopes", hint="export the policies of one scope at a time")
    losses = Losses(str(loaded.files[0]) if loaded.files else "policy")
    found = Outgoing(scopes[0], losses, keep_wider, says_default)
    if scopes[0].default is Verdict.ASK:
        losses.add(Effect.NARROWER, "what no rule names is asked here and refused there")
    if scopes[0].default is Verdict.ALLOW and not says_default:
        losses.add(Effect.NARROWER, "what no rule names is allowed here and refused there")
    # INVARIANT: `report` lets pass what the rules refuse; the other side refuses it.
    if str(getattr(scopes[0], "mode", None) or "enforce") != "enforce":
        losses.add(Effect.NARROWER, "the scope only reports; the other side enforces its rules")
    return found


def names(rule: Rule) -> list[Target]:
    """The targets that are names."""
    return [target for target in rule.targets if isinstance(target.what, HostTarget)]


def has_any(rule: Rule) -> bool:
    """Whether `**` is among the targets."""
    return any(isinstance(target.what, AnyTarget) for target in rule.targets)


def is_private(network: Network) -> bool:
    """Whether nothing of a range is reached without a rule that names it, as `addresses` would."""
    if network.num_addresses == 1:
        return not classify(network.network_address).public
    return network.is_private or network.is_link_local or network.is_multicast or network.is_reserved


def ports_said(rule: Rule, target: Target) -> bool:
    """Whether the ports of an `allow` are at least those of HTTP, so that a host alone says no more than the rule."""
    if target.port is not None:
        return False
    return rule.ports is None or all(_holds(rule.ports, port) for port in _HTTP_PORTS)


def unsaid(rule: Rule, *, also: frozenset[str] = frozenset()) -> list[str]:
    """The conditions of an `allow` that a list of hosts cannot say. `also`: those that this format can."""
    found = [f"`{name}`" for name in sorted(conditions(rule) - _KNOWN)]
    found += [f"`{name}`" for name in ("methods", "paths") if getattr(rule, name) is not None and name not in also]
    if rule.protocols == frozenset({Protocol.DNS}):
        found.append("DNS questions")
    elif rule.protocols is not None and not {Protocol.HTTP, Protocol.HTTPS} <= rule.protocols:
        found.append("`protocol`")
    actions = ("inject", "swap", "strip_own", "remove", "rewrite", "sign", "limits")
    found += [f"`{name}`" for name in actions if getattr(rule, name) and name not in also]
    return found


def _not_a_host(rule: Rule, target: Target) -> str:
    """Why a list of hosts cannot say a target of an `allow`; empty text if it can."""
    match target.what:
        case NetworkTarget(network):
            return f"{network}: addresses and ranges cannot be said there"
        case AnyTarget():
            return "`**` is names only here; every destination, addresses too, there"
        case HostTarget(name):
            return "" if ports_said(rule, target) else f"{name}: the ports of this rule cannot be said there"


def _holds(ports: Sequence[PortRange], port: int) -> bool:
    return any(span.first <= port <= span.last for span in ports)


def patterns(target: Target) -> list[str]:
    """A name as exact names and `*.` patterns."""
    what = target.what
    if not isinstance(what, HostTarget):
        return []
    return ([what.name] if what.exact else []) + ([f"*.{what.name}"] if what.below else [])
