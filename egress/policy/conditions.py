"""How one rule meets one request: which condition fails, or that all hold.

Conditions are asked in a fixed order (port, protocol, headers to change, method, path, query, headers, body, time),
so that the condition that failed last tells how close a rule came. Doubt counts against the request: an allow's
condition fails on what is not known or cannot be read one way only, a deny's or ask's holds.
"""

from __future__ import annotations

import re
from enum import IntEnum, auto
from typing import TYPE_CHECKING, Final

from egress.policy.parameters import header_pairs, query_pairs
from egress.policy.paths import canonical_path
from egress.policy.protocol_bits import ALTERNATIVES, DNS
from egress.policy.reasons import Reason

if TYPE_CHECKING:
    from egress.policy.bodies import BodyConditions
    from egress.policy.compiled import CompiledRule, Entry
    from egress.policy.parameters import Pair
    from egress.policy.paths import PathSet
    from egress.policy.request import Body, Request
    from egress.policy.values import Refusal

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HTTPS_PORT = 443


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


class Question:
    """A request while it is judged: its protocol as a bit, with the `alternatives` that it may turn out to be.

    `looked` is set once a rule's condition on something inside the request was asked, `wants_body` once one on a body
    that is not known was. `now` is the time, in seconds since 1970, at which rules may have expired.
    """

    __slots__ = ("_path", "_request", "alternatives", "looked", "method", "now", "port", "protocol", "wants_body")

    def __init__(self, request: Request, now: float = 0.0) -> None:
        self.protocol, self.alternatives = ALTERNATIVES[request.protocol]
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
        # Another port would not help a question for a name.
        return Fit.PROTOCOL if question.protocol == DNS else Fit.PORT
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


def fit_certain(entry: Entry, question: Question) -> Fit:
    """How the rule meets a name whose request is not known yet: a refusal matches if it must, an allow if it could."""
    could, must, _ = possible(entry, question)
    if could and (must or entry.rule.allows):
        return Fit.MATCH
    return fit_opaque(entry, question) if entry.rule.allows else Fit.PROTOCOL


def possible(entry: Entry, question: Question) -> tuple[bool, bool, bool]:
    """What the name step can tell of a rule: (it could match, it must match, it needs the inside to know)."""
    rule = entry.rule
    covered = _covered(entry, question) if _serves_port(entry, question.port) else 0
    if not covered or (rule.expires is not None and rule.expires <= question.now):
        return _IMPOSSIBLE
    every = covered == question.alternatives
    return True, every and not rule.inside, rule.needs_inside or not every


_IMPOSSIBLE: Final = (False, False, False)


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
