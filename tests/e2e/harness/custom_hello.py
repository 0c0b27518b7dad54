"""TLS by the system's OpenSSL with an extension of our own in the ClientHello, which no Python library can add.

The extension is part of the handshake's transcript, so it cannot be spliced in afterwards.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import struct
from typing import TYPE_CHECKING

from harness.namespace import HarnessError

if TYPE_CHECKING:
    import socket

ECH = 0xFE0D
ESNI = 0xFFCE
_CLIENT_HELLO = 0x0080
_SET_HOST_NAME = 55

# What RFC 9849 calls GREASE: an outer hello with a cipher suite, a random key of 32 bytes and a random payload.
GREASE = (
    b"\x00" + struct.pack(">HHB", 1, 1, 0x5A) + struct.pack(">H", 32) + b"k" * 32 + struct.pack(">H", 144) + b"p" * 144
)

_ADD = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_uint,
    ctypes.c_uint,
    ctypes.POINTER(ctypes.c_char_p),
    ctypes.POINTER(ctypes.c_size_t),
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_void_p,
)


def ask(carrier: socket.socket, name: str | None, extension: int, content: bytes, request: bytes) -> bytes:
    """One request over TLS on a connected blocking socket; the first answer, b"" if the handshake fails."""
    library = ctypes.CDLL(ctypes.util.find_library("ssl") or "libssl.so.3")
    for function in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
        getattr(library, function).restype = ctypes.c_void_p
    buffer = ctypes.create_string_buffer(content, len(content))

    def add(_ssl: int, _type: int, _context: int, out: object, length: object, *_: object) -> int:
        out[0] = ctypes.cast(buffer, ctypes.c_char_p)  # type: ignore[index]
        length[0] = len(content)  # type: ignore[index]
        return 1

    callback = _ADD(add)
    context = ctypes.c_void_p(library.SSL_CTX_new(ctypes.c_void_p(library.TLS_client_method())))
    added = library.SSL_CTX_add_custom_ext(
        context, ctypes.c_uint(extension), ctypes.c_uint(_CLIENT_HELLO), callback, None, None, None, None
    )
    if not added:
        raise HarnessError("the system's OpenSSL sends this extension itself and takes none from us")
    tls = ctypes.c_void_p(library.SSL_new(context))
    try:
        carrier.setblocking(True)  # noqa: FBT003 -- the socket's own signature
        library.SSL_set_fd(tls, carrier.fileno())
        if name is not None:
            library.SSL_ctrl(tls, _SET_HOST_NAME, ctypes.c_long(0), name.encode())
        if library.SSL_connect(tls) != 1:
            return b""
        library.SSL_write(tls, request, len(request))
        piece, answer = ctypes.create_string_buffer(65536), b""
        while not answer.partition(b"\r\n\r\n")[2] and (count := library.SSL_read(tls, piece, len(piece))) > 0:
            answer += piece.raw[:count]
        return answer
    finally:
        library.SSL_free(tls)
        library.SSL_CTX_free(context)
