"""How providers ask services: HTTPS that is verified, to addresses that we resolve and dial ourselves.

1. what may be asked   https, and http at loopback and link-local addresses alone (a machine's own metadata services)
2. what never happens  a redirect followed, a proxy or a netrc taken from the environment, a cookie kept, a connection
                       used twice, a body beyond a megabyte read
3. what goes wrong     is a CredentialError about the host: the libraries' own messages quote headers and URLs, so none
                       of them is passed on, not even as the error's cause
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Protocol

import httpx

from egress.credentials.providers.interface import Answer
from egress.credentials.providers.transport import Transport
from egress.errors import CredentialError

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from pathlib import Path

    from egress.policy import Address

MAX_BODY = 1024 * 1024
_LOCALHOST = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
_OWN_HEADERS = {
    # GitHub refuses requests without one.
    "User-Agent": "egress",
    "Accept": "application/json",
    # A compressed answer can be small on the wire and large in memory.
    "Accept-Encoding": "identity",
    "Connection": "close",
}


class Resolve(Protocol):
    """Names to addresses, by the proxy's own resolver."""

    async def __call__(self, name: str) -> tuple[Address, ...]:
        """The addresses of `name`, best first; empty if there are none. Never raises for a name."""


class Dial(Protocol):
    """Opening a TCP connection."""

    async def __call__(self, addresses: tuple[Address, ...], port: int) -> socket.socket | None:
        """A connected, non-blocking socket to one of `addresses`; None if none could be reached."""


class Through(Protocol):
    """Opening a TCP connection by way of an upstream proxy, which resolves the name."""

    async def __call__(self, host: str, port: int) -> socket.socket | None:
        """A connected, non-blocking socket whose other end is `host`; None if there is none. TLS is not begun."""


@dataclass(slots=True)
class Web:
    """`call` of `Means`. `roots`: the PEM file of the certificates that are trusted, and no others.

    `seconds` is for a call as a whole. `through`, if given, is the way of everything that goes over https.
    """

    roots: Path
    resolve: Resolve
    dial: Dial
    through: Through | None = None
    seconds: float = 10.0
    _context: ssl.SSLContext | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        # Below this level they write URLs and the headers of answers.
        for library in ("httpx", "httpcore"):
            logging.getLogger(library).setLevel(logging.WARNING)

    async def call(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Ask a service. Raises CredentialError where there is no whole answer."""
        target = _checked_target(url)
        context = await asyncio.to_thread(self._trusting) if target.scheme == "https" else None
        try:
            async with asyncio.timeout(self.seconds):
                return await self._ask(method, target, {**_OWN_HEADERS, **(headers or {})}, body, context)
        except CredentialError as error:
            failure = error
        except ssl.SSLCertVerificationError as error:
            failure = _failure(target.host, f"has no certificate that we trust ({error.verify_message})")
        except TimeoutError:
            failure = _failure(target.host, "gave no answer in time")
        except Exception as error:  # noqa: BLE001 - whatever the libraries raise may quote a header that is a secret
            failure = _failure(target.host, f"gave no answer that can be read ({type(error).__name__})")
        raise failure

    async def _ask(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], body: bytes, context: ssl.SSLContext | None
    ) -> Answer:
        transport = Transport(partial(self._connected, secure=context is not None), context)
        async with (
            httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False, timeout=None) as client,  # noqa: S113 - `call` has the time
            client.stream(method, url, headers=headers, content=body) as response,
        ):
            return Answer(response.status_code, dict(response.headers.items()), await _whole_body(response))

    def _trusting(self) -> ssl.SSLContext:
        if self._context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            try:
                context.load_verify_locations(cafile=self.roots)
            except OSError as error:
                raise CredentialError(
                    f"cannot load the trusted certificates of `{self.roots}`: {error.strerror or 'not PEM'}"
                ) from error
            self._context = context
        return self._context

    async def _connected(self, host: str, port: int, *, secure: bool) -> socket.socket:
        """A connection to `host`. Raises CredentialError."""
        if secure and self.through is not None:
            sock = await self.through(host, port)
        else:
            addresses = await self._addresses(host)
            if not secure:
                addresses = tuple(address for address in addresses if address.is_loopback or address.is_link_local)
                if not addresses:
                    raise _failure(host, "is asked over plain http, which is for this machine's own services only")
            if not addresses:
                raise _failure(host, "has no address")
            sock = await self.dial(addresses, port)
        if sock is None:
            raise _failure(host, "cannot be reached")
        return sock

    async def _addresses(self, host: str) -> tuple[Address, ...]:
        try:
            return (ip_address(host.strip("[]")),)
        except ValueError:
            # RFC 6761, section 6.3: never a question for DNS.
            return _LOCALHOST if host == "localhost" else await self.resolve(host)


def _checked_target(url: str) -> httpx.URL:
    target = None
    with contextlib.suppress(httpx.InvalidURL, ValueError):
        target = httpx.URL(url)
    if target is None or target.scheme not in {"https", "http"} or not target.host:
        raise CredentialError("the address of a service is not a URL of https or http", hint="write https://HOST/...")
    if target.userinfo or target.fragment:
        raise CredentialError(f"the URL at `{target.host}` holds a user or a fragment", hint="take it out")
    return target


async def _whole_body(response: httpx.Response) -> bytes:
    host = response.request.url.host
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise _failure(host, "sent a compressed answer, unasked")
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > MAX_BODY:
            raise _failure(host, "answered with more than a megabyte")
    return bytes(body)


def _failure(host: str, what: str) -> CredentialError:
    return CredentialError(f"`{host}` {what}", hint="check the address, the network and the trusted certificates")
