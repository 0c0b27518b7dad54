"""A second, naive reading of the law: linear, without index, bits or caches. The core is compared against it.

Written from the law alone: every rule is tried in turn, every target of it, and every condition in plain words.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from egress.policy import (
    AnyTarget,
    HostTarget,
    Mode,
    Protocol,
    Refusal,
    Request,
    Rule,
    Scope,
    ScopeRules,
    Target,
    Verdict,
    canonical_path,
    readings,
    unmap,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

# What a destination may turn out to carry.
_TOGETHER = (
    {Protocol.HTTP, Protocol.WS},
    {Protocol.HTTPS, Protocol.WSS, Protocol.GRPC},
    {Protocol.TCP},
    {Protocol.DNS},
)
SIBLINGS = {protocol: together for together in _TOGETHER for protocol in together}


def decide(scopes: Sequence[ScopeRules], request: Request) -> tuple[Verdict, int | None]:
    """The verdict, and the line of the rule that gave it (None: a default, or nothing was said)."""
    ordered = sorted(scopes, key=lambda own: list(Scope).index(own.scope))
    verdict, line = _strictest([_say(own, request) for own in ordered])
    if verdict is not Verdict.ALLOW:
        # A scope in report mode refuses nothing by itself.
        relaxed = [(Verdict.ALLOW, None) if own.mode is Mode.REPORT else _say(own, request) for own in ordered]
        verdict, at = _strictest(relaxed)
        line = line if verdict is Verdict.ALLOW else at
    return verdict, line


def _strictest(says: Sequence[tuple[Verdict, int | None] | None]) -> tuple[Verdict, int | None]:
    said = [say for say in says if say is not None]
    for verdict in (Verdict.DENY, Verdict.ASK, Verdict.ALLOW):
        lines = [line for says, line in said if says is verdict]
        if lines:
            stated = [line for line in lines if line is not None]
            return verdict, (stated[0] if verdict is Verdict.ALLOW and stated else lines[0])
    return Verdict.DENY, None


def _say(scope: ScopeRules, request: Request) -> tuple[Verdict, int | None] | None:
    for rule in scope.rules:
        if rule.until is not None and rule.until <= datetime.now(UTC):
            continue
        if any(_names(rule, target, request) and _conditions(rule, target, request) for target in rule.targets):
            return rule.verdict, rule.line
    return None if scope.default is None else (scope.default, None)


def _names(rule: Rule, target: Target, request: Request) -> bool:
    host, what, allows = request.host, target.what, rule.verdict is Verdict.ALLOW
    if isinstance(what, AnyTarget):
        return host.address is None or not allows
    if isinstance(what, HostTarget):
        below = host.text.endswith("." + what.name)
        return host.address is None and ((what.exact and host.text == what.name) or (what.below and below))
    if host.address is None:
        return False
    seen = [unmap(host.address)] if allows else readings(host.address)
    return any(address in what.network for address in seen)


def _conditions(rule: Rule, target: Target, request: Request) -> bool:
    allows = rule.verdict is Verdict.ALLOW
    named = [range(ports.first, ports.last + 1) for ports in rule.ports or ()]
    if target.port is not None:
        named = [range(target.port, target.port + 1)]
    if request.protocol is Protocol.DNS and rule.protocols is not None and Protocol.DNS in rule.protocols:
        # Questions that a rule names itself are met whatever its ports.
        named = [range(65536)]
    if not any(request.port in ports for ports in named or ([(80, 443)] if allows else [range(65536)])):
        return False
    protocols = SIBLINGS[request.protocol] if request.method is None else {request.protocol}
    covered = [_covers(rule, protocol, request.port, named=bool(named)) for protocol in protocols]
    if not (all(covered) if allows else any(covered)):
        return False
    if request.method is None:
        stated = (rule.methods, rule.paths, rule.inject, rule.remove, rule.query, rule.headers, rule.rewrite)
        return not allows or not any(stated)
    return _inside(rule, request.method, request)


def _inside(rule: Rule, method: str, request: Request) -> bool:
    allows = rule.verdict is Verdict.ALLOW
    methods = {method} if allows else {method, method.upper()}
    if rule.methods is not None and not methods & rule.methods:
        return False
    if not (_query(rule, request.query) and _headers(rule, request.headers)):
        return False
    if rule.paths is None:
        return True
    path = Refusal if request.path is None else canonical_path(request.path)
    if not isinstance(path, str):
        return not allows
    flags = re.IGNORECASE if rule.ignore_case else 0
    return any(_path(pattern, path, flags) for pattern in rule.paths)


def _query(rule: Rule, query: str | None) -> bool:
    """By the queries of the small world: what each is to an allow, and to a deny."""
    if rule.query is None:
        return True
    allows = rule.verdict is Verdict.ALLOW
    both = len(rule.query) > 1
    fits = {
        "a=1": not both,
        "a=10&b=": True,
        "a=1&a=2": not allows and not both,
        "A[]=1": not allows and not both,
        "a=%zz": not allows,
    }
    return fits.get(query or "", False)


def _headers(rule: Rule, headers: tuple[tuple[str, str], ...]) -> bool:
    for wanted, _ in rule.headers or ():
        names = [name for name, _ in headers if name.lower().replace("_", "-") == wanted.lower()]
        if not names or (rule.verdict is Verdict.ALLOW and "_" in names[0]):
            return False
    return True


def _covers(rule: Rule, protocol: Protocol, port: int, *, named: bool) -> bool:
    stated = rule.protocols
    # gRPC is HTTPS.
    holds = stated is None or protocol in stated or (protocol is Protocol.GRPC and Protocol.HTTPS in stated)
    if rule.verdict is not Verdict.ALLOW:
        inside = (rule.methods, rule.paths, rule.query, rule.headers)
        return holds and not (protocol is Protocol.DNS and stated is None and any(inside))
    if stated is not None:
        return holds and (named or protocol is not Protocol.TCP)
    clear = protocol in {Protocol.HTTP, Protocol.WS}
    websocket = protocol in {Protocol.WS, Protocol.WSS}
    return (
        protocol not in {Protocol.TCP, Protocol.DNS}
        and not (websocket and rule.methods)
        and not (clear and port == 443)
    )


def _path(pattern: str, path: str, flags: int = 0) -> bool:
    expression = re.escape(pattern).replace(r"/\*\*", "/.*").replace(r"/\*", "/[^/]+")
    return re.fullmatch(expression, path, flags) is not None
