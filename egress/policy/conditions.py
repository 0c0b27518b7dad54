"""How one rule meets one request: which condition fails, or that all hold.

Conditions are asked in a fixed order (port, protocol, headers to change, method, path, query, headers, body, time),
so that the condition that failed last tells how close a rule came. Doubt counts against the request: an allow's
condition fails on what is not known or cannot be read one way only, a deny's or ask's holds.
"""

from __future__ import annotations

import re
from enum import IntEnum, auto
from functools import lru_cache
from string import ascii_lowercase, ascii_uppercase
from typing import TYPE_CHECKING, Final

from egress.policy.bodies import BodyConditions
from egress.policy.own_credentials import removed
from egress.policy.parameters import Values, header_pairs, query_pairs
from egress.policy.paths import PathPattern, PathSet, canonical_path, compile_path
from egress.policy.reasons import Reason
from egress.policy.values import Refusal, RuleRef, Say
from egress.policy.vocabulary import Mode, Protocol, TlsMode, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.policy.parameters import Pair
    from egress.policy.values import Body, Decision, Request, Rule, RuleLimits, ScopeRules

type Ports = tuple[tuple[int, int], ...]

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HTTPS_PORT = 443
DEFAULT_PORTS: Final[Ports] = ((443, 443), (80, 80))
_FEW: Final = 64
_LOWER: Final = str.maketrans(ascii_uppercase, ascii_lowercase)

# Sets of protocols as bits: hashing an enum member costs more than all the rest of a comparison.
_BIT: Final = {protocol: 1 << place for place, protocol in enumerate(Protocol)}
_EVERY: Final = sum(_BIT.values())
_TCP: Final = _BIT[Protocol.TCP]
_HTTP: Final = _BIT[Protocol.HTTP] | _BIT[Protocol.HTTPS] | _BIT[Protocol.GRPC]
_WEBSOCKET: Final = _BIT[Protocol.WS] | _BIT[Protocol.WSS]
_CLEAR: Final = _BIT[Protocol.HTTP] | _BIT[Protocol.WS]
_GRPC: Final = _BIT[Protocol.GRPC]
_OVER_TLS: Final = _BIT[Protocol.HTTPS] | _BIT[Protocol.WSS] | _GRPC
# The protocol itself, and what a destination of it may turn out to carry: an upgrade, and whether it is gRPC, is known
# at the request only.
_BITS: Final = {
    protocol: (bit, next((group for group in (_CLEAR, _OVER_TLS) if bit & group), bit))
    for protocol, bit in _BIT.items()
}


class Fit(IntEnum):
    """How far a rule came. From `DOUBT` on it speaks; below, the value says which condition failed."""

    PORT = auto()
    PROTOCOL = auto()
    INSIDE = auto()
    METHOD = auto()
    PATH = auto()
    AMBIGUOUS = auto()
    QUERY = auto()
    HEADER = auto()
    BODY_UNREADABLE = auto()
    BODY = auto()
    EXPIRED = auto()
    DOUBT = auto()
    MATCH = auto()


SPEAKS: Final = int(Fit.DOUBT)

REASON_OF_MISS: Final = {
    Fit.PORT: Reason.PORT_NOT_ALLOWED,
    Fit.PROTOCOL: Reason.PROTOCOL_NOT_ALLOWED,
    Fit.INSIDE: Reason.PROTOCOL_NOT_ALLOWED,
    Fit.METHOD: Reason.METHOD_NOT_ALLOWED,
    Fit.PATH: Reason.PATH_NOT_ALLOWED,
    Fit.AMBIGUOUS: Reason.PATH_AMBIGUOUS,
    Fit.QUERY: Reason.QUERY_NOT_ALLOWED,
    Fit.HEADER: Reason.HEADER_NOT_ALLOWED,
    Fit.BODY_UNREADABLE: Reason.BODY_UNREADABLE,
    Fit.BODY: Reason.BODY_NOT_ALLOWED,
    Fit.EXPIRED: Reason.RULE_EXPIRED,
}
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
        self.protocols_on_https_port = self.protocols & ~_CLEAR if guarded else self.protocols
        stated = rule.tls if rule.tls is not None else own.tls
        self.tls = TlsMode.INSPECT if stated is None else stated


