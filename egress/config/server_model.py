"""The shape of `egress.yaml`, the server's configuration. Every key is optional."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import BeforeValidator, Field, PlainValidator

from egress.config.admin import AdminConfig
from egress.config.dns_model import DnsModel  # noqa: TC001  pydantic reads it at run time
from egress.config.fields import one_word, text, wrong
from egress.config.identity_model import IdentityModel  # noqa: TC001  pydantic reads it at run time
from egress.config.listening import UnixListener
from egress.config.policy_model import Networks, SecretModel, Strict, TextField
from egress.config.proxy_model import ProxyField  # noqa: TC001  pydantic reads it at run time
from egress.config.roads_model import ForwardsField, TransparentModel  # noqa: TC001 -- as above
from egress.config.secrets_key import SecretsKeyModel  # noqa: TC001  pydantic reads it at run time
from egress.config.server_config import DenyPage, MitmStart
from egress.config.server_fields import read_listen
from egress.config.socket_fields import read_uids
from egress.config.stream_model import StreamField  # noqa: TC001 -- pydantic reads it
from egress.config.wording import kind_of, quoted
from egress.policy import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.config.listening import ListenAddress

MOST_WORKERS: Final = 64
UNLIMITED: Final = "unlimited"


def read_listener(value: object) -> ListenAddress:
    """One of the addresses of `listen`, where a unix socket has no mode."""
    if isinstance(value, dict):
        raise wrong("should be an address of `listen`, not a mapping", "write `unix:PATH`; its mode stands in `listen`")
    return read_listen(value)


def read_workers(value: object) -> int:
    """How many processes carry connections."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_WORKERS:
        return int(value)
    number_or_text = isinstance(value, (int, float, str)) and not isinstance(value, bool)
    shown = quoted(value) if number_or_text else kind_of(value)
    raise wrong(f"should be a whole number from 1 to {MOST_WORKERS}, not {shown}", "write one for each processor")


read_mitm = one_word({start.value: start for start in MitmStart})
read_deny_page = one_word({place.value: place for place in DenyPage})
# `auto`: each lane where the rules want it.
read_lane: Callable[[object], Lane | None] = one_word({"auto": None, **{lane.value: lane for lane in Lane}})


def file_path(value: object) -> str:
    """A path, as written."""
    written = text(value)
    if not written or not written.isprintable():
        raise wrong(f"{quoted(written)} is not a path", "write a file's path")
    return written


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong(f"should be a number, not {kind_of(value)}", "write it without quotes or unit")
    return int(value) if isinstance(value, int) else float(value)


def _unlimited(value: object) -> object:
    if isinstance(value, str) and value != UNLIMITED:
        raise wrong(f"should be a number or `{UNLIMITED}`, not {quoted(value)}")
    return None if value == UNLIMITED else value


def _list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _one_or_more(value: object) -> object:
    if value == []:
        raise wrong("this list is empty, so the proxy would listen nowhere", "write `127.0.0.1:3128`")
    return value if isinstance(value, list) else [value]


type PathField = Annotated[str, PlainValidator(file_path, json_schema_input_type=str)]
type PathList = Annotated[list[PathField], BeforeValidator(_list, json_schema_input_type=str | list[str])]
type TextList = Annotated[list[TextField], BeforeValidator(_list, json_schema_input_type=str | list[str])]
Seconds = Annotated[float, BeforeValidator(_number)]
Count = Annotated[int, BeforeValidator(_number)]
type MaybeUnlimited[Number] = Annotated[Number | None, BeforeValidator(_unlimited)]
type ScopeWord = Literal["org", "team", "sandbox", "session"]
# The scope `org` speaks for all sandboxes, or it would be none.
type OwnScopeWord = Literal["team", "sandbox", "session"]


class AuditModel(Strict):
    """The audit database."""

    path: PathField | None = None
    flush_interval: Seconds | None = Field(None, ge=0.01, le=10)
    queue: Count | None = Field(None, ge=100, le=1_000_000)
    query_values: bool | None = None
    keep_days: MaybeUnlimited[Annotated[Seconds, Field(ge=0.01, le=36_500)]] = None
    keep_rows: MaybeUnlimited[Annotated[Count, Field(ge=1_000)]] = None
    keep_bytes: MaybeUnlimited[Annotated[Count, Field(ge=1_000_000)]] = None
    stream: StreamField | None = None
    durability: Literal["normal", "strict"] | None = None
    denial_rows: Count | None = Field(None, ge=1, le=1_000_000)


