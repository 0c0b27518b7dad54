"""Short ways to write policies and requests in tests, and hypothesis strategies over a small world of them.

The world is small on purpose: few hosts, ports, methods and paths, so that rules and requests often meet.
"""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

from hypothesis import strategies as st

from egress.policy import (
    Address,
    AnyTarget,
    Host,
    HostTarget,
    Injection,
    Mode,
    NetworkTarget,
    PathPrefix,
    Policy,
    PortRange,
    Protocol,
    Refusal,
    Request,
    Rewrite,
    Rule,
    Scheme,
    Scope,
    ScopeRules,
    SecretRef,
    Target,
    TargetError,
    TlsMode,
    Verdict,
    compile_policy,
    parse_host,
    parse_target,
)

INJECT = (Injection("Authorization", ("Bearer ", SecretRef("token"))),)


def target(text: str, verdict: str = "allow") -> Target:
    """A target that must parse."""
    parsed = parse_target(text, verdict=Verdict(verdict))
    assert not isinstance(parsed, TargetError), parsed
    return parsed


def rule(
    verdict: str,
    *targets: str,
    ports: tuple[tuple[int, int], ...] | None = None,
    methods: str | None = None,
    paths: tuple[str, ...] | None = None,
    protocol: str | None = None,
    tls: TlsMode | None = None,
    inject: tuple[Injection, ...] = (),
    remove: tuple[str, ...] = (),
    addresses: tuple[str, ...] = (),
    name: str | None = None,
    http2: bool = False,
    **others: object,
) -> Rule:
    """A rule; words separated by spaces where there are several methods or protocols. `others` are plain fields."""
    made = Rule(
        verdict=Verdict(verdict),
        targets=tuple(target(text, verdict) for text in targets),
        file="policy.yaml",
        line=1,
        name=name,
        ports=None if ports is None else tuple(PortRange(*pair) for pair in ports),
        methods=None if methods is None else frozenset(methods.split()),
        paths=paths,
        protocols=None if protocol is None else frozenset(map(Protocol, protocol.split())),
        tls=tls,
        inject=inject,
        remove=remove,
        addresses=tuple(map(ip_network, addresses)),
        http2=http2,
    )
    return replace(made, **others)  # type: ignore[arg-type] -- each is of its field's type


def scope(
    *rules: Rule,
    default: str | None = None,
    tls: TlsMode | None = None,
    rank: Scope = Scope.SANDBOX,
    mode: str = "enforce",
) -> ScopeRules:
    """The rules of one scope."""
    return ScopeRules(rank, rules, None if default is None else Verdict(default), tls, Mode(mode))


def policy(*parts: Rule | ScopeRules, default: str | None = None, tls: TlsMode | None = None) -> Policy:
    """A policy of scopes, or of the rules of scope `sandbox`."""
    scopes = [part for part in parts if isinstance(part, ScopeRules)]
    rules = [part for part in parts if isinstance(part, Rule)]
    return compile_policy(scopes or [scope(*rules, default=default, tls=tls)], digest="test", clock=time.time)


def request(
    url: str,
    method: str | None = None,
    path: str | None = None,
    headers: tuple[tuple[str, str], ...] = (),
    query: str | None = None,
) -> Request:
    """A request of `protocol://host[:port]`; brackets around IPv6."""
    protocol, _, authority = url.partition("://")
    name, port = authority, {"http": 80, "ws": 80}.get(protocol, 443)
    if not authority.endswith("]") and ":" in authority:
        name, _, text = authority.rpartition(":")
        port = int(text)
    host = parse_host(name, brackets=True)
    assert not isinstance(host, Refusal), host
    return Request("sandbox-1", Protocol(protocol), host, port, method, path, query, headers)


_NAMES = ("example.com", "api.example.com", "a.b.example.com", "other.test")
_ADDRESSES = ("10.1.2.3", "93.184.216.34", "127.0.0.1", "169.254.169.254", "::1", "64:ff9b::a01:203", "2606:4700::1")
_METADATA = "169.254.169.254/32"
_NETWORKS = ("10.0.0.0/8", "10.1.0.0/16", "93.184.216.34/32", _METADATA, "::1/128", "64:ff9b::/96", "0.0.0.0/0")

addresses: st.SearchStrategy[Address] = st.sampled_from([ip_address(text) for text in _ADDRESSES]) | st.ip_addresses()
_HOSTS = [Host(text) for text in _NAMES] + [Host(text, ip_address(text)) for text in _ADDRESSES]
_WHATS: list[HostTarget | AnyTarget | NetworkTarget] = [
    *(HostTarget(name, exact=True, below=False) for name in _NAMES),
    *(HostTarget(name, exact=exact, below=True) for name in _NAMES[:2] for exact in (True, False)),
    AnyTarget(),
    *(NetworkTarget(ip_network(text)) for text in _NETWORKS),
]
_TARGETS = [Target(what, port) for port in (None, None, 443, 8443) for what in _WHATS]
_PROTOCOLS = (
    None,
    None,
    "https",
    "http ws",
    "https wss",
    "wss",
    "grpc",
    "tcp",
    "http https ws wss tcp",
    "dns",
    "https dns",
)

