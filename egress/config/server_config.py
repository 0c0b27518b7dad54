"""The server's configuration as values: what `egress.yaml`, flags and the environment come to."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from egress.config.dns import DnsConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from egress.config.admin import AdminConfig
    from egress.config.identity import IdentityConfig
    from egress.config.listening import ListenAddress
    from egress.config.sandboxes_model import SandboxDefinition
    from egress.config.secrets_key import KeySource
    from egress.config.secrets_model import SecretDefinition
    from egress.config.sources import PolicySource
    from egress.config.stream_model import StreamConfig
    from egress.config.upstream_proxy import UpstreamProxy
    from egress.policy import Address, Host, Lane

DEFAULT_LISTEN: Final = ("127.0.0.1", 3128)


class MitmStart(StrEnum):
    """When the process of the mitm lane is started: at its first connection, or with the proxy."""

    LAZY = "lazy"
    WARM = "warm"


class DenyPage(StrEnum):
    """Where a client reads why its destination is refused: in the answer to its CONNECT, or inside its TLS."""

    CONNECT = "connect"
    INSIDE_TLS = "inside-tls"


class Durability(StrEnum):
    """When a decision is on the disk: a flush interval after it was made, or before the request's first byte leaves."""

    NORMAL = "normal"
    STRICT = "strict"


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """The audit database.

    `flush_interval` in seconds: what a kill -9 may lose. `queue`: events that may wait.
    `query_values`: whether the values of a query are recorded in clear. `keep_days`, `keep_rows` (decisions) and
    `keep_bytes` (of the file): what is beyond any of them is dropped, oldest first; None: nothing is.
    `stream`: where rows are sent on to.
    `denial_rows`: alike denials of a sandbox that have a row each within a minute, in each process that judges.
    """

    path: Path
    flush_interval: float = 0.2
    queue: int = 10_000
    query_values: bool = False
    keep_days: float | None = None
    keep_rows: int | None = None
    keep_bytes: int | None = None
    stream: StreamConfig | None = None
    durability: Durability = Durability.NORMAL
    denial_rows: int = 200


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """How upstream servers are trusted and spoken to.

    `ca`: PEM files of roots, beside the system's. `via`: whether messages that are passed on say that a proxy did (RFC
    9110, section 7.6.3). `proxy`: what connections to them go through; None: nothing.
    """

    ca: tuple[Path, ...] = ()
    via: bool = False
    proxy: UpstreamProxy | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Every wait and count that has a limit. Times in seconds.

    `connections`: open client connections, `connections_per_client`: those of one client address. `head_seconds`: from
    the first byte of a request's head to its last. `tls_seconds`: one handshake. `resolve_seconds`: one name.
    `secret_seconds`: fetching one secret's value, and a request's wait for it.
    `connect_seconds`: one address. `idle_seconds`: no byte either way. `tunnel_seconds` and `tunnel_bytes`: a tunnel in
    all, both ways together; None for no limit. `upstream_idle_seconds` and `upstream_lifetime_seconds`: how long an
    upstream connection is kept without use, and in all; `upstream_kept`: how many a worker keeps without use.
    `judged_body`: the bytes of one body that a rule asks to see. `audit_seconds`: how long a request waits for room in
    the audit's queue before it is denied. `drain_seconds`: how long requests in flight may take after SIGTERM.
    """

    connections: int = 4_096
    connections_per_client: int = 1_024
    head_seconds: float = 10.0
    tls_seconds: float = 10.0
    resolve_seconds: float = 5.0
    secret_seconds: float = 10.0
    connect_seconds: float = 10.0
    idle_seconds: float = 600.0
    tunnel_seconds: float | None = None
    tunnel_bytes: int | None = None
    upstream_idle_seconds: float = 60.0
    upstream_lifetime_seconds: float = 600.0
    upstream_kept: int = 256
    judged_body: int = 1_000_000
    audit_seconds: float = 2.0
    drain_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Forward:
    """A listener all of whose connections go to one destination."""

    listen: ListenAddress
    host: Host
    port: int


class TransparentMode(StrEnum):
    """How connections come to a transparent listener: with their destination rewritten, or left as it was."""

    REDIRECT = "redirect"
    TPROXY = "tproxy"


@dataclass(frozen=True, slots=True)
class TransparentConfig:
    """Listeners for connections that were redirected here."""

    listens: tuple[tuple[str, int], ...]
    mode: TransparentMode = TransparentMode.REDIRECT


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Everything the proxy needs to start.

    `also_listen` are addresses besides `listen`. `sandboxes`: who clients are told apart as; none: they are all one.

    `file` is the configuration file, if there is one. `workers` are processes. `lane` is the one that is forced, for
    tests; None lets the rules pick. `presets` are folders of the user's own presets. `watch`: whether the policy is
    read again when its files change. `last_known_good`: whether a start whose policy files do not load takes the last
    that did. `secrets_key`: where the key of the secret store is; None: where it is by default. `identity`: the
    identity endpoints that are answered here; None: none. `forwards` and `transparent` are the other roads to the
    proxy. `deny_page`: where the refusal of a destination is told; None: as the command does. `dns`: the resolver for
    sandboxes, and whom the proxy asks. `admin`: where the proxy tells of itself; None: nowhere. `run_dir`: where that
    is what one start alone has, its lock, control socket, trust files and last good policy; None: in the state folder.
    """

    listen: ListenAddress
    state_dir: Path
    audit: AuditConfig
    ca_dir: Path
    upstream: UpstreamConfig
    resolve: Mapping[str, tuple[Address, ...]]
    policies: tuple[PolicySource, ...]
    limits: Limits
    secrets: Mapping[str, SecretDefinition]
    file: Path | None = None
    workers: int = 1
    mitm: MitmStart = MitmStart.LAZY
    lane: Lane | None = None
    presets: tuple[Path, ...] = ()
    watch: bool = True
    last_known_good: bool = True
    also_listen: tuple[ListenAddress, ...] = ()
    sandboxes: tuple[SandboxDefinition, ...] = ()
    secrets_key: KeySource | None = None
    identity: IdentityConfig | None = None
    forwards: tuple[Forward, ...] = ()
    transparent: TransparentConfig | None = None
    deny_page: DenyPage | None = None
    dns: DnsConfig = field(default_factory=DnsConfig)
    admin: AdminConfig | None = None
    run_dir: Path | None = None

    @property
    def own_dir(self) -> Path:
        """The folder of what one start alone has."""
        return self.run_dir or self.state_dir

    @property
    def listens(self) -> tuple[ListenAddress, ...]:
        """Every address to listen on as an explicit proxy."""
        return (self.listen, *self.also_listen)

    @property
    def doors(self) -> tuple[ListenAddress, ...]:
        """Every address by which clients can be told apart."""
        redirected = () if self.transparent is None else self.transparent.listens
        return (*self.listens, *(forward.listen for forward in self.forwards), *redirected, *self.dns.listen)

    @property
    def sources(self) -> tuple[PolicySource, ...]:
        """Every policy file that is named, once each."""
        own = (source for sandbox in self.sandboxes for source in sandbox.policies)
        return tuple(dict.fromkeys((*self.policies, *own)))


@dataclass(frozen=True, slots=True)
class ServerOverrides:
    """What flags said. None and empty: not given.

    `listen` and `admin` are `HOST:PORT` or `unix:PATH`; `transparent` are `ADDR:PORT`; `dns` is `ADDRESS:PORT`;
    `upstream_proxy` is a URL; `mitm` and `lane` are words, as in the file; `resolve` are `NAME:IP[,IP]`; `policies` are
    `NAME`, `PATH` or `SCOPE=...`. Lists add to the file's, except that policies replace those that the file names for
    the same scope, and `transparent` all of its.
    """

    listen: str | None = None
    workers: int | None = None
    mitm: str | None = None
    lane: str | None = None
    watch: bool | None = None
    last_known_good: bool | None = None
    state_dir: Path | None = None
    audit: Path | None = None
    audit_stream: str | None = None
    ca_dir: Path | None = None
    upstream_ca: tuple[Path, ...] = field(default=())
    resolve: tuple[str, ...] = field(default=())
    policies: tuple[str, ...] = field(default=())
    presets: tuple[Path, ...] = field(default=())
    secrets_key_file: Path | None = None
    upstream_proxy: str | None = None
    transparent: tuple[str, ...] = ()
    dns: str | None = None
    admin: str | None = None
