"""TLS to an upstream proxy, and the relay that makes a plain socket of it for the lanes.

1. The proxy's certificate is verified for its configured host, against the roots of upstreams and its own; what is
   inside is verified again, for the origin, by the lane.
2. A lane reads and writes a socket of the kernel. It gets one end of a pair; a task moves bytes between the other end
   and TLS, and ends when either side has; also where the proxy takes nothing more of what is still to be sent.
3. TLS here has no half-close: what the lane says no more is not passed on, while what comes back still is.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import ssl
from typing import TYPE_CHECKING, Final, Self

from egress.errors import StateError
from egress.gate.proxy_talk import ProxyError, judged
from egress.gate.tls_stream import TlsStream

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable
    from pathlib import Path

    from egress.gate.proxy_talk import Parse
    from egress.wire.connect_reply import Accepted

_CHUNK: Final = 65_536
# How often a connection that the lane writes no more to is looked at: it may be gone.
_LOOK_SECONDS: Final = 1.0
# How often while there is more to send, and how long a part of that may take: no limit of the lane's holds it any more.
_LAST_SECONDS: Final = 10.0


def proxy_context(roots: Path, extra: Iterable[Path]) -> ssl.SSLContext:
    """What verifies the proxy. Raises StateError for a file that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    for path in (roots, *extra):
        try:
            context.load_verify_locations(path)
        except OSError as error:
            raise StateError(
                f"cannot use the roots in `{path}`: {error.strerror or 'they are no certificates in PEM'}",
                hint="name a PEM file in `upstream: {proxy: {ca: ...}}`",
            ) from error
    return context


class TlsTalk:
    """Over TLS. `rest`: what came behind the last answer."""

    def __init__(self, stream: TlsStream) -> None:
        self._stream = stream
        self.rest = b""
        self._taken = 0

    @classmethod
    async def begin(cls, sock: socket.socket, host: str, context: ssl.SSLContext) -> Self:
        """The handshake; `sock` gives its descriptor away. Raises ProxyError."""
        try:
            return cls(await TlsStream.begin(sock, host, context))
        except ssl.SSLCertVerificationError as error:
            detail = f"the upstream proxy's certificate is not trusted: {error.verify_message}"
            raise ProxyError(detail, final=True) from None
        except OSError:
            raise ProxyError("the TLS handshake with the upstream proxy failed") from None

    async def send(self, data: bytes) -> None:
        """Send all of it. Raises OSError."""
        await self._stream.write(data)

    async def answer(self, parse: Parse) -> Accepted:
        """Read what `parse` reads; what came behind it is kept. Raises ProxyError, OSError."""
        ended = False
        while True:
            accepted = judged(parse, self.rest, ended=ended)
            if accepted is not None:
                self.rest = self.rest[accepted.length :]
                return accepted
            came = await self._stream.read()
            ended = not came
            self.rest += came

    def more(self) -> bool:
        """Whether something has come behind the last answer."""
        return bool(self.rest)

    def abort(self) -> None:
        """Close it at once."""
        self._stream.abort()

    async def relay(self, near: socket.socket) -> None:
        """Move bytes between `near` and the proxy until one side ends; both are closed then."""
        try:
            reader, writer = await asyncio.open_unix_connection(sock=near)
        except BaseException:
            near.close()
            self.abort()
            raise
        loop = asyncio.get_running_loop()
        up = loop.create_task(self._up(reader))
        watch = loop.create_task(self._end_with(near, up))
        try:
            data = self.rest or await self._stream.read()
            while data:
                writer.write(data)
                await writer.drain()
                data = await self._stream.read()
        except OSError:
            writer.transport.abort()
        finally:
            up.cancel()
            watch.cancel()
            writer.close()
            self._stream.close()

    async def _up(self, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(_CHUNK):
                await self._stream.write(data)
                self._taken += len(data)
        except Exception:  # noqa: BLE001 - whichever side broke, there is nobody to deliver to
            self.abort()

    async def _end_with(self, near: socket.socket, up: asyncio.Task[None]) -> None:
        """Once the lane is gone, close: `relay` then sees the end. INVARIANT bounded: a proxy that stalls is left."""
        while not _is_gone(near):  # the kernel tells of no event
            if up.done():
                await asyncio.sleep(_LOOK_SECONDS)
            else:
                await asyncio.wait((up,), timeout=_LAST_SECONDS)
        # What was written last is still sent, as long as it is taken.
        taken = -1
        while not up.done() and taken != self._taken:
            taken = self._taken
            await asyncio.wait((up,), timeout=_LAST_SECONDS)
        if up.done():
            self._stream.close()
        else:
            self.abort()


def _is_gone(sock: socket.socket) -> bool:
    """Whether the other end is closed, and not only done with writing."""
    look = select.poll()
    with contextlib.suppress(OSError, ValueError):
        look.register(sock.fileno(), 0)
        return any(event & (select.POLLHUP | select.POLLERR) for _, event in look.poll(0))
    return True
