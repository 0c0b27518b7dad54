"""Permissions wider than meant: shared hosting, wide ranges, wildcards without their apex, raw TCP where HTTP is meant.

`**` in an allow and `default: allow` are told by the loader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from egress.policy import HostTarget, NetworkTarget, Protocol, Verdict, classify
from egress.review.lint.findings import Code, Finding, of_rule
from egress.review.lint.places import parents
from egress.review.lint.region import BIT, intersect, known_region
from egress.review.lint.services import is_shared
from egress.review.lint.wording import some

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.policy import Network, Rule, ScopeRules

# A prefix shorter than the first is wide whatever it holds, one shorter than the second if it is public.
_WIDE: Final = {4: (8, 16), 6: (16, 32)}
_HTTP_PORTS: Final = tuple((port, port, BIT[Protocol.TCP]) for port in (80, 443, 8080, 8443))


def find_breadth(scope: ScopeRules) -> Iterator[Finding]:
    """What there is to say of the targets of a scope's rules."""
    exact, below = _named(scope)
    for rule in scope.rules:
        if rule.verdict is Verdict.ALLOW:
            yield from _shared(rule)
            yield from _wide(rule)
            yield from _tcp(rule)
        yield from _apexes(rule, exact, below)


def _shared(rule: Rule) -> Iterator[Finding]:
    found = [t for t in rule.targets if isinstance(t.what, HostTarget) and t.what.below and is_shared(t.what.name)]
    if found:
        message = f"anyone can get a host that {some(found)} names"
        yield of_rule(Code.SHARED_HOSTING, rule, message, "name your own hosts there, each by its full name")


def _wide(rule: Rule) -> Iterator[Finding]:
    wide = [t for t in rule.targets if isinstance(t.what, NetworkTarget) and _is_wide(t.what.network)]
    if wide:
        message = f"{some(wide)} is a very wide range, of which others hold a part"
        yield of_rule(Code.WIDE_RANGE, rule, message, "name the ranges that are yours, or hosts by name")
    ranges = [network for network in rule.addresses if _is_wide(network)]
    if ranges:
        message = f"`addresses` names the very wide range `{ranges[0]}`"
        yield of_rule(Code.WIDE_RANGE, rule, message, "name the ranges in which the hosts are")


def _is_wide(network: Network) -> bool:
    any_, public = _WIDE[network.version]
    if network.prefixlen < any_:
        return True
    return network.prefixlen < public and classify(network.network_address).public


def _tcp(rule: Rule) -> Iterator[Finding]:
    if rule.protocols is None or Protocol.TCP not in rule.protocols:
        return
    ports = {target.port for target in rule.targets}
    if any(intersect(known_region(rule, port), _HTTP_PORTS) for port in ports):
        message = "raw TCP on a port of HTTP is carried unread: neither TLS names, methods nor paths are looked at"
        yield of_rule(
            Code.TCP_ON_HTTP_PORT, rule, message, "write `protocol: https`, or name the ports that are needed"
        )


def _named(scope: ScopeRules) -> tuple[frozenset[str], frozenset[str]]:
    """The names that targets of the scope name themselves, and those below which they name all."""
    hosts = [target.what for rule in scope.rules for target in rule.targets if isinstance(target.what, HostTarget)]
    return frozenset(host.name for host in hosts if host.exact), frozenset(host.name for host in hosts if host.below)


def _apexes(rule: Rule, exact: frozenset[str], below: frozenset[str]) -> Iterator[Finding]:
    found = [
        target
        for target in rule.targets
        if isinstance(target.what, HostTarget)
        and target.what.below
        and target.what.name not in exact
        and not any(parent in below for parent in parents(target.what.name))
    ]
    if found:
        what = found[0].what
        name = what.name if isinstance(what, HostTarget) else ""
        message = f"{some(found)} does not name the host above, `{name}`"
        message = f"{some(found)} name what is below a host, and no rule the host itself" if len(found) > 1 else message
        hint = f"write `.{name}` for the host and what is below, or name `{name}` in a rule of its own"
        yield of_rule(Code.APEX_NOT_COVERED, rule, message, hint)
