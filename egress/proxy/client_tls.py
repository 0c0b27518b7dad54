"""TLS towards clients: our leaf for the destination that was judged, whatever name the client's hello bears.

1. Every handshake begins on one base context, which is made before the workers are forked. Its ticket keys are theirs
   alike, so that a session resumes in whichever worker takes the connection.
2. The base context has no certificate. Whoever judged the destination gives the leaf; the hello's SNI picks nothing,
   and a handshake that was given no leaf fails.
3. A session says nothing of a name: one that was made for a name resumes for any other. What a connection may do hangs
   on the destination that was judged, never on its session.
4. TLS 1.2 or later, no renegotiation, `http/1.1` by ALPN. A client that offers none of it is not answered with it: its
   first bytes are then no request of HTTP/1.1, and are refused as such.
5. The leaf's key goes from the authority's memory to OpenSSL's. No file on a disk ever holds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization

from egress.errors import StateError
from egress.proxy.tls_socket import TlsSocket

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from cryptography.x509 import Certificate

    from egress.certs import Authority, Leaf

# 10 to 20 KB each. A sandbox that walks through the names of a wildcard rule displaces them, it does not add memory.
MAX_CONTEXTS = 1024
# A resumed handshake brings a new ticket, so one is enough; each costs a record and its encryption.
_TICKETS = 1


class _ClientSocket(TlsSocket):
    """A server-side socket that knows which leaf it is to present."""

    leaf: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class _Ready:
    """A leaf's context, from when on (in Unix time) it is to be made anew, and the CA that was asked for it."""

    context: ssl.SSLContext
    renew_after: float
    issuer: Certificate


@dataclass(slots=True, eq=False)
class _Making:
    """A leaf's context in the making, and how many wait for it."""

    future: asyncio.Future[_Ready]
    waiters: int = 0


class ClientTls:
    """Makes the server side of handshakes with clients. One a process tree; its methods run on the loop's thread.

    A leaf costs about 2 ms of CPU, most of it OpenSSL's reading of the key, and is made in a thread, one at a time.
    """

    def __init__(
        self, authority: Authority, *, clock: Callable[[], float] = time.time, max_contexts: int = MAX_CONTEXTS
    ) -> None:
        self._authority = authority
        self._clock = clock
        self._max_contexts = max_contexts
        self._base = _context()
        self._base.sslsocket_class = _ClientSocket
        self._base.sni_callback = _present_leaf
        self._ready: OrderedDict[str, _Ready] = OrderedDict()
        self._making: dict[str, _Making] = {}
        self._thread: ThreadPoolExecutor | None = None

    def known(self, host: str) -> ssl.SSLContext | None:
        """The context of the leaf for `host`, if it is there and need not be renewed."""
        ready = self._ready.get(host)
        if ready is None or self._clock() >= ready.renew_after or ready.issuer is not self._authority.certificate:
            return None
        self._ready.move_to_end(host)
        return ready.context

    async def prepare(self, host: str) -> ssl.SSLContext:
        """The context of the leaf for `host`, made if need be, once for all who ask meanwhile.

        Raises `ValueError` for a host that no certificate can name, `StateError` if the CA has expired or nothing can
        be made now.
        """
        known = self.known(host)
        if known is not None:
            return known
        making = self._making.get(host)
        if making is None:
            making = self._making[host] = _Making(self._make(host))
        making.waiters += 1
        try:
            ready = await asyncio.shield(making.future)
        finally:
            making.waiters -= 1
            if not making.waiters:
                # Nobody waits any more: what has not begun is dropped, so that the thread's queue is bounded by
                # the connections that are open.
                making.future.cancel()
                if self._making.get(host) is making:
                    del self._making[host]
        self._remember(host, ready)
        return ready.context

    def wrap(self, sock: socket.socket, leaf: ssl.SSLContext) -> ssl.SSLSocket:
        """The server side of a connection, before its handshake, which reads again what was only peeked at.

        `sock` gives its descriptor away. Raises OSError; `sock` is still to be closed then.
        """
        wrapped = self._base.wrap_socket(
            sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        wrapped.leaf = leaf  # type: ignore[attr-defined] # it is a _ClientSocket: the context's sslsocket_class
        return wrapped

    def close(self) -> None:
        """Make no more leaves."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _make(self, host: str) -> asyncio.Future[_Ready]:
        if self._thread is None:
            # Here and not in the constructor: a thread does not survive the fork.
            self._thread = ThreadPoolExecutor(1, "leaf")
        return asyncio.get_running_loop().run_in_executor(self._thread, self._build, host)

    def _build(self, host: str) -> _Ready:
        """Runs in the thread."""
        # Asked first: a leaf of a CA that was replaced meanwhile is then made anew, never kept.
        issuer = self._authority.certificate
        leaf = self._authority.leaf(host)
        return _Ready(_leaf_context(leaf), leaf.renew_after.timestamp(), issuer)

    def _remember(self, host: str, ready: _Ready) -> None:
        self._ready[host] = ready
        self._ready.move_to_end(host)
        while len(self._ready) > self._max_contexts:
            self._ready.popitem(last=False)


def _present_leaf(sock: ssl.SSLSocket | ssl.SSLObject, _sni: str | None, _context: ssl.SSLContext) -> int | None:
    """OpenSSL has read a hello, with SNI or without: go on with the leaf that was chosen for the connection."""
    leaf = sock.leaf if isinstance(sock, _ClientSocket) else None
    if leaf is None:
        return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
    sock.context = leaf
    return None


def _context() -> ssl.SSLContext:
    # Not `create_default_context`, which honours SSLKEYLOGFILE.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = _TICKETS
    context.set_alpn_protocols(["http/1.1"])
    return context


def _leaf_context(leaf: Leaf) -> ssl.SSLContext:
    context = _context()
    key = leaf.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    try:
        with _in_memory(leaf.certificate_pem + key) as path:
            context.load_cert_chain(path)
    except OSError as error:
        raise StateError(
            f"cannot load a leaf certificate: {error.strerror or type(error).__name__}",
            hint="it is read through /proc/self/fd: that must be mounted, and descriptors left",
        ) from None
    return context


@contextlib.contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """A path under which this process alone, while the block lasts, reads `data`."""
    descriptor = os.memfd_create("egress-leaf", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