class UpstreamModel(Strict):
    """How upstream servers are trusted, and spoken to."""

    ca: PathList | None = None
    via: bool | None = None
    proxy: ProxyField | None = None


class LimitsModel(Strict):
    """Waits in seconds, and counts."""

    connections: Count | None = Field(None, ge=1, le=1_000_000)
    connections_per_client: Count | None = Field(None, ge=1, le=1_000_000)
    head_seconds: Seconds | None = Field(None, ge=0.1, le=120)
    tls_seconds: Seconds | None = Field(None, ge=0.1, le=120)
    resolve_seconds: Seconds | None = Field(None, ge=0.1, le=60)
    secret_seconds: Seconds | None = Field(None, ge=0.1, le=25)
    connect_seconds: Seconds | None = Field(None, ge=0.1, le=300)
    idle_seconds: Seconds | None = Field(None, ge=1, le=86_400)
    tunnel_seconds: MaybeUnlimited[Annotated[Seconds, Field(ge=1, le=31_536_000)]] = None
    tunnel_bytes: MaybeUnlimited[Annotated[Count, Field(ge=1, le=10**15)]] = None
    upstream_idle_seconds: Seconds | None = Field(None, ge=1, le=3_600)
    upstream_lifetime_seconds: Seconds | None = Field(None, ge=1, le=86_400)
    upstream_kept: Count | None = Field(None, ge=0, le=100_000)
    judged_body: Count | None = Field(None, ge=1_000, le=8_000_000)
    audit_seconds: Seconds | None = Field(None, ge=0, le=60)
    drain_seconds: Seconds | None = Field(None, ge=0, le=3_600)


ListenField = Annotated[tuple[str, int] | UnixListener, PlainValidator(read_listen, json_schema_input_type=str | dict)]
ListenerField = Annotated[tuple[str, int] | UnixListener, PlainValidator(read_listener, json_schema_input_type=str)]
UidField = Annotated[tuple[int, ...], PlainValidator(read_uids, json_schema_input_type=int | list[int])]


class SandboxModel(Strict):
    """A sandbox: what tells its clients from others, and the files that it has of its own."""

    source: Networks | None = None
    listener: ListenerField | None = None
    uid: UidField | None = None
    token: TextField | None = None
    token_env: TextField | None = None
    labels: dict[str, TextField] | None = None
    policy: TextList | None = None
    scopes: dict[OwnScopeWord, TextList] | None = None


class AdminModel(Strict):
    """Where the proxy tells of itself."""

    listen: ListenField
    anywhere: bool | None = None
    hosts: TextList | None = None

    def config(self) -> AdminConfig:
        """What it means; a path is as it was written."""
        return AdminConfig(self.listen, bool(self.anywhere), frozenset(host.lower() for host in self.hosts or ()))


def _admin(value: object) -> object:
    return {"listen": value} if isinstance(value, str) else value


class ServerModel(Strict):
    """The server's configuration; flags of `egress run` win over it."""

    listen: Annotated[list[ListenField], BeforeValidator(_one_or_more)] | None = None
    workers: Annotated[int, PlainValidator(read_workers, json_schema_input_type=int)] | None = None
    mitm: Annotated[MitmStart, PlainValidator(read_mitm, json_schema_input_type=str)] | None = None
    lane: Annotated[Lane | None, PlainValidator(read_lane, json_schema_input_type=str)] = None
    watch: bool | None = None
    last_known_good: bool | None = None
    state_dir: PathField | None = None
    ca_dir: PathField | None = None
    audit: AuditModel | None = None
    upstream: UpstreamModel | None = None
    resolve: dict[str, TextList] | None = None
    policy: TextList | None = None
    scopes: dict[ScopeWord, TextList] | None = None
    presets: PathList | None = None
    limits: LimitsModel | None = None
    secrets: dict[str, SecretModel] | None = None
    secrets_key: SecretsKeyModel | None = None
    sandboxes: dict[str, SandboxModel] | None = None
    identity: IdentityModel | None = None
    forwards: ForwardsField | None = None
    transparent: TransparentModel | None = None
    deny_page: Annotated[DenyPage, PlainValidator(read_deny_page, json_schema_input_type=str)] | None = None
    dns: DnsModel | None = None
    admin: Annotated[AdminModel, BeforeValidator(_admin, json_schema_input_type=str | AdminModel)] | None = None
