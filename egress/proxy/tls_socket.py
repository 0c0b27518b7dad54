"""A TLS socket for the hot path: reads and writes go straight to OpenSSL, and nothing is ever sent around it.

1. `recv`, `recv_into` and `send` skip the checks that `ssl.SSLSocket` makes anew at each call, which cost about as much
   as a small record's decryption. Flags are not taken.
2. Where TLS has ended, or never began because the peer had left, sending fails. `ssl.SSLSocket` would send in the
   clear.
3. `shutdown` says the end inside TLS before it says it in TCP. What is read from then on is ciphertext, to be thrown
   away.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Buffer

_DEFAULT_SIZE = 1024


class TlsSocket(ssl.SSLSocket):
    """Either side of a connection; an SSLContext makes it through its `sslsocket_class`."""

    # CPython's own object for the connection; None before and after TLS.
    _sslobj: Any

    def recv(self, buflen: int = _DEFAULT_SIZE, flags: int = 0) -> bytes:
        """At most `buflen` bytes; empty at an end that was said inside TLS."""
        inside = self._sslobj
        data: bytes = super().recv(buflen, flags) if inside is None or flags else inside.read(buflen)
        return data

    def recv_into(self, buffer: Buffer, nbytes: int | None = None, flags: int = 0) -> int:
        """Read into `buffer`, which must have room; 0 at an end that was said inside TLS."""
        inside = self._sslobj
        if inside is None or flags:
            return super().recv_into(buffer, nbytes, flags)
        size: int = inside.read(memoryview(buffer).nbytes if nbytes is None else nbytes, buffer)
        return size

    def send(self, data: Buffer, flags: int = 0) -> int:
        """Send what goes into a record; the number of bytes taken."""
        inside = self._sslobj
        if inside is None:
            raise OSError(errno.EPIPE, "TLS has ended")
        if flags:
            raise ValueError("flags mean nothing inside TLS")
        size: int = inside.write(data)
        return size

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        """Send all of it, waiting as the socket's timeout says."""
        if self._sslobj is None:
            raise OSError(errno.EPIPE, "TLS has ended")
        super().sendall(data, flags)

    def shutdown(self, how: int) -> None:
        """Say the end, inside TLS and in TCP."""
        if self._sslobj is not None and how != socket.SHUT_RD:
            # It also looks for the peer's word and complains of data in its place; ours is out by then.
            with contextlib.suppress(OSError):
                self._sslobj.shutdown()
        super().shutdown(how)
