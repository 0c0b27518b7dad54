"""The values that go into and come out of the policy core. All immutable, all plain, none does I/O.

A request is what the core judges, a decision what it answers, a rule what a policy file said. How a policy file is
read into rules is `egress.config`; how rules are matched is `index` and `decide`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

from egress.policy.vocabulary import Certainty, Mode, Protocol, Scope, SwapPlace, TlsMode, Verdict

if TYPE_CHECKING:
    from datetime import datetime

    from egress.policy.reasons import Reason
    from egress.policy.rewrites import Rewrite
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
class McpMessage:
    """One JSON-RPC message to an MCP server; `method` is `response` for an answer to one of the server's own.

    `tool` and `arguments` are those of a `tools/call`; an argument of None is no text.
    """

    method: str
    tool: str | None = None
    arguments: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a GraphQL document: `query`, `mutation` or `subscription`, and its name if it has one."""

    kind: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """What a body asks for, in each of the languages that rules know. None: it cannot be read so, one way only."""

    mcp: tuple[McpMessage, ...] | None = None
    graphql: tuple[Operation, ...] | None = None


# Made anew for each request, so not frozen: that would make the making several times as dear. Nobody changes one.
@dataclass(slots=True, unsafe_hash=True)
class Request:
    """What the policy core judges.

    The name step knows the first four; `method` None means that the request is not known (yet, or ever, in a
    tunnel). `path` is the raw target's path without the query, as sent; `headers` are (name, value) pairs as sent.
    `body` None means that the body is not known (yet, or ever).
    """

    sandbox: str
    protocol: Protocol
    host: Host
    port: int
    method: str | None = None
    path: str | None = None
    query: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: Body | None = None


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
    no further.
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
    `narrows`: an allow of this scope counts only where another scope allows too.
    """

    scope: Scope
    rules: tuple[Rule, ...]
    default: Verdict | None = None
    tls: TlsMode | None = None
    mode: Mode = Mode.ENFORCE
    narrows: bool = False


@dataclass(frozen=True, slots=True)
class RuleRef:
    """Where a rule stands, for people and for the audit; `labels` are those that it annotates."""

    scope: Scope
    file: str
    line: int | None
    name: str | None = None
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Say:
    """What one scope said. `verdict` None: nothing. `rule` None with a verdict: its default.

    `nearest` is the allow rule that named the destination and came closest, where none of the scope's rules spoke;
    `reason` then says what it lacked.
    """

    scope: Scope
    verdict: Verdict | None
    reason: Reason
    rule: RuleRef | None = None
    nearest: RuleRef | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The core's answer: verdict, reason and rule are set together in every branch.

    `rule` is the rule that spoke, or where nothing did, the allow rule that came closest. `rules` are the allowing
    rules of each scope that allowed by a rule, highest scope first; the address step is held to all of them. `inject`
    and `remove` are merged over those scopes, and `http2` is True if any of their rules says so. `labels` are those
    that the rules annotate. `limits` are those of all the allowing rules, `swap` is what they swap. `rewrite`, if there
    is one, has the request judged again before anything goes up: see `Policy.follow`. `detail` is one sentence for
    people, safe to print. `needs_body`: a rule's condition on the body was asked and the body is not known, so this is
    the answer for a body that nobody can read. `sign`: how it is signed, as the highest scope says whose rule signs.
    """

    verdict: Verdict
    reason: Reason
    detail: str
    says: tuple[Say, ...]
    rule: RuleRef | None = None
    rules: tuple[Rule, ...] = ()
    tls: TlsMode = TlsMode.INSPECT
    inject: tuple[Injection, ...] = ()
    remove: tuple[str, ...] = ()
    http2: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    rewrite: Rewrite | None = None
    limits: KeyedLimits = ()
    needs_body: bool = False
    sign: Signing | None = None
    swap: tuple[Swap, ...] = ()

    @property
    def allowed(self) -> bool:
        """True only for the verdict `allow`."""
        return self.verdict is Verdict.ALLOW


@dataclass(frozen=True, slots=True)
class NameDecision:
    """What a destination's name alone tells.

    `certainty` NO: `decision` is the denial to give. MAYBE: the request decides, only the client's own handshake goes
    on, and `decision` is a denial that says no more. YES: allowed whatever the request, unless a later step narrows.
    `tls` says what to do with a TLS hello: TUNNEL passes it unopened (the tunnel's own decision comes from
    `decide_request` with method None), INSPECT opens it; AUTO never comes out. `http2` is True if TLS is opened and any
    allow rule that could match the destination asks for HTTP/2: which rule will speak is known only after the choice.
    """

    certainty: Certainty
    decision: Decision
    tls: TlsMode = TlsMode.INSPECT
    http2: bool = False


@dataclass(frozen=True, slots=True)
class AddressDecision:
    """Which of the resolved addresses may be dialled, in the resolver's order; none means `decision` denies."""

    addresses: tuple[Address, ...]
    decision: Decision
    dropped: tuple[tuple[Address, str], ...] = field(default=())
