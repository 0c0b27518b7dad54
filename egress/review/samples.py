"""Requests that stand for what a rule names: for each of its targets, ports, protocols, methods and paths one of them.

They show what a policy says of the rule's destinations. They are no proof for every request that the rule matches: a
wildcard has more names, and a rule without `methods` more methods, than are asked here.
"""

from __future__ import annotations

from itertools import islice, product
from typing import TYPE_CHECKING, Final

from egress.policy import (
    WITHOUT_REQUEST,
    AnyTarget,
    HostTarget,
    NetworkTarget,
    Protocol,
    Target,
    TargetError,
    parse_target,
)
from egress.review.question import Question

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.review.edit import NewRule

_MOST: Final = 120
_NAME: Final = "sample"
_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_READ_ONLY: Final = ("GET", "HEAD", "OPTIONS")
_PLAIN_PORT: Final = 80
_TLS_PORT: Final = 443
_DNS_PORT: Final = 53
_CLEAR: Final = frozenset({Protocol.HTTP, Protocol.WS})


def questions(rule: NewRule) -> tuple[Question, ...]:
    """The requests for a rule, at most 120, those of its first target first."""
    return tuple(islice(_questions(rule), _MOST))


def targets_of(rule: NewRule) -> tuple[Target, ...]:
    """The rule's targets as the policy core reads them. What is no target is left out: the file will not load."""
    parsed = [parse_target(text, verdict=rule.verdict) for text in rule.targets]
    return tuple(target for target in parsed if not isinstance(target, TargetError))


def _questions(rule: NewRule) -> Iterator[Question]:
    methods = _READ_ONLY if rule.methods == ("read-only",) else rule.methods or _METHODS
    paths = [_path(pattern) for pattern in rule.paths] or ["/", f"/{_NAME}"]
    for target in targets_of(rule):
        for host, (protocol, port) in product(_hosts(target), _endpoints(rule, target)):
            origin = f"{protocol}://{host}:{port}"
            if protocol in WITHOUT_REQUEST:
                yield Question(origin)
            elif protocol is Protocol.GRPC:
                yield from (Question(f"{origin}{path}", "POST") for path in paths)
            elif protocol in {Protocol.WS, Protocol.WSS}:
                yield from (Question(f"{origin}{path}", "GET") for path in paths)
            else:
                yield from (Question(f"{origin}{path}", method) for path, method in product(paths, methods))


def _hosts(target: Target) -> list[str]:
    match target.what:
        case HostTarget(name, exact, below):
            return ([name] if exact else []) + ([f"{_NAME}.{name}"] if below else [])
        case AnyTarget():
            return [f"{_NAME}.example"]
        case NetworkTarget(network):
            address = network[1] if network.num_addresses > 1 else network[0]
            return [f"[{address}]" if address.version == 6 else str(address)]  # noqa: PLR2004 -- IPv6


def _endpoints(rule: NewRule, target: Target) -> list[tuple[Protocol, int]]:
    ports = [target.port] if target.port is not None else [int(port.partition("-")[0]) for port in rule.ports]
    stated = [Protocol(word) for word in rule.protocol if word in Protocol]
    if not stated:
        return [(_usual_protocol(port), port) for port in ports or (_TLS_PORT, _PLAIN_PORT)]
    named = [protocol for protocol in stated if protocol is not Protocol.DNS]
    questions = [(Protocol.DNS, _DNS_PORT)] if Protocol.DNS in stated else []
    if ports:
        return [*product(named, ports), *questions]
    return [*((protocol, _PLAIN_PORT if protocol in _CLEAR else _TLS_PORT) for protocol in named), *questions]


def _usual_protocol(port: int) -> Protocol:
    return Protocol.HTTP if port == _PLAIN_PORT else Protocol.HTTPS


def _path(pattern: str) -> str:
    return "/".join(_NAME if segment in {"*", "**"} else segment for segment in pattern.split("/"))
