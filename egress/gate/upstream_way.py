"""The way out through an upstream proxy: what a grant permits, asked of the proxy in place of being dialled.

1. The destination was named, judged, resolved and judged by address before this is asked, exactly as without a proxy.
2. The proxy is asked for the address that was judged, or (`connect: name`) for its name; for nothing else, ever.
3. The proxy's own address is what we resolve and dial here, and the peer that is compared. The operator named it, so no
   rule judges it; as a destination it is refused, or a sandbox could say to the proxy what it wants.
4. Whatever goes wrong is a `DialFailure`. There is no way around the proxy but for what the configuration excepts.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from egress.config import ConnectBy, ProxyScheme
from egress.errors import EgressError
from egress.gate.dial import DialFailure, Dialled, dial
from egress.gate.grant import Grant
from egress.gate.proxy_talk import PlainTalk, ProxyError, SignInError, ask
from egress.gate.proxy_tls import TlsTalk, proxy_context
from egress.policy import Refusal, parse_host

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path
    from typing import Protocol

    from egress.config import UpstreamProxy
    from egress.credentials import Secret
    from egress.gate.own import OwnListeners
    from egress.gate.proxy_password import ProxyPassword
    from egress.policy import Address, Decision, Request

    class Names(Protocol):
        """What resolves the proxy's own name."""

        async def resolve(self, name: str) -> Found:
            """Addresses of a canonical name."""

    class Found(Protocol):
        """What a name resolves to."""

        @property
        def addresses(self) -> tuple[Address, ...]:
            """In the resolver's order."""


logger = logging.getLogger(__name__)

_LEAST_SECONDS: Final = 0.5
_LATE: Final = "the upstream proxy did not answer in time"