class Entry:
    """The targets of one rule on one port, in the index. `order` is the place among all, highest scope first.

    `few_ports` are its ports one by one, None where they are too many; `ports` None: every port.
    """

    __slots__ = ("few_ports", "order", "ports", "protocols", "protocols_on_https_port", "rule")

    def __init__(self, order: int, rule: CompiledRule, port: int | None) -> None:
        self.order = order
        self.rule = rule
        self.ports: Ports | None = rule.ports if port is None else ((port, port),)
        self.few_ports = _few(self.ports)
        # A raw TCP allow must name its ports: the default ones are those of HTTP.
        served = _EVERY if not rule.allows or rule.names_ports or port is not None else ~_TCP
        self.protocols = rule.protocols & served
        self.protocols_on_https_port = rule.protocols_on_https_port & served


class Question:
    """A request while it is judged: its protocol as a bit, with the `alternatives` that it may turn out to be.

    `looked` is set once a rule's condition on something inside the request was asked, `wants_body` once one on a body
    that is not known was. `now` is the time, in seconds since 1970, at which rules may have expired.
    """

    __slots__ = ("_path", "_request", "alternatives", "looked", "method", "now", "port", "protocol", "wants_body")

    def __init__(self, request: Request, now: float = 0.0) -> None:
        self.protocol, self.alternatives = _BITS[request.protocol]
        self.now = now
        self.port = request.port
        self.method = request.method
        self.looked = False
        self.wants_body = False
        self._request = request
        self._path: str | Refusal | None = None

    def path(self) -> str | Refusal | None:
        """The canonical path, worked out once; None where the path is not known."""
        if self._path is None and self._request.path is not None:
            self._path = canonical_path(self._request.path)
        return self._path

    def query(self) -> tuple[Pair, ...] | None:
        """The query's names and values; None where they cannot be read one way only."""
        return query_pairs(self._request.query)

    def headers(self) -> tuple[Pair, ...]:
        """The headers' names and values."""
        return header_pairs(self._request.headers)

    def body(self) -> Body | None:
        """What the body asks for; None, which is noted, where it is not known."""
        body = self._request.body
        if body is None:
            self.wants_body = True
        return body


def fit_known(entry: Entry, question: Question) -> Fit:
    """How the rule meets a request whose method is known."""
    rule = entry.rule
    port = question.port
    # As `_serves_port` and `_covered`, without two calls for each rule that is asked.
    few = entry.few_ports
    if (port not in few) if few is not None else not _serves_port(entry, port):
        return Fit.PORT
    # The protocol itself is always one of the alternatives.
    if not (entry.protocols_on_https_port if port == HTTPS_PORT else entry.protocols) & question.protocol:
        return Fit.PROTOCOL
    if not rule.conditional:
        return Fit.MATCH
    fit = _inside_fit(rule, question) if rule.inside else Fit.MATCH
    if rule.expires is not None and fit >= SPEAKS and rule.expires <= question.now:
        return Fit.EXPIRED
    return fit


def _inside_fit(rule: CompiledRule, question: Question) -> Fit:
    question.looked = True
    if rule.methods is not None and not _method_holds(rule, question):
        return Fit.METHOD
    fit = Fit.MATCH if rule.paths is None else _path_fit(rule, rule.paths, question)
    return _further(rule, question, fit) if rule.looks_further and fit >= SPEAKS else fit


def fit_opaque(entry: Entry, question: Question) -> Fit:  # noqa: PLR0911 -- one return a condition
    """How the rule meets a request that never becomes known: might-match is a match for deny and ask, none for allow.

    A tunnel of TLS may carry WebSocket and gRPC as well as HTTPS, so an allow must cover them all.
    """
    rule = entry.rule
    if not _serves_port(entry, question.port):
        return Fit.PORT
    covered = _covered(entry, question)
    if not covered:
        return Fit.PROTOCOL
    if rule.expires is not None and rule.expires <= question.now:
        return Fit.EXPIRED
    if not rule.allows:
        return Fit.MATCH
    if rule.methods is not None:
        return Fit.METHOD
    if rule.paths is not None:
        return Fit.PATH
    return Fit.INSIDE if rule.needs_inside or covered != question.alternatives else Fit.MATCH