PAST, FUTURE = datetime(2001, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC)

# The choices of a rule, the plainest first, so that a failing example shrinks to plain rules.
_CHOICES: tuple[tuple[str, list[object]], ...] = (
    ("verdict", [Verdict.ALLOW, Verdict.DENY, Verdict.ALLOW, Verdict.ASK]),
    ("http2", [False, False, True]),
    ("targets", [(one,) for one in _TARGETS] + list(itertools.pairwise(_TARGETS))),
    ("ports", [None, None, (PortRange(443, 443),), (PortRange(80, 9000),)]),
    ("methods", [None, None, frozenset({"GET"}), frozenset({"POST", "DELETE"})]),
    ("paths", [None, None, ("/a",), ("/a/**",), ("/*/b", "/")]),
    ("protocols", [None if text is None else frozenset(map(Protocol, text.split())) for text in _PROTOCOLS]),
    ("tls", [None, *TlsMode]),
    ("inject", [(), (), INJECT]),
    ("remove", [(), (), ("Cookie",)]),
    ("addresses", [(), (ip_network("10.0.0.0/8"),), (ip_network("64:ff9b::/96"),)]),
    ("ignore_case", [False, False, True]),
    ("query", [None, None, None, (("a", None),), (("a", "1*"), ("b", None))]),
    ("headers", [None, None, None, (("X-Key", None),), (("Accept", "*/*"),)]),
    ("until", [None, None, None, PAST, FUTURE]),
    (
        "rewrite",
        [None, None, None, Rewrite(host=Host("other.test")), Rewrite(Scheme.HTTPS, path=PathPrefix("/a", "/b"))],
    ),
)
_RULES = math.prod(len(options) for _, options in _CHOICES)
_PLAIN = Rule(Verdict.ALLOW, (), "policy.yaml", None)


def _rule_of(number: int, verdicts: tuple[Verdict, ...]) -> Rule:
    """The rule that a number stands for. One draw a rule keeps generating cheap; the number is its line."""
    chosen: dict[str, object] = {"line": number}
    rest = number
    for field, options in _CHOICES:
        rest, place = divmod(rest, len(options))
        chosen[field] = options[place]
    if verdicts:
        chosen["verdict"] = verdicts[number % len(verdicts)]
    return replace(_PLAIN, **chosen)  # type: ignore[arg-type] -- the options of each field are of its type


def rules(*verdicts: Verdict) -> st.SearchStrategy[Rule]:
    """Rules of the small world, of these verdicts or of any."""
    return st.integers(0, _RULES - 1).map(lambda number: _rule_of(number, verdicts))


def scopes_of(rank: Scope) -> st.SearchStrategy[ScopeRules]:
    """One scope of the small world."""
    modes = (Mode.ENFORCE, Mode.ENFORCE, Mode.ENFORCE, Mode.REPORT)
    defaults = st.sampled_from(
        [(default, tls, mode) for default in (None, None, *Verdict) for tls in (None, *TlsMode) for mode in modes]
    )
    return st.builds(lambda own, stated: ScopeRules(rank, tuple(own), *stated), st.lists(rules(), max_size=5), defaults)


_SOME_SCOPES = [ranks for count in (1, 2, 3) for ranks in itertools.combinations(Scope, count)]
scope_lists: st.SearchStrategy[list[ScopeRules]] = st.sampled_from(_SOME_SCOPES).flatmap(
    lambda ranks: st.tuples(*map(scopes_of, ranks)).map(list)
)

METHODS = ("GET", "POST", "delete")
PATHS = (None, "/", "/a/b", "/a/../b")
_HEADERS = ((), (("Accept", "*/*"),), (("X-HTTP-Method_Override", "DELETE"),), (("x_key", "1"), ("accept", "*/*")))
_QUERIES = (None, "a=1", "a=10&b=", "a=1&a=2", "A[]=1", "a=%zz")
_REQUESTS = [
    Request("sandbox-1", protocol, host, port, method, path, query, headers)
    for protocol in Protocol
    for host in _HOSTS
    for port in (443, 80, 8443)
    for method in (None, *METHODS, "DELETE")
    for path in (*PATHS, "/a", "/A", "/x/b", "/a%2fb")
    for headers, query in zip(itertools.cycle(_HEADERS), _QUERIES, strict=False)
]
requests: st.SearchStrategy[Request] = st.sampled_from(_REQUESTS)