@dataclass(slots=True, eq=False)
class UpstreamWay:
    """One a process. `roots`: the PEM file that an https proxy is verified with, beside its own."""

    proxy: UpstreamProxy
    names: Names
    own: OwnListeners
    password: ProxyPassword
    roots: Path
    _context: ssl.SSLContext | None = field(default=None, repr=False)
    _relays: set[asyncio.Task[None]] = field(default_factory=set, repr=False)

    async def dial(self, grant: Grant, *, timeout_seconds: float) -> Dialled | DialFailure:
        """Connect to one of the grant's addresses, through the proxy where it serves them. Never raises for a failure.

        The addresses are tried in order; with `connect: name`, those that the proxy serves are one try.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        share = max(timeout_seconds / max(len(grant.addresses), 1), _LEAST_SECONDS)
        outcome: Dialled | DialFailure = DialFailure("no address to dial")
        asked = False
        for address in grant.addresses:
            relayed = self._serves(grant.host, grant.port, address)
            if relayed and asked and self.proxy.connect is ConnectBy.NAME:
                continue
            left = deadline - loop.time()
            if left <= 0:
                break
            if self.proxy.connect is ConnectBy.NAME and relayed:
                share = left
            one = replace(grant, addresses=(address,))
            outcome, final = await self._one(one, min(share, left), relayed=relayed)
            asked = asked or relayed
            if final or isinstance(outcome, Dialled):
                break
        return outcome

    def told(self, decision: Decision, request: Request, addresses: tuple[Address, ...]) -> Decision:
        """The decision for the audit: it says so where the proxy is the way."""
        if not self.proxy.serves(request.host, request.port, addresses[0]):
            return decision
        return replace(decision, detail=f"{decision.detail} By way of `{self.proxy.address}`.".strip())

    def known(self) -> tuple[Secret, ...]:
        """Values that are held here, for the cleaning of logs."""
        return self.password.known()

    def check(self) -> None:
        """Find what is wrong with files and the password before the first connection. Raises EgressError."""
        if self.proxy.address.scheme is ProxyScheme.HTTPS:
            self._trusting()
        if self.proxy.password is not None:
            self.password.read()

    def _serves(self, name: str, port: int, address: Address) -> bool:
        host = parse_host(name)
        # What is no host is refused where it would be sent.
        return isinstance(host, Refusal) or self.proxy.serves(host, port, address)

    async def _one(self, grant: Grant, seconds: float, *, relayed: bool) -> tuple[Dialled | DialFailure, bool]:
        """One try, and whether it is the last."""
        try:
            async with asyncio.timeout(seconds):
                return await self._reached(grant, seconds, relayed=relayed), False
        except TimeoutError:
            failure = ProxyError(_LATE)
        except ProxyError as error:
            failure = error
        except OSError:
            failure = ProxyError("the connection to the upstream proxy broke")
        except EgressError as error:
            logger.error("the upstream proxy cannot be used: %s", error)  # noqa: TRY400 -- its cause may quote
            failure = ProxyError("we cannot sign in to the upstream proxy, see the proxy's log", final=True)
        if isinstance(failure, SignInError):
            self.password.refused()
        return DialFailure(failure.detail), failure.final

    async def _reached(self, grant: Grant, seconds: float, *, relayed: bool) -> Dialled | DialFailure:
        """Raises ProxyError, OSError, EgressError."""
        # At its own port, before any dial: at any other, the policy's word on the address stands.
        if grant.port == self.proxy.address.port and await self._is_proxy(grant):
            raise ProxyError("the destination is the upstream proxy itself", final=True)
        if not relayed:
            return await dial(grant, timeout_seconds=seconds)
        return Dialled(await self._connected(grant, seconds), grant.addresses[0], relayed=True)

    async def _is_proxy(self, grant: Grant) -> bool:
        return grant.host == self.proxy.address.host.text or _plain(grant.addresses[0]) in await self._addresses()

    async def _addresses(self) -> tuple[Address, ...]:
        """The proxy's own. Raises ProxyError where there are none, or where they are ours."""
        host, port = self.proxy.address.host, self.proxy.address.port
        found = (host.address,) if host.address is not None else (await self.names.resolve(host.text)).addresses
        addresses = tuple(map(_plain, found))
        if not addresses:
            raise ProxyError("the upstream proxy's name does not resolve", final=True)
        for address in addresses:
            if not self.own.is_upstream(address, port):
                if self.own.includes(address, port):
                    raise ProxyError("the upstream proxy is this proxy itself", final=True)
                self.own.learn_upstream(address, port)
        return addresses

    async def _connected(self, grant: Grant, seconds: float) -> socket.socket:
        """A socket that the proxy has connected to the destination. Raises ProxyError, OSError, EgressError."""
        address = self.proxy.address
        if self.password.rests:
            raise ProxyError("the upstream proxy did not accept who we are a moment ago", final=True)
        password = await self.password.get()
        to = Grant("", "", address.port, tls=False, addresses=await self._addresses(), expires=float("inf"))
        reached = await dial(to, timeout_seconds=seconds)
        if isinstance(reached, DialFailure):
            raise ProxyError(f"the upstream proxy cannot be reached: {reached.detail}", final=True)
        where = (grant.host if self.proxy.connect is ConnectBy.NAME else str(grant.addresses[0]), grant.port)
        sock = reached.sock
        try:
            if address.scheme is not ProxyScheme.HTTPS:
                talk = PlainTalk(sock)
                await ask(talk, address.scheme, where, self.proxy.user, password)
                _refuse_more(talk.more, grant)
                return sock
        except BaseException:
            sock.close()
            raise
        secure = await TlsTalk.begin(sock, address.host.text, self._trusting())
        try:
            await ask(secure, address.scheme, where, self.proxy.user, password)
            _refuse_more(secure.more, grant)
            return self._relayed(secure)
        except BaseException:
            secure.abort()
            raise

    def _relayed(self, talk: TlsTalk) -> socket.socket:
        near, far = socket.socketpair()
        for end in (near, far):
            end.setblocking(False)  # noqa: FBT003 - the method takes it so
        task = asyncio.get_running_loop().create_task(talk.relay(near))
        self._relays.add(task)
        task.add_done_callback(partial(_ended, self._relays))
        return far

    def _trusting(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = proxy_context(self.roots, self.proxy.ca)
        return self._context


def _plain(address: Address) -> Address:
    """The address itself, or the IPv4 one that an IPv6 address spells."""
    return getattr(address, "ipv4_mapped", None) or address


def _refuse_more(more: Callable[[], bool], grant: Grant) -> None:
    """Only of raw TCP may the server be first to speak; else nobody was asked anything yet. Raises ProxyError."""
    if not grant.raw and more():
        raise ProxyError("the upstream proxy sent more than its answer")


def _ended(relays: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
    relays.discard(task)
    if not task.cancelled() and task.exception() is not None:
        logger.error("a relay to the upstream proxy failed", exc_info=task.exception())
