"""Asking an upstream proxy for a connection, over a connection to it, and reading its answers to their exact length.

1. What the proxy sends is bounded by the parsers of `wire`; an end, or anything that they reject, is a `ProxyError`.
2. Nothing beyond an answer is taken out of the socket: what follows belongs to the tunnel.
3. No sentence here holds a byte of the proxy's, of the destination's or of the password.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Final, Protocol

from egress.config import ProxyScheme
from egress.wire.connect_reply import Accepted, Declined, connect_head, parse_connect_reply
from egress.wire.outcome import NeedMore, Reject
from egress.wire.socks_reply import (
    USER,
    connect_message,
    greeting,
    parse_connected,
    parse_method,
    parse_signed_in,
    sign_in,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.credentials import Secret
    from egress.wire.connect_reply import Answer

    type Parse = Callable[[bytes], Answer]

# More than any answer may have.
_LOOK: Final = 16_384
_WOULD_BLOCK: Final = (BlockingIOError, InterruptedError)


class ProxyError(Exception):
    """The proxy did not connect. `detail` is one sentence of ours; `final`: to no other address would it either."""

    def __init__(self, detail: str, *, final: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.final = final


class SignInError(ProxyError):
    """The proxy did not accept who we are."""


class Talk(Protocol):
    """A connection to the proxy."""

    async def send(self, data: bytes) -> None:
        """Send all of it. Raises OSError."""

    async def answer(self, parse: Parse) -> Accepted:
        """Read what `parse` reads, and no more. Raises ProxyError, OSError."""

    def more(self) -> bool:
        """Whether something, or the end, has come behind the last answer."""


class PlainTalk:
    """Over a socket whose next byte must be the tunnel's once this is done."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def send(self, data: bytes) -> None:
        """Send all of it. Raises OSError."""
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def answer(self, parse: Parse) -> Accepted:
        """Read what `parse` reads: what is there is looked at first, and taken out once it is known to belong to it."""
        held = b""
        while True:
            seen = await self._peek()
            accepted = judged(parse, held + seen, ended=not seen)
            self._sock.recv(len(seen) if accepted is None else accepted.length - len(held))
            if accepted is not None:
                return accepted
            held += seen

    def more(self) -> bool:
        """Whether something, or the end, has come behind the last answer."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except _WOULD_BLOCK:
            return False
        return True

    async def _peek(self) -> bytes:
        while True:
            try:
                return self._sock.recv(_LOOK, socket.MSG_PEEK)
            except _WOULD_BLOCK:
                await readable(self._sock)


def judged(parse: Parse, data: bytes, *, ended: bool) -> Accepted | None:
    """What `parse` makes of the bytes so far; None: it needs more. Raises ProxyError."""
    found = parse(data)
    match found:
        case Accepted():
            return found
        case Declined(detail, final):
            raise SignInError(detail, final=True) if final else ProxyError(detail)
        case Reject(_, detail):
            raise ProxyError(f"the upstream proxy gave no answer that can be read: {detail}")
        case NeedMore():
            if ended:
                raise ProxyError("the upstream proxy closed the connection")
            return None


async def readable(sock: socket.socket) -> None:
    """Wait until there is something to read, or an end."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    descriptor = sock.fileno()
    loop.add_reader(descriptor, tell)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


async def ask(
    talk: Talk, scheme: ProxyScheme, where: tuple[str, int], user: str | None, password: Secret | None
) -> None:
    """Have the proxy connect to `where`, a host and port. Raises ProxyError, OSError."""
    host, port = where
    held = "" if password is None else password.reveal()
    try:
        if scheme is ProxyScheme.SOCKS5:
            request = connect_message(host, port)
            signing = b"" if user is None else sign_in(user, held)
        else:
            request, signing = connect_head(host, port, user, held), b""
    except ValueError:
        # Not the error: a destination, or the password, may be in it.
        raise ProxyError("this destination, or our sign-in, cannot be said to the upstream proxy") from None
    if scheme is ProxyScheme.SOCKS5:
        await _greet(talk, signing)
    await talk.send(request)
    await talk.answer(parse_connected if scheme is ProxyScheme.SOCKS5 else parse_connect_reply)


async def _greet(talk: Talk, signing: bytes) -> None:
    user = bool(signing)
    await talk.send(greeting(user=user))
    method = await talk.answer(lambda data: parse_method(data, user=user))
    if method.choice == USER:
        await talk.send(signing)
        await talk.answer(parse_signed_in)
