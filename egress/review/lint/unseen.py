"""Conditions that do not hold as written.

Inside a tunnel, against a host that ignores case, past their time, of what nothing carries, or of more than is meant.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from egress.policy import AnyTarget, HostTarget, Protocol, TlsMode, Verdict
from egress.review.lint import terms
from egress.review.lint.findings import Code, Finding, of_rule
from egress.review.lint.region import BIT, EVERY, known_region
from egress.review.lint.services import ignores_case, some_ignore_case
from egress.review.lint.wording import some

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from egress.policy import Rule, ScopeRules, Target

# How long before its end a rule is told.
SOON: Final = timedelta(days=7)

_OVER_TLS = BIT[Protocol.HTTPS] | BIT[Protocol.WSS] | BIT[Protocol.GRPC]


def find_in_tunnels(scope: ScopeRules) -> Iterator[Finding]:
    """Conditions and changes that a tunnel hides. The loader tells those of one file; this, those of a whole scope."""
    for rule in scope.rules:
        mode = rule.tls if rule.tls is not None else scope.tls
        keys = _inside(rule)
        if mode is not TlsMode.TUNNEL or not keys or not _may_be_tls(rule):
            continue
        named = ", ".join(f"`{key}`" for key in keys)
        if rule.verdict is Verdict.ALLOW:
            message = f"`tls: tunnel` of the rule or its scope carries TLS unread, so {named} can never apply to it"
            yield of_rule(Code.CONDITION_IN_TUNNEL, rule, message, "add `tls: inspect` to the rule")
        else:
            message = f"`tls: tunnel` of the scope carries TLS unread, so there this holds whatever the {named}"
            yield of_rule(
                Code.REFUSAL_IN_TUNNEL, rule, message, "add `tls: inspect` to the rules that allow these hosts"
            )


def find_case(scope: ScopeRules) -> Iterator[Finding]:
    """Paths that are compared exactly, of hosts that do not."""
    for rule in scope.rules:
        if rule.paths is None or terms.ignores_case(rule) or not any(map(_has_case, rule.paths)):
            continue
        hosts = [target for target in rule.targets if _ignores_case(target, rule.verdict)]
        if not hosts:
            continue
        if rule.verdict is Verdict.ALLOW:
            message = f"{some(hosts)} ignores upper and lower case in paths, and this rule does not"
            yield of_rule(Code.CASE_STRICTER_THAN_HOST, rule, message, "add `ignore_case: true` if clients differ")
        else:
            message = (
                f"{some(hosts)} ignores upper and lower case in paths: another spelling passes this {rule.verdict}"
            )
            yield of_rule(Code.CASE_IGNORED_BY_HOST, rule, message, "add `ignore_case: true`")


def find_expired(scope: ScopeRules, now: datetime) -> Iterator[Finding]:
    """Rules that match nothing any more, or will not for long."""
    for rule in scope.rules:
        until = terms.until(rule)
        if until is not None and until <= now:
            message = f"this rule has matched nothing since {until.isoformat()}"
            yield of_rule(Code.EXPIRED, rule, message, "remove it, or write a later `until`")
        elif until is not None and until - now <= SOON:
            message = f"this rule matches nothing from {until.isoformat()} on"
            yield of_rule(Code.EXPIRES_SOON, rule, message, "write a later `until` if it is needed for longer")


def find_questions(scope: ScopeRules) -> Iterator[Finding]:
    """Rules that allow questions of every type for all names below another: each is a message to whoever serves it."""
    for rule in scope.rules:
        if rule.verdict is not Verdict.ALLOW or Protocol.DNS not in (rule.protocols or ()):
            continue
        wide = [target for target in rule.targets if isinstance(target.what, AnyTarget) or _is_below(target)]
        if wide:
            message = f"questions of every type for names below {some(wide)} carry what is put into the names out"
            hint = "name the hosts whose records are needed; addresses are answered without `dns`"
            yield of_rule(Code.DNS_BELOW, rule, message, hint)


def find_bodies(scope: ScopeRules) -> Iterator[Finding]:
    """Refusals of bodies that hold for whatever else the host takes: what cannot be judged is refused."""
    for rule in scope.rules:
        keys = [key for key in ("mcp", "graphql") if getattr(rule, key) is not None]
        if rule.verdict is not Verdict.ALLOW and keys and rule.paths is None:
            message = (
                f"without `paths` this {rule.verdict} holds every body for the host until it is judged, and refuses"
            )
            message += f" each request whose body is none of `{keys[0]}`, as that of a GET or an upload"
            yield of_rule(Code.BODIES_OF_WHOLE_HOST, rule, message, "add the `paths` that take such bodies")


def _inside(rule: Rule) -> list[str]:
    stated = {
        "methods": rule.methods is not None,
        "paths": rule.paths is not None,
        "query": terms.query(rule) is not None,
        "headers": terms.headers(rule) is not None,
        "mcp": rule.mcp is not None,
        "graphql": rule.graphql is not None,
        "inject": bool(rule.inject),
        "swap": bool(rule.swap),
        "strip_own": rule.strip_own,
        "remove": bool(rule.remove),
        "rewrite": rule.rewrite is not None,
        "sign": rule.sign is not None,
        "scrub": rule.scrub is not None,
        "http2": rule.http2,
    }
    return [key for key, holds in stated.items() if holds]


def _may_be_tls(rule: Rule) -> bool:
    ports = {target.port for target in rule.targets}
    return any(bits & _OVER_TLS for port in ports for _, _, bits in known_region(rule, port) if bits & EVERY)


def _has_case(path: str) -> bool:
    return path.lower() != path.upper()


def _is_below(target: Target) -> bool:
    return isinstance(target.what, HostTarget) and target.what.below


def _ignores_case(target: Target, verdict: Verdict) -> bool:
    """Whether the host is one that ignores case; of a deny's or ask's wildcard, whether one of its hosts is."""
    match target.what:
        case HostTarget(name, exact, below):
            known = (exact and ignores_case(name)) or (below and ignores_case(f"any.{name}"))
            return known or (below and verdict is not Verdict.ALLOW and some_ignore_case(name))
        case AnyTarget():
            return verdict is not Verdict.ALLOW
        case _:
            return False
