"""Rules as values: what a policy file said. All immutable, all plain, none does I/O.

What is judged by them is in `request`, what is answered in `decision`. How a policy file is read into rules is
`egress.config`; how rules are matched is `index` and `decide`.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

from egress.policy.vocabulary import Mode, Protocol, Scheme, Scope, SwapPlace, TlsMode, Unreadable, Verdict

if TYPE_CHECKING:
    from datetime import datetime

    from egress.policy.reasons import Reason
    from egress.policy.signing import Signing

type Address = IPv4Address | IPv6Address
type Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Host:
    """A canonical host: a lower-case A-label name without its root dot, or an address.

    `text` is what is compared, sent and audited (an IPv6 address without brackets); `address` is set when the host
    was named as an address. Only `names.parse_host` makes one from bytes of the wire.
    """

    text: str
    address: Address | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Refusal:
    """A value that cannot be read, or not in one way only. `detail` is one sentence with no part of the input."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports `first` to `last`, both included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class HostTarget:
    """A host pattern. `exact` is the name itself, `below` any depth under it; both for `.example.com`."""

    name: str
    exact: bool
    below: bool


@dataclass(frozen=True, slots=True)
class AnyTarget:
    """`**`: any name; in `deny` and `ask` any address too."""


@dataclass(frozen=True, slots=True)
class NetworkTarget:
    """An address (a /32 or /128) or a CIDR range."""

    network: Network


@dataclass(frozen=True, slots=True)
class Target:
    """One entry of `allow`, `deny` or `ask`: what it names, and its own `:port` if it has one."""

    what: HostTarget | AnyTarget | NetworkTarget
    port: int | None = None


@dataclass(frozen=True, slots=True)
class SecretRef:
    """The place of a secret in a header template: `${name}`."""

    name: str


@dataclass(frozen=True, slots=True)
class Injection:
    """A header to set, replacing every spelling and duplicate: `parts` are literal text and secret references.

    `user` not None: HTTP Basic (RFC 7617) with that user, and `parts` as the password.
    """

    header: str
    parts: tuple[str | SecretRef, ...]
    user: tuple[str | SecretRef, ...] | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of the secrets that the value needs."""
        return tuple(part.name for part in (*(self.user or ()), *self.parts) if isinstance(part, SecretRef))


@dataclass(frozen=True, slots=True)
class Swap:
    """Where the placeholder of `secret` becomes its value: in these `headers`, and in these other `places`.

    `required`: a request in none of whose places the placeholder stands is refused.
    """

    secret: str
    headers: tuple[str, ...] = ()
    places: frozenset[SwapPlace] = frozenset()
    required: bool = False


@dataclass(frozen=True, slots=True)
class Rate:
    """So many units (requests, or bytes) in so many seconds at most."""

    count: int
    seconds: int


@dataclass(frozen=True, slots=True)
class RuleLimits:
    """What one sandbox may do under one rule; None: no limit. `burst`: how many requests may come at once.

    Without a burst `requests` holds for any stretch of time as long as its unit, as the bytes always do.
    """

    requests: Rate | None = None
    burst: int | None = None
    concurrent: int | None = None
    upload: Rate | None = None
    download: Rate | None = None


# Rules' limits, each with the key of its rule: the same for the same rule after a reload.
type KeyedLimits = tuple[tuple[str, RuleLimits], ...]


@dataclass(frozen=True, slots=True)
class McpCondition:
    """What an MCP body may ask for. None: not stated. `*` in a pattern is any text.

    `tools` and `arguments` are of `tools/call`, which is the one method meant where they stand without `methods`.
    """

    methods: tuple[str, ...] | None = None
    tools: tuple[str, ...] | None = None
    arguments: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class GraphqlCondition:
    """What a GraphQL body may ask for. None: not stated. `names` are patterns of operation names."""

    operations: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class PathPrefix:
    """Whole segments at the beginning of a path, and what stands in their place; both without a `/` at their end.

    `old` empty: `new` is put before every path. `new` empty: `old` is taken away.
    """

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What a rule rewrites; None stays as it was asked. `port` None with a scheme: the scheme's own."""

    scheme: Scheme | None = None
    host: Host | None = None
    port: int | None = None
    path: PathPrefix | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a policy file. None for a condition means that the rule does not state it.

    `paths` are pattern texts as written (`*` one segment, `**` any number); the index compiles them. `methods` are
    upper-case tokens. `ports` None means 443 and 80 for an `allow`, every port for `deny` and `ask`; a target's own
    port wins. `protocols` None means HTTP, TLS and WebSocket for an `allow`, every protocol for `deny` and `ask`.
    `addresses` are the ranges outside the public Internet that names of this rule may resolve to. `http2`: clients that
    offer HTTP/2 get it. `ignore_case`: paths are the same in upper and lower case. `query` and `headers` are names that
    must be there, each with a pattern for its value or None. `mcp` and `graphql` are what the body may ask for.
    `until` (aware) is when the rule stops to match. `annotate` are labels for the audit, by name. `rewrite`: where what
    the rule allows goes instead, `sign` how it is signed. `limits` hold for each sandbox on its own. `sandboxes` are
    names and `label=value` of those that the rule is for; it and templates are gone once the rule was written out for a
    sandbox (see `sandboxes`). `swap`: where placeholders become values. `strip_own`: credentials of the client's own go
    no further. `scrub`: what becomes of answers that cannot be searched for the rule's secrets.
    """

    verdict: Verdict
    targets: tuple[Target, ...]
    file: str
    line: int | None
    name: str | None = None
    ports: tuple[PortRange, ...] | None = None
    methods: frozenset[str] | None = None
    paths: tuple[str, ...] | None = None
    protocols: frozenset[Protocol] | None = None
    tls: TlsMode | None = None
    inject: tuple[Injection, ...] = ()
    remove: tuple[str, ...] = ()
    addresses: tuple[Network, ...] = ()
    http2: bool = False
    ignore_case: bool = False
    query: tuple[tuple[str, str | None], ...] | None = None
    headers: tuple[tuple[str, str | None], ...] | None = None
    until: datetime | None = None
    annotate: tuple[tuple[str, str], ...] = ()
    rewrite: Rewrite | None = None
    limits: RuleLimits | None = None
    scrub: Unreadable | None = None
    mcp: McpCondition | None = None
    graphql: GraphqlCondition | None = None
    sandboxes: tuple[str, ...] | None = None
    sign: Signing | None = None
    swap: tuple[Swap, ...] = ()
    strip_own: bool = False


@dataclass(frozen=True, slots=True)
class ScopeRules:
    """All rules of one scope in order, and what it states besides. None: not stated.

    `mode` REPORT: what the scope alone would refuse passes, and is recorded as what would have been refused.
    `narrows`: an allow of this scope counts only where another scope allows too. `resolvers`: the name servers, address
    and port, that are to be asked for what this policy judges.
    """

    scope: Scope
    rules: tuple[Rule, ...]
    default: Verdict | None = None
    tls: TlsMode | None = None
    mode: Mode = Mode.ENFORCE
    narrows: bool = False
    resolvers: tuple[tuple[str, int], ...] = ()