def possible(entry: Entry, question: Question) -> tuple[bool, bool, bool]:
    """What the name step can tell of a rule: (it could match, it must match, it needs the inside to know)."""
    rule = entry.rule
    covered = _covered(entry, question) if _serves_port(entry, question.port) else 0
    if not covered or (rule.expires is not None and rule.expires <= question.now):
        return _IMPOSSIBLE
    every = covered == question.alternatives
    return True, every and not rule.inside, rule.needs_inside or not every


_IMPOSSIBLE: Final = (False, False, False)


@lru_cache(maxsize=1_024)
def _few(ports: Ports | None) -> frozenset[int] | None:
    if ports is None or sum(last - first + 1 for first, last in ports) > _FEW:
        return None
    return frozenset(port for first, last in ports for port in range(first, last + 1))


def _serves_port(entry: Entry, port: int) -> bool:
    if entry.few_ports is not None:
        return port in entry.few_ports
    ports = entry.ports
    if ports is None:
        return True
    for first, last in ports:  # noqa: SIM110 -- a generator costs three times as much here
        if first <= port <= last:
            return True
    return False


def _covered(entry: Entry, question: Question) -> int:
    """Which of the protocols that the destination may carry the rule speaks about, on this port."""
    covered = entry.protocols_on_https_port if question.port == HTTPS_PORT else entry.protocols
    return covered & question.alternatives


def _method_holds(rule: CompiledRule, question: Question) -> bool:
    methods, method = rule.methods, question.method
    if methods is None or method is None:
        return methods is None
    if method in methods:
        return True
    # Methods are case-sensitive, yet many servers take `delete` for DELETE: a deny holds for both.
    return not rule.allows and method.upper() in methods


def _path_fit(rule: CompiledRule, paths: PathSet, question: Question) -> Fit:
    path = question.path()
    if isinstance(path, str):
        return Fit.MATCH if paths.match(path) else Fit.PATH
    if not rule.allows:
        return Fit.DOUBT
    return Fit.PATH if path is None else Fit.AMBIGUOUS


def _further(rule: CompiledRule, question: Question, fit: Fit) -> Fit:
    if rule.query is not None and not rule.query.hold(question.query()):
        return Fit.QUERY
    if rule.headers is not None and not rule.headers.hold(question.headers()):
        return Fit.HEADER
    return fit if rule.body is None else _body_fit(rule, rule.body, question, fit)


def _body_fit(rule: CompiledRule, conditions: BodyConditions, question: Question, fit: Fit) -> Fit:
    # Nobody need wait for a body because of a rule that has expired.
    if rule.expires is not None and rule.expires <= question.now:
        return fit
    body = question.body()
    if conditions.hold(body):
        return fit
    return Fit.BODY if conditions.readable(body) else Fit.BODY_UNREADABLE


def _ports(rule: Rule) -> Ports | None:
    if rule.ports is not None:
        return tuple((ports.first, ports.last) for ports in rule.ports)
    return DEFAULT_PORTS if rule.verdict is Verdict.ALLOW else None


def _protocols(rule: Rule) -> int:
    if rule.protocols is not None:
        stated = sum(_BIT[protocol] for protocol in rule.protocols)
        # gRPC is HTTPS: who allows or denies the one says so of the other.
        return stated | _GRPC if Protocol.HTTPS in rule.protocols else stated
    if rule.verdict is not Verdict.ALLOW:
        return _EVERY
    # A rule for reading must not become a channel that writes: WebSocket carries messages both ways after its GET.
    return _HTTP | _WEBSOCKET if rule.methods is None else _HTTP


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
