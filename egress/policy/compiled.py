"""Rules as the core asks them: everything worked out that does not depend on the request.

A rule is compiled once, however many targets it has; the index holds an `Entry` for its targets on each port.
"""

from __future__ import annotations

from functools import lru_cache
from string import ascii_lowercase, ascii_uppercase
from typing import TYPE_CHECKING, Final

from egress.policy.bodies import BodyConditions
from egress.policy.decision import RuleRef, Say
from egress.policy.own_credentials import removed
from egress.policy.parameters import Values
from egress.policy.paths import PathPattern, PathSet, compile_path
from egress.policy.protocol_bits import BIT, CLEAR, DNS, EVERY, GRPC, HTTP, TCP, WEBSOCKET
from egress.policy.reasons import Reason
from egress.policy.vocabulary import Mode, Protocol, TlsMode, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.policy.conditions import Fit
    from egress.policy.decision import Decision
    from egress.policy.values import Rule, RuleLimits, ScopeRules

type Ports = tuple[tuple[int, int], ...]

DEFAULT_PORTS: Final[Ports] = ((443, 443), (80, 80))
_FEW: Final = 64
_LOWER: Final = str.maketrans(ascii_uppercase, ascii_lowercase)

REASON_OF_VERDICT: Final = {
    Verdict.ALLOW: Reason.RULE_ALLOW,
    Verdict.ASK: Reason.APPROVAL_REQUIRED,
    Verdict.DENY: Reason.RULE_DENY,
}


# What a scope may say, as bits of a set.
SAYS_NOTHING, SAYS_ALLOW, SAYS_ASK, SAYS_DENY = 1, 2, 4, 8
SAYING: Final = {None: SAYS_NOTHING, Verdict.ALLOW: SAYS_ALLOW, Verdict.ASK: SAYS_ASK, Verdict.DENY: SAYS_DENY}


class CompiledRule:
    """A rule with everything worked out that does not depend on the request. `scope` is an index, 0 the highest."""

    __slots__ = (
        "allows",
        "body",
        "conditional",
        "doubt_say",
        "expires",
        "headers",
        "http2",
        "inside",
        "limits",
        "looks_further",
        "methods",
        "miss_says",
        "names_ports",
        "needs_inside",
        "paths",
        "ports",
        "protocols",
        "protocols_on_https_port",
        "query",
        "ref",
        "remove",
        "rule",
        "say",
        "saying",
        "scope",
        "sole",
        "tls",
        "verdict",
    )

    def __init__(self, rule: Rule, own: ScopeRules, scope_index: int) -> None:
        verdict = rule.verdict
        scope = own.scope
        self.rule = rule
        self.scope = scope_index
        self.verdict = verdict
        self.allows = verdict is Verdict.ALLOW
        self.ref = RuleRef(scope, rule.file, rule.line, rule.name, rule.annotate)
        # What a scope in report mode refuses passes, unless another scope refuses it.
        self.saying = SAYS_ALLOW if own.mode is Mode.REPORT else SAYING[verdict]
        if own.narrows and self.saying == SAYS_ALLOW:
            self.saying = SAYS_NOTHING
        self.say = Say(scope, verdict, REASON_OF_VERDICT[verdict], self.ref)
        # The decision where this rule alone spoke, once it was made: [request known, opaque].
        self.sole: list[Decision | None] = [None, None]
        # What the scope says where this rule came closest, for each condition that failed.
        self.miss_says: dict[Fit, Say] = {}
        # With the key under which they are counted; the index gives it.
        self.limits: tuple[str, RuleLimits] | None = None
        self.doubt_say = Say(scope, verdict, Reason.PATH_AMBIGUOUS, self.ref)
        self.methods = rule.methods
        self.paths = None
        if rule.paths is not None:
            self.paths = _path_set(rule.paths, allows=self.allows, ignore_case=rule.ignore_case)
        self.query = None if rule.query is None else Values(rule.query, allows=self.allows, headers=False)
        self.headers = None if rule.headers is None else Values(rule.headers, allows=self.allows, headers=True)
        asks_body = rule.mcp is not None or rule.graphql is not None
        self.body = BodyConditions(rule.mcp, rule.graphql, allows=self.allows) if asks_body else None
        # Seconds since 1970. Asked last, so that an expired rule says what it would have allowed.
        self.expires = None if rule.until is None else rule.until.timestamp()
        self.looks_further = self.query is not None or self.headers is not None or asks_body
        # Whether the name alone cannot tell that it matches.
        self.inside = rule.methods is not None or rule.paths is not None or self.looks_further
        self.conditional = self.inside or self.expires is not None
        self.remove = removed(rule)
        changes = bool(rule.inject or self.remove or rule.swap) or rule.rewrite is not None or rule.sign is not None
        self.needs_inside = self.inside or changes
        # Whether clients that offer HTTP/2 get it: gRPC is spoken over nothing else.
        self.http2 = rule.http2 or (rule.protocols is not None and Protocol.GRPC in rule.protocols)
        self.names_ports = rule.ports is not None
        self.ports = _ports(rule)
        self.protocols = _protocols(rule)
        # Cleartext on the port of https is a mix-up, or one server's rule used to reach another: it must be stated.
        guarded = self.allows and rule.protocols is None
        self.protocols_on_https_port = self.protocols & ~CLEAR if guarded else self.protocols
        stated = rule.tls if rule.tls is not None else own.tls
        self.tls = TlsMode.INSPECT if stated is None else stated


