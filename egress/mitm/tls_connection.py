"""An OpenSSL connection for mitmproxy's TLS layers that does less than pyOpenSSL's own, and says the same."""

from __future__ import annotations

import threading
from typing import Any

from OpenSSL import SSL

_SIZE = 1 << 16

# pyOpenSSL has no public call for what follows.
_lib: Any = SSL._lib  # type: ignore[attr-defined] # noqa: SLF001
_ffi: Any = SSL._ffi  # type: ignore[attr-defined] # noqa: SLF001


class _Room(threading.local):
    """One buffer for all connections of a thread: whatever is read into it is copied out at once."""

    def __init__(self) -> None:
        self.buffer: Any = _ffi.new("char[]", _SIZE)
        self.start: Any = _ffi.new("char **")


_room = _Room()


class LeanConnection(SSL.Connection):
    """Reads through one buffer, and hands out no certificates: they are verified, and nobody here looks at them."""

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        """Read what is decrypted. Raises WantReadError where nothing is."""
        if flags is not None:
            return super().recv(bufsiz, flags)
        buffer = _room.buffer
        size = _lib.SSL_read(self._ssl, buffer, min(bufsiz, _SIZE))
        if size <= 0:
            self._raise_ssl_error(self._ssl, size)
        return bytes(_ffi.buffer(buffer, size))

    def bio_read(self, bufsiz: int) -> bytes:
        """Read what is to be sent. Raises WantReadError where nothing is."""
        if _lib.BIO_get_mem_data(self._from_ssl, _room.start) <= 0:
            raise SSL.WantReadError
        buffer = _room.buffer
        size = _lib.BIO_read(self._from_ssl, buffer, min(bufsiz, _SIZE))
        return bytes(_ffi.buffer(buffer, size)) if size > 0 else super().bio_read(bufsiz)

    def get_peer_certificate(self, *_: Any, **__: Any) -> None:
        """None: of a client we ask for no certificate."""

    def get_peer_cert_chain(self, *_: Any, **__: Any) -> None:
        """None: mitmproxy would take each of it apart, for addons that are not there."""
