"""TLS as a client over a stream of bytes, with everything that came before an end delivered before that end.

The event loops' own TLS is not used: one of them drops what it has not delivered yet where the peer closes without
saying so in TLS, as many do. Such an end is told as an end here, as over plain TCP: what is inside says for itself
whether it is whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK: Final = 65_536
# A peer that takes nothing more would else keep a closed connection for as long as it likes.
_LAST_SECONDS: Final = 10.0


class TlsStream:
    """One coroutine reads and one writes at a time."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext, host: str
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._came = ssl.MemoryBIO()
        self._due = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._came, self._due, server_hostname=host)

    @classmethod
    async def begin(cls, sock: socket.socket, host: str, context: ssl.SSLContext) -> Self:
        """After the handshake; `sock` gives its descriptor away. Raises OSError, among them ssl.SSLError."""
        own = socket.socket(fileno=sock.detach())
        try:
            streams = await asyncio.open_connection(sock=own)
        except BaseException:
            own.close()
            raise
        stream = cls(*streams, context, host)
        try:
            await stream._when_ready(stream._tls.do_handshake)
            await stream._flush()
        except BaseException:
            # What is left to say is an alert, which tells the peer why.
            streams[1].write(stream._due.read())
            streams[1].close()
            raise
        return stream

    async def read(self) -> bytes:
        """What is there, at least one byte; empty at the end. Raises OSError."""
        try:
            return await self._when_ready(lambda: self._tls.read(_CHUNK))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def write(self, data: bytes) -> None:
        """Send all of it. Raises OSError."""
        self._tls.write(data)
        await self._flush()

    def close(self) -> None:
        """Close it, once what was written is sent, or after a while. Safe to call again."""
        if not self._writer.is_closing():
            # The peer's own word is not waited for.
            with contextlib.suppress(OSError, ValueError):
                self._tls.unwrap()
            self._writer.write(self._due.read())
            self._writer.close()
            transport = self._writer.transport
            if transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(_LAST_SECONDS, transport.abort)

    def abort(self) -> None:
        """Close it at once."""
        self._writer.transport.abort()

    async def _flush(self) -> None:
        """Send what is due, and wait for room. Who only reads waits for none: the peer may read once it has spoken."""
        if self._due.pending:
            self._writer.write(self._due.read())
            await self._writer.drain()

    async def _when_ready[Result](self, step: Callable[[], Result]) -> Result:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._reader.read(_CHUNK)
                if data:
                    self._came.write(data)
                else:
                    self._came.write_eof()
