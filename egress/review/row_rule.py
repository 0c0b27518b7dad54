"""The narrowest rule that would have allowed a recorded request: its host, its port, its method and its path alone.

What the audit holds came from the sandbox. So each value is read here as the proxy reads it from the wire, and what
cannot be read one way only is refused, rather than written into a policy.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from egress.errors import EgressError
from egress.policy import PathPattern, Protocol, Refusal, Verdict, canonical_path, compile_path, parse_host
from egress.review.edit import NewRule

if TYPE_CHECKING:
    from collections.abc import Mapping

_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Z-]{1,100}\Z")
# Who asks for one of these is about to connect; all else is asked for its own sake.
_ABOUT_TO_CONNECT: Final = frozenset({"A", "AAAA", "HTTPS", "SVCB"})
# What a rule that states methods allows only if it names it, or what is better named than not.
_TO_NAME: Final = frozenset({Protocol.WS, Protocol.WSS, Protocol.GRPC})


def rule_for(row: Mapping[str, str | int | None], verdict: Verdict) -> NewRule:
    """The rule for a row of the audit (`host`, `port`, `protocol`, `method`, `path`). Raises EgressError.

    A row that never came to a request (a CONNECT that was refused) has no method and no path: then the rule has none.
    """
    host = parse_host(str(row.get("host") or ""))
    port = row.get("port")
    if isinstance(host, Refusal) or not isinstance(port, int):
        raise _unfit("this row of the audit names no host and port that could be reached")
    protocol = Protocol(str(row["protocol"])) if row.get("protocol") in set(Protocol) else None
    rule = NewRule(verdict, (host.text,), ports=(str(port),))
    if protocol is Protocol.DNS:
        if verdict is Verdict.ALLOW and row.get("method") in _ABOUT_TO_CONNECT:
            # A name is answered where something could be reached by it.
            return NewRule(verdict, rule.targets)
        return NewRule(verdict, rule.targets, protocol=("dns",))
    if protocol is Protocol.TCP:
        return NewRule(verdict, rule.targets, ports=rule.ports, protocol=("tcp",))
    if verdict is Verdict.DENY:
        return rule
    return NewRule(
        verdict,
        rule.targets,
        ports=rule.ports,
        # A rule that states methods allows no WebSocket, unless it says so.
        protocol=(protocol.value,) if protocol in _TO_NAME and protocol is not None else (),
        methods=_methods(row.get("method")),
        paths=_paths(row.get("path")),
    )


def widenings(rule: NewRule) -> tuple[NewRule, ...]:
    """The rule, then rules that hold for more and more: what is beside its path, any path, any method."""
    found = [rule]
    if len(rule.paths) == 1:
        folder = rule.paths[0].rpartition("/")[0]
        pattern = f"{folder}/**"
        if folder and isinstance(compile_path(pattern), PathPattern):
            found.append(replace(rule, paths=(pattern,)))
    if rule.paths:
        found.append(replace(rule, paths=()))
    if rule.methods:
        found.append(replace(rule, paths=(), methods=()))
    return tuple(found)


def _methods(method: str | int | None) -> tuple[str, ...]:
    if method is None or method == "CONNECT":
        return ()
    if not isinstance(method, str) or not _METHOD.match(method):
        raise _unfit("this row's method is none that a rule can name")
    return (method,)


def _paths(path: str | int | None) -> tuple[str, ...]:
    if path is None:
        return ()
    pattern = compile_path(str(path))
    if isinstance(canonical_path(str(path)), Refusal) or not isinstance(pattern, PathPattern) or pattern.exact is None:
        raise _unfit("this row's path can be read in more than one way, or was cut, so no rule can name it")
    return (str(path),)


def _unfit(message: str) -> EgressError:
    return EgressError(message, hint="look at the row with `egress audit --json`, and name the target yourself")
