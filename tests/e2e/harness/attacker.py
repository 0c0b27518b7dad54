"""A raw client of the proxy: exact bytes, one TCP segment each, and TLS that checks nothing and names what it likes.

It stands for hostile code in the sandbox, so it uses no HTTP library. All that it received is kept.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from OpenSSL import SSL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from harness.namespace import Namespace

PAUSE = 0.005
PATIENCE = 1.5
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\r)")


@dataclass
class Answers:
    """What the client got: `tunnel` before TLS (or all, without it), `inside` within TLS."""

    tunnel: bytearray = field(default_factory=bytearray)
    inside: bytearray = field(default_factory=bytearray)
    connect_status: int | None = None
    tls_error: str = ""
    ended: bool = False

    @property
    def everything(self) -> bytes:
        """All bytes received, in the clear."""
        return bytes(self.tunnel + b"\n" + self.inside)

    @property
    def statuses(self) -> list[int]:
        """The final status codes of the HTTP/1 answers to what was sent after CONNECT."""
        data = bytes(self.inside) or bytes(self.tunnel)
        codes = [int(code) for code in _STATUS.findall(data)]
        if not self.inside and self.connect_status is not None:
            codes = codes[1:]
        return [code for code in codes if code >= 200 or code == 101]


class Attacker:
    """One TCP connection to the proxy from `source`."""

    def __init__(self, namespace: Namespace, proxy: tuple[str, int], source: str = "") -> None:
        self.answers = Answers()
        self._socket = namespace.connect(proxy, source=source)
        self._tls: SSL.Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    @property
    def carrier(self) -> socket.socket:
        """The TCP connection itself."""
        return self._socket

    def abort(self) -> None:
        """Half-close: the proxy sees the end of the client's bytes."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def wire(self, data: bytes) -> bool:
        """Send bytes below TLS; False if the proxy has hung up."""
        try:
            self._socket.sendall(data)
        except OSError:
            self.answers.ended = True
            return False
        return True

    def send(self, data: bytes) -> bool:
        """Send bytes, inside TLS if there is TLS."""
        if self._tls is None:
            return self.wire(data)
        with contextlib.suppress(SSL.Error):
            self._tls.sendall(data)
        return self._flush()

    def segments(self, parts: Sequence[bytes]) -> None:
        """Send each part in a segment (and TLS record) of its own."""
        for index, part in enumerate(parts):
            if index:
                time.sleep(PAUSE * 4)
            if not self.send(part):
                return

    def connect(self, authority: str, more: str = "") -> bool:
        """Ask for a tunnel, with more fields; True if the proxy opened it."""
        self.wire(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{more}\r\n".encode("latin-1"))
        self._read_until(b"\r\n\r\n", self.answers.tunnel, PATIENCE * 2)
        match = _STATUS.match(self.answers.tunnel)
        self.answers.connect_status = int(match[1]) if match else None
        if self.answers.connect_status != 200:
            self.drain(0.05)
        return self.answers.connect_status == 200

    def hello(self, sni: str | None, alpn: Sequence[str] = ()) -> bytes:
        """Begin TLS and give the ClientHello's bytes, not yet sent."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_verify(SSL.VERIFY_NONE, lambda *_: True)
        if alpn:
            context.set_alpn_protos([name.encode() for name in alpn])
        self._tls = SSL.Connection(context, None)
        if sni is not None:
            self._tls.set_tlsext_host_name(sni.encode("latin-1"))
        self._tls.set_connect_state()
        with contextlib.suppress(SSL.WantReadError):
            self._tls.do_handshake()
        return self._tls.bio_read(65536)

    def handshake(self, sni: str | None, alpn: Sequence[str] = (), *, split: bool = False) -> bool:
        """TLS to the proxy (or whoever answers); `split` sends the hello as one-byte records. True when done."""
        hello = self.hello(sni, alpn)
        if split:
            hello = b"".join(hello[:3] + b"\x00\x01" + hello[at : at + 1] for at in range(5, len(hello)))
        self.wire(hello)
        return self.finish_handshake()

    def finish_handshake(self, patience: float = PATIENCE * 3) -> bool:
        """Take the handshake to its end after the hello was sent."""
        if self._tls is None:
            return False
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            try:
                self._tls.do_handshake()
            except SSL.WantReadError:
                self._flush()
                if not self._fill(deadline - time.monotonic()):
                    break
            except SSL.Error as error:
                self._flush()
                self.answers.tls_error = str(error) or "handshake failed"
                return False
            else:
                self._flush()
                return True
        self.answers.tls_error = self.answers.tls_error or "handshake did not end"
        return False

    @property
    def alpn(self) -> str:
        """What ALPN agreed on."""
        return self._tls.get_alpn_proto_negotiated().decode() if self._tls else ""

    def _flush(self) -> bool:
        assert self._tls is not None
        with contextlib.suppress(SSL.WantReadError):
            while data := self._tls.bio_read(65536):
                if not self.wire(data):
                    return False
        return True

    def _fill(self, patience: float) -> bool:
        """Feed TLS from the socket; False at the end or when patience is over."""
        assert self._tls is not None
        data = self._receive(patience)
        if data:
            self._tls.bio_write(data)
        return bool(data)

    def _receive(self, patience: float) -> bytes:
        self._socket.settimeout(max(patience, 0.001))
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return b""
        except OSError:
            data = b""
        if not data:
            self.answers.ended = True
        return data

    def receive(self, patience: float = PATIENCE) -> bytes:
        """Some bytes (inside TLS if there is TLS), b"" at the end or when patience is over."""
        if self._tls is None:
            data = self._receive(patience)
            self.answers.tunnel += data
            return data
        deadline = time.monotonic() + patience
        while True:
            try:
                data = self._tls.recv(65536)
            except SSL.WantReadError:
                if not self._fill(deadline - time.monotonic()):
                    return b""
            except SSL.Error:
                self.answers.ended = True
                return b""
            else:
                self.answers.inside += data
                return data

    def _read_until(self, end: bytes, kept: bytearray, patience: float) -> None:
        deadline = time.monotonic() + patience
        while end not in kept and (left := deadline - time.monotonic()) > 0:
            if not self.receive(left):
                return

    def response(self, patience: float = PATIENCE) -> bytes:
        """Read one HTTP/1 answer as far as it can be told, then what follows at once; all bytes since the call."""
        kept = self.answers.inside if self._tls else self.answers.tunnel
        start = len(kept)
        deadline = time.monotonic() + patience
        while (left := deadline - time.monotonic()) > 0 and not _complete(bytes(kept[start:])):
            if not self.receive(left):
                break
        if not self.answers.ended:
            self.drain(0.03)
        return bytes(kept[start:])

    def drain(self, patience: float) -> None:
        """Read until the end or until nothing comes for `patience` seconds."""
        while self.receive(patience):
            pass


def _complete(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return False
    if head.startswith((b"HTTP/1.1 100", b"HTTP/1.1 103")):
        return _complete(body)
    lower = head.lower()
    if match := re.search(rb"\r\ncontent-length: *(\d+)", lower):
        return len(body) >= int(match[1]) or b"\r\ncontent-length: 0" in lower
    if b"transfer-encoding: chunked" in lower:
        return b"0\r\n\r\n" in body
    return re.match(rb"HTTP/1\.[01] (101|204|304|200 .onnection)", head) is not None
