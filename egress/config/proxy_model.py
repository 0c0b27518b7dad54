"""`upstream: {proxy: ...}`: the proxy that is the way out, as it is written.

INVARIANT secret-confinement: a URL with a password is refused, and no message about a URL quotes it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, PlainValidator

from egress.config.fields import listed, text, wrong
from egress.config.policy_model import Strict
from egress.config.secret_sources import FileSource
from egress.config.source_fields import LeafField  # noqa: TC001  pydantic reads it at run time
from egress.config.upstream_proxy import ConnectBy, ProxyAddress, ProxyScheme, UpstreamProxy
from egress.config.wording import did_you_mean, kind_of, one_of, quoted
from egress.policy import AnyTarget, Refusal, Target, TargetError, parse_host, parse_target

if TYPE_CHECKING:
    from pathlib import Path

_HINT: Final = "write `http://proxy.corp.example:3128`"
_LONGEST_USER: Final = 255


def read_proxy_url(value: object) -> ProxyAddress:
    """`SCHEME://HOST:PORT`, where SCHEME is `http`, `https` or `socks5`."""
    written = text(value)
    if "@" in written:
        message = "a user and a password do not stand in the URL of a proxy, where everybody may read them"
        raise wrong(message, "write `upstream: {proxy: {url: ..., user: NAME, password: {env: VARIABLE}}}` in the file")
    try:
        parts = urlsplit(written)
        scheme, host, port = parts.scheme, parse_host(parts.hostname or "", brackets=False), parts.port
    except ValueError:
        raise wrong("this is not the URL of a proxy", _HINT) from None
    if scheme == "socks5h":
        raise wrong(
            "`socks5h` is no scheme here", "write `socks5`, and `connect: name` to have the proxy resolve names"
        )
    if scheme not in set(ProxyScheme) or not parts.netloc:
        raise wrong(f"the URL of a proxy begins with {one_of(f'{word}://' for word in ProxyScheme)}", _HINT)
    if isinstance(host, Refusal) or not written.isprintable() or " " in written:
        raise wrong("this is not the URL of a proxy", _HINT)
    if parts.path not in {"", "/"} or parts.query or parts.fragment or "?" in written or "#" in written:
        raise wrong("the URL of a proxy ends with its port", _HINT)
    if not port:
        raise wrong("the port of the proxy is missing", f"write it, as in `{scheme}://proxy.corp.example:3128`")
    return ProxyAddress(ProxyScheme(scheme), host, port)


def _user(value: object) -> str:
    written = text(value)
    if not written or not written.isprintable() or len(written.encode()) > _LONGEST_USER:
        raise wrong(f"this should be 1 to {_LONGEST_USER} printable characters", "write the user's name at the proxy")
    return written


def _direct(value: object) -> Target:
    written = text(value)
    parsed = parse_target(written)
    if isinstance(parsed, TargetError):
        raise wrong(parsed.message, parsed.hint)
    if isinstance(parsed.what, AnyTarget):
        raise wrong("with `**` nothing would go through the proxy", "remove it, or the proxy")
    return parsed


def _connect(value: object) -> ConnectBy:
    if not isinstance(value, str):
        raise wrong(f"should be {one_of(ConnectBy)}, not {kind_of(value)}")
    if value not in set(ConnectBy):
        raise wrong(f"unknown word {quoted(value)}", did_you_mean(value, list(ConnectBy)))
    return ConnectBy(value)


def _file_path(value: object) -> str:
    written = text(value)
    if not written or not written.isprintable():
        raise wrong(f"{quoted(written)} is not a path", "write a file's path")
    return written


type _Url = Annotated[ProxyAddress, PlainValidator(read_proxy_url, json_schema_input_type=str)]
type _User = Annotated[str, PlainValidator(_user, json_schema_input_type=str)]
type _Connect = Annotated[ConnectBy, PlainValidator(_connect, json_schema_input_type=str)]
type _Target = Annotated[Target, PlainValidator(_direct, json_schema_input_type=str)]
type _Targets = Annotated[list[_Target], BeforeValidator(listed, json_schema_input_type=str | list[str])]
type _File = Annotated[str, PlainValidator(_file_path, json_schema_input_type=str)]
type _Files = Annotated[list[_File], BeforeValidator(listed, json_schema_input_type=str | list[str])]


class ProxyModel(Strict):
    """The proxy that connections to servers go through."""

    url: _Url | None = None
    user: _User | None = None
    password: LeafField | None = None
    connect: _Connect | None = None
    direct: _Targets | None = Field(None, alias="except")
    ca: _Files | None = None

    def problem(self, address: ProxyAddress | None) -> tuple[str, str, str] | None:
        """What is wrong with the keys together: a key, a message and a hint. `address` is the one in force."""
        if address is None:
            return "", "`url` is missing", _HINT
        if self.user is None and self.password is not None:
            return "password", "a password without a `user`", "write `user: NAME` beside it"
        if self.user is not None and self.password is None:
            return "user", "a user without a `password`", "write `password: {env: VARIABLE}` beside it"
        if address.scheme is not ProxyScheme.SOCKS5 and ":" in (self.user or ""):
            return "user", "a user of an HTTP proxy has no `:`", "write the name alone"
        if address.scheme is not ProxyScheme.HTTPS and self.ca:
            return (
                "ca",
                "`ca` is for a proxy that is spoken to over https",
                "remove it; roots of servers are `upstream.ca`",
            )
        return None

    def proxy(self, address: ProxyAddress, folder: Path) -> UpstreamProxy:
        """What it means, with paths taken from `folder`."""
        password = self.password
        if isinstance(password, FileSource):
            password = replace(password, path=folder / password.path)
        return UpstreamProxy(
            address,
            self.user,
            password,
            self.connect or ConnectBy.ADDRESS,
            tuple(self.direct or ()),
            tuple(folder / path for path in self.ca or ()),
        )


def _short(value: object) -> object:
    return {"url": value} if isinstance(value, str) else value


type ProxyField = Annotated[ProxyModel, BeforeValidator(_short, json_schema_input_type=str | ProxyModel)]
