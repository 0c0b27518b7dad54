"""The shape of a rule's `rewrite`: where what the rule allows goes instead.

A prefix is plain text that can be read one way only: nothing encoded, no dot segments, no patterns.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from egress.config.fields import HIGHEST_PORT, text, word, wrong
from egress.config.wording import kind_of, quoted
from egress.policy import Host, PathPrefix, Refusal, Rewrite, Scheme, canonical_path, parse_authority, parse_host

_HOST_HINT = "write a host alone, as in `host: gateway.corp.example`"


def _host(value: object) -> Host:
    name = text(value)
    host = parse_host(name, brackets=True)
    if not isinstance(host, Refusal):
        return host
    if not isinstance(parse_authority(name, None), Refusal):
        raise wrong(f"{quoted(name)} is a host and a port", "write the port as `port: 8443`")
    if "*" in name or name.startswith("."):
        raise wrong(f"{quoted(name)} is no one host", _HOST_HINT)
    raise wrong(f"{quoted(name)} is not a host: {host.detail}", _HOST_HINT)


def _port(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= HIGHEST_PORT:
        return int(value)
    shown = quoted(value) if isinstance(value, (str, int, float)) else kind_of(value)
    raise wrong(f"should be one port from 1 to {HIGHEST_PORT}, not {shown}", "write `port: 8443`")


def _prefix(value: object) -> str:
    """A path prefix without a `/` at its end; empty for `/`."""
    prefix = text(value)
    hint = "write whole segments, as in `/v1` or `/api/v1`"
    if not prefix.startswith("/"):
        raise wrong(f"{quoted(prefix)} does not start with a slash", hint)
    if "%" in prefix:
        raise wrong(f"{quoted(prefix)} holds an encoded character", hint)
    canonical = canonical_path(prefix)
    if isinstance(canonical, Refusal):
        raise wrong(f"{quoted(prefix)} is no prefix: {canonical.detail}", hint)
    return prefix.rstrip("/")


def _put_before(value: object) -> object:
    """`/api` alone is put before every path."""
    return {"from": "/", "to": value} if isinstance(value, str) else value


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, arbitrary_types_allowed=True, defer_build=True)


type _PrefixField = Annotated[str, PlainValidator(_prefix, json_schema_input_type=str)]
type _HostField = Annotated[Host, PlainValidator(_host, json_schema_input_type=str)]
type _PortField = Annotated[int, PlainValidator(_port, json_schema_input_type=int)]
type _SchemeField = Annotated[Scheme, PlainValidator(word(Scheme), json_schema_input_type=Literal["http", "https"])]


class PathPrefixModel(_Strict):
    """Replaces the beginning of a path. A path that does not begin so is refused."""

    old: _PrefixField = Field(alias="from", description="What the path must begin with, whole segments.")
    new: _PrefixField = Field(alias="to", description="What stands there instead; `/` takes it away.")


type _PathPrefixField = Annotated[
    PathPrefixModel, BeforeValidator(_put_before, json_schema_input_type=str | PathPrefixModel)
]


class RewriteModel(_Strict):
    """Where the request goes instead. What is left out stays as it was asked."""

    scheme: _SchemeField | None = Field(None, description="`https`, or `http`: in the clear, and without secrets.")
    host: _HostField | None = Field(None, description="The host that is reached instead; rules must allow it too.")
    port: _PortField | None = Field(None, description="Its port; left out, that of `scheme`, else the one asked for.")
    path_prefix: _PathPrefixField | None = Field(
        None, description="`/api` is put before the path; `{from: /v1, to: /api/v1}` replaces its beginning."
    )

    def value(self) -> Rewrite:
        """The policy core's."""
        moved = self.path_prefix
        path = None if moved is None else PathPrefix(moved.old, moved.new)
        return Rewrite(self.scheme, self.host, self.port, path)
