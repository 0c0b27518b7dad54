"""The shape of `egress.yaml`, the server's configuration. Every key is optional."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainValidator

from egress.config.fields import text, wrong
from egress.config.policy_model import SecretModel, Strict, TextField
from egress.config.wording import kind_of, quoted
from egress.policy import Refusal, parse_authority


def read_listen(value: object) -> tuple[str, int]:
    """`HOST:PORT`, where HOST is an address or `localhost`; port 0 picks a free one."""
    hint = "write `127.0.0.1:3128`; port 0 picks a free one"
    if isinstance(value, int) and not isinstance(value, bool):
        raise wrong("the address to listen on is missing", f"write `127.0.0.1:{value}`")
    written = text(value)
    # Port 0 is no destination, so the policy's grammar refuses it; here it means "any free port".
    free = written.endswith(":0")
    parsed = parse_authority(written[:-1] + "1" if free else written, None)
    if isinstance(parsed, Refusal):
        raise wrong(f"{quoted(written)} is not an address and port to listen on", hint)
    host, port = parsed
    if host.address is None and host.text != "localhost":
        raise wrong(f"{quoted(host.text)} is a name; a listener needs an address", hint)
    return ("127.0.0.1" if host.address is None else host.text, 0 if free else port)


def file_path(value: object) -> str:
    """A path, as written."""
    written = text(value)
    if not written or not written.isprintable():
        raise wrong(f"{quoted(written)} is not a path", "write a file's path")
    return written


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong(f"should be a number, not {kind_of(value)}", "write it without quotes or unit")
    return value


def _list(value: object) -> object:
    return [value] if isinstance(value, str) else value


type PathField = Annotated[str, PlainValidator(file_path, json_schema_input_type=str)]
type PathList = Annotated[list[PathField], BeforeValidator(_list, json_schema_input_type=str | list[str])]
type TextList = Annotated[list[TextField], BeforeValidator(_list, json_schema_input_type=str | list[str])]
Seconds = Annotated[float, BeforeValidator(_number)]
Count = Annotated[int, BeforeValidator(_number)]
type ScopeWord = Literal["org", "team", "sandbox", "session"]


class AuditModel(Strict):
    """The audit database."""

    path: PathField | None = None
    flush_interval: Seconds | None = Field(None, ge=0.01, le=10)
    queue: Count | None = Field(None, ge=100, le=1_000_000)
    query_values: bool | None = None


class UpstreamModel(Strict):
    """How upstream servers are trusted."""

    ca: PathList | None = None


class LimitsModel(Strict):
    """Waits in seconds, and counts."""

    connections: Count | None = Field(None, ge=1, le=1_000_000)
    head_seconds: Seconds | None = Field(None, ge=0.1, le=120)
    tls_seconds: Seconds | None = Field(None, ge=0.1, le=120)
    resolve_seconds: Seconds | None = Field(None, ge=0.1, le=60)
    connect_seconds: Seconds | None = Field(None, ge=0.1, le=300)
    idle_seconds: Seconds | None = Field(None, ge=1, le=86_400)
    audit_seconds: Seconds | None = Field(None, ge=0, le=60)
    drain_seconds: Seconds | None = Field(None, ge=0, le=3_600)


class ServerModel(Strict):
    """The server's configuration; flags of `egress run` win over it."""

    listen: Annotated[tuple[str, int], PlainValidator(read_listen, json_schema_input_type=str)] | None = None
    state_dir: PathField | None = None
    ca_dir: PathField | None = None
    audit: AuditModel | None = None
    upstream: UpstreamModel | None = None
    resolve: dict[str, TextList] | None = None
    policy: TextList | None = None
    scopes: dict[ScopeWord, TextList] | None = None
    limits: LimitsModel | None = None
    secrets: dict[str, SecretModel] | None = None
