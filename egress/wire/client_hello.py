"""Reads a TLS ClientHello (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2) for the names it asks for, strictly.

1. The hello may span several records, but nothing else stands between them and nothing follows it in the last.
2. Every length must fill exactly what contains it; an extension may appear once.
3. SNI, if there is any, is one ASCII host name: with two, or bytes behind one, two readers can choose two servers.
4. An encrypted hello is only noticed. GREASE (RFC 9849 section 6.2) looks the same by intent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from egress.wire.outcome import NeedMore, Reject, RejectKind, malformed, too_large

LARGEST_HELLO = 65_536  # bytes on the wire, records' own headers included
MOST_RECORDS = 64

_HANDSHAKE_RECORD = 0x16
_CLIENT_HELLO = 1
_RECORD_HEADER = 5
_MESSAGE_HEADER = 4
_LARGEST_RECORD = 16_384
_TLS10 = 0x0301
_TLS12 = 0x0303
_RANDOM = 32
_LONGEST_SESSION_ID = 32
_SERVER_NAME = 0
_ALPN = 16
_PRE_SHARED_KEY = 41
_SUPPORTED_VERSIONS = 43
_ECH = 0xFE0D
_ESNI_DRAFT = 0xFFCE
_HOST_NAME = re.compile(rb"[A-Za-z0-9._\-]{1,255}")

_NOT_TLS = Reject(RejectKind.NOT_TLS, "the connection does not begin with a TLS handshake")
_BAD_RECORD = malformed("a TLS record's version or length is none that a hello can have")
_OTHER_RECORD = malformed("another TLS record stands inside the hello")
_TOO_LARGE = too_large("the TLS hello is longer than the limit")
_TOO_MANY_RECORDS = too_large("the TLS hello is spread over too many records")
_NOT_HELLO = malformed("the first TLS message is not a ClientHello")
_GARBAGE = malformed("bytes follow the TLS hello in its record")
_BAD_HELLO = malformed("the TLS hello's lengths do not fit together")
_BAD_VERSION = malformed("the TLS hello's version is none that a hello can have")
_BAD_SUITES = malformed("the TLS hello's cipher suites or compression methods are malformed")
_REPEATED_EXTENSION = malformed("a TLS extension appears twice")
_KEY_NOT_LAST = malformed("the pre-shared key is not the last TLS extension")
_BAD_NAME = malformed("the SNI extension does not hold exactly one ASCII host name")
_BAD_ALPN = malformed("the ALPN extension is malformed")
_BAD_VERSIONS = malformed("the supported versions extension is malformed")
_BAD_ECH = malformed("the Encrypted Client Hello extension is malformed")


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a ClientHello asks for.

    `sni` is the host name as sent, None without the extension. `alpn` are the protocols offered, in order. `ech`: the
    Encrypted Client Hello extension is there, real or GREASE. `esni`: its abandoned draft is, which has no GREASE.
    `versions` are the protocol versions offered (0x0304 is TLS 1.3), in order. `extensions` are the types, in order.
    `length` is the bytes of the records that hold the hello.
    """

    sni: str | None
    alpn: tuple[bytes, ...]
    ech: bool
    esni: bool
    versions: tuple[int, ...]
    extensions: tuple[int, ...]
    length: int


def parse_client_hello(data: bytes | bytearray) -> ClientHello | NeedMore | Reject:
    """Read the ClientHello that `data` begins with; what follows its last record is not looked at."""
    message = _gather(data)
    if not isinstance(message, tuple):
        return message
    body, length = message
    reader = _Reader(body)
    version = reader.number(2)
    reader.take(_RANDOM)
    session = reader.vector(1)
    suites = reader.vector(2)
    compressions = reader.vector(1)
    # RFC 5246 section 7.4.1.2: a hello may end here, without any extensions.
    block = reader.vector(2) if reader.more else b""
    if not reader.filled or len(session) > _LONGEST_SESSION_ID:
        return _BAD_HELLO
    if not _TLS10 <= version <= _TLS12:
        return _BAD_VERSION
    if not suites or len(suites) % 2 or 0 not in compressions:
        return _BAD_SUITES
    extensions = _extensions(block)
    if isinstance(extensions, Reject):
        return extensions
    return _hello(extensions, version, length)


def _gather(data: bytes | bytearray) -> tuple[bytes, int] | NeedMore | Reject:
    """Join the records of the first handshake message: its body without its header, and the records' whole length."""
    message = bytearray()
    position = 0
    for _ in range(MOST_RECORDS):
        size = _record_size(data, position)
        if not isinstance(size, int):
            return size
        declared = len(message) + size
        start, position = position + _RECORD_HEADER, position + _RECORD_HEADER + size
        message += data[start:position]
        needed = _message_size(message)
        if isinstance(needed, Reject):
            return needed
        if declared > needed:
            return _GARBAGE
        if len(message) < declared:
            return NeedMore()
        if declared == needed:
            return bytes(message[_MESSAGE_HEADER:]), position
    return _TOO_MANY_RECORDS


def _message_size(message: bytearray) -> int | Reject:
    """How long the handshake message that `message` begins is, with its header; the largest while that is not known."""
    if message and message[0] != _CLIENT_HELLO:
        return _NOT_HELLO
    if len(message) < _MESSAGE_HEADER:
        return LARGEST_HELLO
    size = _MESSAGE_HEADER + int.from_bytes(message[1:4])
    return size if size <= LARGEST_HELLO else _TOO_LARGE


