"""Where an allowed request goes instead of where it was asked for: scheme, host, port and the beginning of its path.

1. What a rewrite does not state stays as it was asked; but a scheme that it states brings its own port.
2. A WebSocket stays one. gRPC stays gRPC, so it never goes in the clear: HTTP/2 is spoken inside TLS only.
3. A path is moved only if it can be read in one way, segment by segment, and what comes out is below the new prefix.
   What cannot be moved is refused: no request goes where its rule does not send it.
4. Over scopes, rewrites are merged word by word, the higher scope first.

A rewritten request is judged again as what it has become, once: a rewrite of that second decision is not followed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from egress.policy.own_credentials import removed
from egress.policy.paths import canonical_path
from egress.policy.reasons import Reason
from egress.policy.unreadable import agreed
from egress.policy.values import Injection, PathPrefix, Refusal, Rewrite
from egress.policy.vocabulary import Protocol, Scheme, Scope, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from egress.policy.decision import Decision
    from egress.policy.request import Request
    from egress.policy.values import Rule

_RANK: Final = {scope: rank for rank, scope in enumerate(Scope)}
_PORTS: Final = {Scheme.HTTP: 80, Scheme.HTTPS: 443}
_PROTOCOLS: Final = {
    Scheme.HTTP: {
        Protocol.HTTP: Protocol.HTTP,
        Protocol.HTTPS: Protocol.HTTP,
        Protocol.WS: Protocol.WS,
        Protocol.WSS: Protocol.WS,
    },
    Scheme.HTTPS: {
        Protocol.HTTP: Protocol.HTTPS,
        Protocol.HTTPS: Protocol.HTTPS,
        Protocol.WS: Protocol.WSS,
        Protocol.WSS: Protocol.WSS,
        Protocol.GRPC: Protocol.GRPC,
    },
}
_UNSEEN: Final = Refusal(Reason.PROTOCOL_NOT_ALLOWED, "The rule rewrites requests, and what a tunnel carries is none.")
_IN_THE_CLEAR: Final = Refusal(
    Reason.PROTOCOL_NOT_ALLOWED, "The rule rewrites to `http`, and gRPC needs HTTP/2, which is spoken inside TLS only."
)
_ESCAPED: Final = Refusal(Reason.PATH_AMBIGUOUS, "the rewritten path would not be below its prefix")


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What goes up, and the decision that it goes up under, or is refused by."""

    request: Request
    decision: Decision


def rewritten(request: Request, rewrite: Rewrite) -> Request | Refusal:
    """The request as it goes up, or why it cannot be rewritten. Query, method and headers stay as they are."""
    if request.method is None:
        return _UNSEEN
    protocol: Protocol | None = request.protocol
    if rewrite.scheme is not None:
        protocol = _PROTOCOLS[rewrite.scheme].get(request.protocol)
    if protocol is None:
        return _IN_THE_CLEAR
    path = request.path if rewrite.path is None else _moved(request.path or "/", rewrite.path)
    if isinstance(path, Refusal):
        return path
    return replace(
        request, protocol=protocol, host=rewrite.host or request.host, port=_port(request, rewrite), path=path
    )


def merged(rewrites: Sequence[Rewrite]) -> Rewrite | None:
    """One rewrite of several, highest scope first: of each word, the first that is stated."""
    if len(rewrites) < 2:  # noqa: PLR2004 -- nothing to merge
        return rewrites[0] if rewrites else None
    return Rewrite(
        next((each.scheme for each in rewrites if each.scheme is not None), None),
        next((each.host for each in rewrites if each.host is not None), None),
        next((each.port for each in rewrites if each.port is not None), None),
        next((each.path for each in rewrites if each.path is not None), None),
    )


def united(asked: Decision, sent: Decision) -> Decision:
    """The decision that a rewritten request goes up under: `sent`, with what both say of headers, labels and limits.

    Of a conflict the higher scope wins, and of one scope's rules the one for where the request goes. What passes only
    because a scope reports gets no headers, as everywhere.
    """
    if asked.limits:
        keys = {key for key, _ in sent.limits}
        sent = replace(sent, limits=(*sent.limits, *[each for each in asked.limits if each[0] not in keys]))
    if Reason.WOULD_DENY in (asked.reason, sent.reason):
        told = sent if sent.reason is Reason.WOULD_DENY else asked
        bare = replace(sent, inject=(), remove=(), swap=(), sign=None)
        return replace(bare, reason=told.reason, detail=told.detail, rule=told.rule)
    if asked.swap:
        sent = replace(sent, swap=tuple(dict.fromkeys((*sent.swap, *asked.swap))))
    if not (asked.inject or asked.remove or asked.labels or asked.sign or asked.scrub):
        return sent
    rules = [rule for _, _, rule in sorted([*_ranked(sent, 0), *_ranked(asked, 1)], key=lambda each: each[:2])]
    inject: dict[str, Injection] = {}
    remove: dict[str, str] = {}
    labels: dict[str, str] = {}
    for rule in rules:
        for injection in rule.inject:
            inject.setdefault(injection.header.lower(), injection)
        for header in removed(rule):
            remove.setdefault(header.lower(), header)
        for name, value in rule.annotate:
            labels.setdefault(name, value)
    return replace(
        sent,
        inject=tuple(inject.values()),
        remove=tuple(remove.values()),
        labels=tuple(labels.items()),
        sign=next((rule.sign for rule in rules if rule.sign is not None), None),
        scrub=agreed(rules),
    )


def _ranked(decision: Decision, turn: int) -> Iterator[tuple[int, int, Rule]]:
    """The rules that allowed, each with the rank of its scope."""
    rules = iter(decision.rules)
    for say in decision.says:
        if say.verdict is Verdict.ALLOW and say.rule is not None:
            rule = next(rules, None)
            if rule is not None:
                yield _RANK[say.scope], turn, rule


def _port(request: Request, rewrite: Rewrite) -> int:
    if rewrite.port is not None:
        return rewrite.port
    return request.port if rewrite.scheme is None else _PORTS[rewrite.scheme]


def _moved(path: str, prefix: PathPrefix) -> str | Refusal:
    """The path with its prefix replaced. What follows the prefix stays as it was sent."""
    canonical = canonical_path(path)
    if isinstance(canonical, Refusal):
        return canonical
    # No encoded slash is left, so the path has as many segments as sent as it has decoded.
    depth = prefix.old.count("/")
    if canonical.split("/")[1 : depth + 1] != prefix.old.split("/")[1:]:
        return Refusal(Reason.PATH_NOT_ALLOWED, f"The rule rewrites paths below `{prefix.old}` only.")
    rest = path.split("/")[depth + 1 :]
    moved = "/".join([prefix.new, *rest]) or "/"
    reread = canonical_path(moved)
    if isinstance(reread, Refusal):
        return reread
    return moved if reread == prefix.new or reread.startswith(f"{prefix.new}/") else _ESCAPED