class Entry:
    """The targets of one rule on one port, in the index. `order` is the place among all, highest scope first.

    `few_ports` are its ports one by one, None where they are too many; `ports` None: every port. `served` are the
    protocols that it may speak of, as bits.
    """

    __slots__ = ("few_ports", "order", "ports", "protocols", "protocols_on_https_port", "rule")

    def __init__(self, order: int, rule: CompiledRule, ports: Ports | None, served: int) -> None:
        self.order = order
        self.rule = rule
        self.ports = ports
        self.few_ports = _few(ports)
        self.protocols = rule.protocols & served
        self.protocols_on_https_port = rule.protocols_on_https_port & served


def entries_of(order: int, rule: CompiledRule, port: int | None) -> tuple[Entry, ...]:
    """The entries of the rule's targets with this port of their own, from this place on.

    Where a rule names DNS itself, questions have an entry apart: they go to a resolver, so that the destination's ports
    say nothing about them.
    """
    ports = rule.ports if port is None else ((port, port),)
    # A raw TCP allow must name its ports: the default ones are those of HTTP.
    served = EVERY if not rule.allows or rule.names_ports or port is not None else ~TCP
    stated = rule.rule.protocols
    if stated is None or Protocol.DNS not in stated:
        return (Entry(order, rule, ports, served),)
    questions = Entry(order, rule, None, DNS)
    if stated == {Protocol.DNS}:
        return (questions,)
    return questions, Entry(order + 1, rule, ports, served & ~DNS)


@lru_cache(maxsize=1_024)
def _few(ports: Ports | None) -> frozenset[int] | None:
    if ports is None or sum(last - first + 1 for first, last in ports) > _FEW:
        return None
    return frozenset(port for first, last in ports for port in range(first, last + 1))


def _ports(rule: Rule) -> Ports | None:
    if rule.ports is not None:
        return tuple((ports.first, ports.last) for ports in rule.ports)
    return DEFAULT_PORTS if rule.verdict is Verdict.ALLOW else None


def _protocols(rule: Rule) -> int:
    if rule.protocols is not None:
        stated = sum(BIT[protocol] for protocol in rule.protocols)
        # gRPC is HTTPS: who allows or denies the one says so of the other.
        return stated | GRPC if Protocol.HTTPS in rule.protocols else stated
    if rule.verdict is not Verdict.ALLOW:
        # A question for a name has no method or path, and this rule is for some of the host's requests only.
        return EVERY & ~DNS if _looks_inside(rule) else EVERY
    # A rule for reading must not become a channel that writes: WebSocket carries messages both ways after its GET.
    return HTTP | WEBSOCKET if rule.methods is None else HTTP


def _looks_inside(rule: Rule) -> bool:
    stated = (rule.methods, rule.paths, rule.query, rule.headers, rule.mcp, rule.graphql)
    return any(condition is not None for condition in stated)


# Policies of many sandboxes are made of the same rules; reading their patterns is most of the work.
@lru_cache(maxsize=4_096)
def _path_set(texts: tuple[str, ...], *, allows: bool, ignore_case: bool) -> PathSet:
    compiled = [compile_path(text) for text in texts]
    patterns = [pattern for pattern in compiled if isinstance(pattern, PathPattern)]
    if len(patterns) < len(compiled) and not allows:
        # A pattern that cannot be read denies every path; config refuses it before, so only hand-made rules get here.
        patterns = [pattern for pattern in [compile_path("/**")] if isinstance(pattern, PathPattern)]
    return PathSet(tuple(patterns), _folding(allows=allows) if ignore_case else None)


def _folding(*, allows: bool) -> Callable[[str], str]:
    """How paths are made alike in upper and lower case: an allow's letters A to Z only, a deny's as far as any do."""
    return _ascii_lower if allows else str.casefold


def _ascii_lower(path: str) -> str:
    return path.translate(_LOWER)