def _record_size(data: bytes | bytearray, position: int) -> int | NeedMore | Reject:
    """The payload size of the record whose header begins at `position`; what is there of a header is judged at once."""
    header = data[position : position + _RECORD_HEADER]
    if not header:
        return _unfinished(position)
    if header[0] != _HANDSHAKE_RECORD:
        return _OTHER_RECORD if position else _NOT_TLS
    if not b"\x03\x01" <= header[1:3].ljust(2, b"\x03") <= b"\x03\x03":
        return _BAD_RECORD
    if len(header) < _RECORD_HEADER:
        return _unfinished(position)
    size = int.from_bytes(header[3:5])
    if not 0 < size <= _LARGEST_RECORD:
        return _BAD_RECORD
    return size if position + _RECORD_HEADER + size <= LARGEST_HELLO else _TOO_LARGE


def _unfinished(position: int) -> NeedMore | Reject:
    """What a record comes to whose header is not whole: whoever looks at no more than the limit never sees its rest."""
    return NeedMore() if position + _RECORD_HEADER < LARGEST_HELLO else _TOO_LARGE


def _extensions(block: bytes) -> dict[int, bytes] | Reject:
    """The extensions by type, in order."""
    extensions: dict[int, bytes] = {}
    reader = _Reader(block)
    while reader.more:
        kind = reader.number(2)
        value = reader.vector(2)
        if kind in extensions:
            return _REPEATED_EXTENSION
        extensions[kind] = value
    if not reader.filled:
        return _BAD_HELLO
    # RFC 8446 section 4.2.11: the binders sign what stands before them.
    if _PRE_SHARED_KEY in extensions and next(reversed(extensions)) != _PRE_SHARED_KEY:
        return _KEY_NOT_LAST
    return extensions


def _hello(extensions: dict[int, bytes], version: int, length: int) -> ClientHello | Reject:
    sni = _server_name(extensions.get(_SERVER_NAME))
    if isinstance(sni, Reject):
        return sni
    alpn = _protocols(extensions.get(_ALPN))
    if isinstance(alpn, Reject):
        return alpn
    versions = _versions(extensions.get(_SUPPORTED_VERSIONS), version)
    if isinstance(versions, Reject):
        return versions
    ech = extensions.get(_ECH)
    if ech is not None and not _is_ech(ech):
        return _BAD_ECH
    return ClientHello(
        sni=sni,
        alpn=alpn,
        ech=ech is not None,
        esni=_ESNI_DRAFT in extensions,
        versions=versions,
        extensions=tuple(extensions),
        length=length,
    )


def _server_name(value: bytes | None) -> str | Reject | None:
    """RFC 6066 section 3: a list, here of exactly one entry, of type host_name."""
    if value is None:
        return None
    reader = _Reader(value)
    names = _Reader(reader.vector(2))
    kind = names.number(1)
    name = names.vector(2)
    if not reader.filled or not names.filled or kind != 0 or not _HOST_NAME.fullmatch(name):
        return _BAD_NAME
    return name.decode("ascii")


def _protocols(value: bytes | None) -> tuple[bytes, ...] | Reject:
    """RFC 7301 section 3.1: a list of names, neither it nor any of them empty."""
    if value is None:
        return ()
    reader = _Reader(value)
    names = _Reader(reader.vector(2))
    protocols: list[bytes] = []
    while names.more:
        protocols.append(names.vector(1))
    if not reader.filled or not names.filled or not protocols or b"" in protocols:
        return _BAD_ALPN
    return tuple(protocols)


def _versions(value: bytes | None, version: int) -> tuple[int, ...] | Reject:
    """RFC 8446 section 4.2.1: where the extension is missing, the hello's own version is the only one."""
    if value is None:
        return (version,)
    reader = _Reader(value)
    packed = reader.vector(1)
    if not reader.filled or not packed or len(packed) % 2:
        return _BAD_VERSIONS
    return tuple(int.from_bytes(packed[at : at + 2]) for at in range(0, len(packed), 2))


def _is_ech(value: bytes) -> bool:
    """RFC 9849 section 5: type inner (1) is empty; type outer (0) has suite, config, key share and payload."""
    reader = _Reader(value)
    kind = reader.number(1)
    if kind == 1:
        return reader.filled
    reader.take(5)
    reader.vector(2)
    payload = reader.vector(2)
    return kind == 0 and reader.filled and bool(payload)


class _Reader:
    """Takes bytes off the front. Asking for more than there is breaks it, which `filled` tells at the end."""

    __slots__ = ("_broken", "_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self._broken = False

    @property
    def more(self) -> bool:
        """Whether bytes are left."""
        return not self._broken and self._position < len(self._data)

    @property
    def filled(self) -> bool:
        """Whether everything asked for was there, and nothing is left over."""
        return not self._broken and self._position == len(self._data)

    def take(self, size: int) -> bytes:
        """The next `size` bytes; fewer, and the reader is broken, if there are not so many."""
        start, self._position = self._position, self._position + size
        if self._position > len(self._data):
            self._broken = True
        return self._data[start : self._position]

    def number(self, size: int) -> int:
        """The next `size` bytes as a number, big-endian."""
        return int.from_bytes(self.take(size))

    def vector(self, size: int) -> bytes:
        """The next vector, whose length is in its first `size` bytes."""
        return self.take(self.number(size))
