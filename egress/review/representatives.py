"""Requests that stand for all others: one for each way in which the named rules can tell requests apart.

For each dimension the values at which an answer can change: ports where a range begins and what follows it, each named
method and one that is not, each path pattern filled in (and what two patterns have in common), each protocol. Of values
that all the rules treat alike one is kept, the most common one.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote

from egress.policy import (
    Body,
    McpMessage,
    Operation,
    PathPattern,
    Protocol,
    Refusal,
    Request,
    Rule,
    Verdict,
    canonical_path,
    compile_path,
)
from egress.policy.parameters import Values, header_pairs, query_pairs
from egress.review.question import DEFAULT_SANDBOX

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
    from types import EllipsisType

    from egress.policy import GraphqlCondition, Host, McpCondition
    from egress.review.naming import Named

type Headers = tuple[tuple[str, str], ...]
type Segments = tuple[str | EllipsisType | None, ...]

_METHODS: Final = ("GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "QUERY", "X-NOT-NAMED")
_PORTS: Final = (443, 80, 8443, 1, 81, 444)
_LAST_PORT: Final = 65_535
_PROTOCOLS: Final = (
    *(Protocol.HTTPS, Protocol.WSS, Protocol.GRPC),
    *(Protocol.HTTP, Protocol.WS, Protocol.TCP),
)
_DNS_PORT: Final = 53
_WITH_METHODS: Final = frozenset({Protocol.HTTP, Protocol.HTTPS})
# What no pattern of a sane policy holds as a segment, and a path that can be read in two ways.
_SEGMENT: Final = "anything"
_AMBIGUOUS: Final = "/anything/../else"
_MOST_PATTERNS: Final = 64
# A query that servers read in more than one way.
_UNREADABLE: Final = "%"
# A header that makes a server take the request for another one.
OVERRIDE: Final = (("X-HTTP-Method-Override", "DELETE"),)


def requests_to(
    host: Host, named: Sequence[Named], bound_ports: Iterable[int], is_read: Callable[[Request], bool]
) -> Iterator[Request]:
    """The requests to a destination that is named by these targets. `bound_ports` are those of secrets.

    `is_read` says whether anybody looks at more than protocol, host and port; if not, one request speaks for all.
    """
    rules = list({id(each.rule): each.rule for each in named}.values())
    methods, paths = _methods(rules), _paths(rules)
    fields = [
        (query, headers, body) for query in _queries(rules) for headers in _headers(rules) for body in _bodies(rules)
    ]
    for port in _ports(named, bound_ports):
        for protocol in _PROTOCOLS:
            if protocol is Protocol.TCP:
                yield Request(DEFAULT_SANDBOX, protocol, host, port)
                continue
            if not is_read(Request(DEFAULT_SANDBOX, protocol, host, port)):
                yield Request(DEFAULT_SANDBOX, protocol, host, port, _only(protocol) or methods[0], paths[0])
                continue
            only = _only(protocol)
            for method in methods if only is None else (only,):
                for path in paths:
                    for query, headers, body in fields:
                        yield Request(DEFAULT_SANDBOX, protocol, host, port, method, path, query, headers, body)
    # A question for a name goes to a resolver: the destination's ports tell none apart.
    if host.address is None:
        yield Request(DEFAULT_SANDBOX, Protocol.DNS, host, _DNS_PORT)


def _only(protocol: Protocol) -> str | None:
    """The one method of the protocol: a WebSocket's GET (RFC 6455, section 4.1), gRPC's POST."""
    if protocol is Protocol.GRPC:
        return "POST"
    return None if protocol in _WITH_METHODS else "GET"


def one_of_each[Value](values: Iterable[Value], alike: Callable[[Value], Hashable]) -> list[Value]:
    """The first value of each kind, in order."""
    found: dict[Hashable, Value] = {}
    for value in values:
        found.setdefault(alike(value), value)
    return list(found.values())


def _ports(named: Sequence[Named], bound_ports: Iterable[int]) -> list[int]:
    ranges = {(span.first, span.last) for each in named for span in each.rule.ports or ()}
    ranges |= {(each.target.port, each.target.port) for each in named if each.target.port is not None}
    bound = frozenset(bound_ports)
    ranges |= {(port, port) for port in bound}
    edges = sorted({port for first, last in ranges for port in (first, last + 1)})

    def alike(port: int) -> Hashable:
        return port in _PORTS[:2] and port, tuple(first <= port <= last for first, last in ranges)

    return one_of_each((port for port in (*_PORTS, *edges) if 0 < port <= _LAST_PORT), alike)


def _methods(rules: Sequence[Rule]) -> list[str]:
    stated = [(rule.methods, rule.verdict) for rule in rules if rule.methods is not None]
    named = sorted({method for methods, _ in stated for method in methods})
    # Methods are case-sensitive, yet a deny of DELETE holds for `delete` too.
    lower = [
        method.lower() for methods, verdict in stated if verdict is not Verdict.ALLOW for method in sorted(methods)
    ]

    def alike(method: str) -> Hashable:
        return tuple((method in methods, method.upper() in methods) for methods, _ in stated)

    found = one_of_each((*_METHODS, *named, *lower), alike)
    # GET goes first, since every WebSocket begins with one.
    return ["GET", *(method for method in found if method != "GET")]


def _paths(rules: Sequence[Rule]) -> list[str]:
    texts = list(dict.fromkeys(text for rule in rules for text in rule.paths or ()))
    patterns = [pattern for pattern in map(compile_path, texts) if isinstance(pattern, PathPattern)]
    if not patterns:
        return ["/"]
    found = ["/", f"/{_SEGMENT}", *(path for pattern in patterns for path in _filled(pattern.segments))]
    if len(patterns) <= _MOST_PATTERNS:
        common = (_common(one.segments, other.segments) for one, other in combinations(patterns, 2))
        found += [_written(segments) for segments in common if segments is not None]
    if any(rule.ignore_case for rule in rules):
        found += [path.swapcase() for path in found if "%" not in path]

    def alike(raw: str) -> Hashable:
        path = canonical_path(raw)
        if isinstance(path, Refusal):
            return None
        return tuple((pattern.matches(path), pattern.matches(path.swapcase())) for pattern in patterns)

    return one_of_each((*found, _AMBIGUOUS), alike)


def _filled(pattern: Segments) -> Iterator[str]:
    """The pattern with a segment for each `*`, and none, one or two for each `**`; its parent, and what is below it."""
    for count in (1, 0, 2):
        segments: list[str] = []
        for segment in pattern:
            if segment is ...:
                segments += [_SEGMENT] * count
            else:
                segments.append(_SEGMENT if segment is None else segment)
        yield _written(segments)
        yield _written([*segments, _SEGMENT])
        yield _written([*segments, ""])
        yield _written(segments[:-1])


def _written(segments: Sequence[str]) -> str:
    """Decoded segments as a client sends them."""
    return "/" + "/".join(quote(segment, safe="!$&'()+,=:@") for segment in segments)


def _common(one: Segments, other: Segments) -> tuple[str, ...] | None:
    """The shortest path that both patterns match, as far as there is one."""

    @cache
    def meet(i: int, j: int) -> tuple[str, ...] | None:
        if i == len(one) and j == len(other):
            return ()
        left = one[i] if i < len(one) else ""
        right = other[j] if j < len(other) else ""
        ways: list[tuple[str, ...] | None] = []
        if left is ...:
            ways.append(meet(i + 1, j))
            if j < len(other) and right is not ...:
                ways.append(_before(_SEGMENT if right is None else right, meet(i, j + 1)))
        if right is ...:
            ways.append(meet(i, j + 1))
            if i < len(one) and left is not ...:
                ways.append(_before(_SEGMENT if left is None else left, meet(i + 1, j)))
        if left is not ... and right is not ... and i < len(one) and j < len(other):
            ways.append(_before_both(left, right, meet(i + 1, j + 1)))
        found = [way for way in ways if way is not None]
        return min(found, key=len, default=None)

    return meet(0, 0)


def _before_both(left: str | None, right: str | None, rest: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if left is None:
        left, right = right, left
    if left is None:
        return _before(_SEGMENT, rest)
    # `*` stands for a segment that is not empty.
    met = left == right or (right is None and left != "")
    return _before(left, rest) if met else None


def _before(segment: str, rest: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return None if rest is None else (segment, *rest)


def _queries(rules: Sequence[Rule]) -> list[str | None]:
    """No query, one that meets each rule that asks for one, one that meets each two, and one that cannot be read."""
    conditions = _conditions(rules, "query")
    if not conditions:
        return [None]
    found = ["&".join(f"{_encoded(name)}={_encoded(value)}" for name, value in pairs) for pairs in _met(rules, "query")]

    def alike(query: str | None) -> Hashable:
        return tuple(condition.hold(query_pairs(query)) for condition in conditions)

    return one_of_each((None, *found, _UNREADABLE), alike)


def _headers(rules: Sequence[Rule]) -> list[Headers]:
    """No headers, those that meet each rule that asks for some, those that meet each two, and each of them twice."""
    conditions = _conditions(rules, "headers")
    found = list(_met(rules, "headers"))

    def alike(headers: Headers) -> Hashable:
        return tuple(condition.hold(header_pairs(headers)) for condition in conditions)

    return one_of_each(((), *found, *(headers * 2 for headers in found)), alike)


def _conditions(rules: Sequence[Rule], field: Literal["query", "headers"]) -> list[Values]:
    stated = {(pairs, rule.verdict is Verdict.ALLOW) for rule in rules if (pairs := getattr(rule, field))}
    return [Values(pairs, allows=allows, headers=field == "headers") for pairs, allows in sorted(stated, key=str)]


def _met(rules: Sequence[Rule], field: Literal["query", "headers"]) -> Iterator[Headers]:
    """Names with values that meet what each rule asks for; then what each two of them ask for."""
    asked = list(dict.fromkeys(pairs for rule in rules if (pairs := getattr(rule, field))))
    yield from (tuple((name, _value(pattern)) for name, pattern in pairs) for pairs in asked)
    if len(asked) <= _MOST_PATTERNS:
        for one, other in combinations(asked, 2):
            yield tuple({name: _value(pattern) for name, pattern in (*one, *other)}.items())


def _encoded(text: str) -> str:
    return quote(text, safe="")


def _bodies(rules: Sequence[Rule]) -> list[Body | None]:
    """None, which nobody can read, and for each rule that asks for one those that it names."""
    found: list[Body | None] = [None]
    for rule in rules:
        if rule.mcp is not None:
            found += [Body(mcp=(message,)) for message in _messages(rule.mcp)]
        if rule.graphql is not None:
            found += [Body(graphql=(operation,)) for operation in _operations(rule.graphql)]
    return list(dict.fromkeys(found))


def _messages(stated: McpCondition) -> Iterator[McpMessage]:
    methods = [_value(method) for method in stated.methods or ("tools/call",)]
    for method in methods:
        if method != "tools/call":
            yield McpMessage(method)
            continue
        arguments = tuple((name, _value(pattern)) for name, pattern in stated.arguments)
        for tool in stated.tools or (_SEGMENT,):
            yield McpMessage(method, _value(tool), arguments)


def _operations(stated: GraphqlCondition) -> Iterator[Operation]:
    for kind in stated.operations or ("query", "mutation"):
        for name in stated.names or (None,):
            yield Operation(kind, None if name is None else _value(name))


def _value(pattern: str | None) -> str:
    return _SEGMENT if pattern is None else pattern.replace("*", _SEGMENT)
