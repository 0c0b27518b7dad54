"""`audit: {stream: ...}`: where rows are sent on to, as it is written and as it is meant."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, PlainValidator

from egress.config.fields import text, wrong
from egress.config.policy_model import Strict
from egress.config.wording import kind_of, one_of, quoted
from egress.policy import Refusal, parse_authority

_HINT: Final = "write `stdout`, `unix:/dev/log`, `udp://127.0.0.1:514` or `tcp://127.0.0.1:601`"
FACILITIES: Final = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("ntp", "audit", "alert", "clock", *(f"local{number}" for number in range(8))),
)
_FACILITY: Final = "local0"
_BUFFER: Final = 10_000


class StreamKind(StrEnum):
    """What takes the rows."""

    STDOUT = "stdout"
    UNIX = "unix"
    UDP = "udp"
    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class StreamAddress:
    """Where rows are sent: `path` of a unix socket, or `host` and `port`."""

    kind: StreamKind
    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.kind is StreamKind.STDOUT:
            return "stdout"
        if self.kind is StreamKind.UNIX:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """`facility` is syslog's number (RFC 5424, table 1); `buffer` is how many rows may wait."""

    to: StreamAddress
    facility: int = FACILITIES.index(_FACILITY)
    buffer: int = _BUFFER


def read_stream_address(value: object) -> StreamAddress:
    """`stdout`, `unix:PATH`, `udp://HOST:PORT` or `tcp://HOST:PORT`."""
    written = text(value)
    if written == "stdout":
        return StreamAddress(StreamKind.STDOUT)
    if written.startswith("unix:"):
        path = written.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path:
            raise wrong(f"{quoted(path)} is not an absolute path of a socket", "write `unix:/dev/log`")
        return StreamAddress(StreamKind.UNIX, path=path)
    scheme, separator, authority = written.partition("://")
    if not separator or scheme not in {"udp", "tcp"}:
        raise wrong(f"{quoted(written)} is nowhere that rows can be sent to", _HINT)
    parsed = parse_authority(authority, None)
    if isinstance(parsed, Refusal):
        raise wrong(f"{quoted(authority)} is not a host and port", _HINT)
    host, port = parsed
    return StreamAddress(StreamKind(scheme), host=host.text, port=port)


def _read_facility(value: object) -> int:
    if not isinstance(value, str) or value not in FACILITIES:
        shown = quoted(value) if isinstance(value, str) else kind_of(value)
        raise wrong(f"{shown} is no facility of syslog", f"write {one_of(FACILITIES)}")
    return FACILITIES.index(value)


def _count(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(f"should be a number, not {kind_of(value)}", "write it without quotes or unit")
    return value


class StreamModel(Strict):
    """Where rows go, and how."""

    to: Annotated[StreamAddress, PlainValidator(read_stream_address, json_schema_input_type=str)]
    facility: Annotated[int, PlainValidator(_read_facility, json_schema_input_type=str)] | None = None
    buffer: Annotated[int, BeforeValidator(_count), Field(ge=100, le=1_000_000)] | None = None

    def config(self) -> StreamConfig:
        """What it means."""
        stated = {name: getattr(self, name) for name in ("facility", "buffer")}
        return StreamConfig(self.to, **{name: value for name, value in stated.items() if value is not None})


def _short(value: object) -> object:
    return {"to": value} if isinstance(value, str) else value


StreamField = Annotated[StreamModel, BeforeValidator(_short, json_schema_input_type=str | StreamModel)]
