"""Steps that take secrets out of what comes in messages of a declared length, on its way to the client.

1. frames    of a WebSocket (RFC 6455, section 5.2)
2. messages  of gRPC and gRPC-Web: flags, a length in four bytes, the message

A value is covered by as many `*`, so that every length that is declared stays true. Each message is looked at on its
own: of one that has not ended the end waits, whatever it says, and none waits for the next, so that nothing tells
whether what came is the beginning of a value. A value that the server spreads over several is not found.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from egress.gate.inflate import UnreadableError

if TYPE_CHECKING:
    from egress.credentials.scrub import Scrubber
    from egress.gate.body import Buffer

_SHORT_HEAD: Final = 2
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F
# What follows the first two bytes, where they say that the length stands there.
_LONGER: Final = {126: 2, 127: 8}
_MESSAGE_HEAD: Final = 5
_COMPRESSED: Final = 0x01
# gRPC-Web sends trailers as its last message.
_TRAILERS: Final = 0x80


class _Covered(ABC):
    """The messages of one body, or connection, from the server."""

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._head = b""
        self._left = 0
        self._carry = b""

    def feed(self, data: Buffer) -> bytes:
        """The next bytes, covered. Raises UnreadableError."""
        rest = bytes(data)
        out: list[bytes] = []
        while rest:
            rest = self._payload(rest, out) if self._left else self._begin(rest, out)
        return b"".join(out)

    def end(self) -> bytes:
        """What is held of a message that never ended goes nowhere."""
        return b""

    @abstractmethod
    def _size(self, head: bytes) -> int:
        """How long the whole head is, as far as this beginning of it tells."""

    @abstractmethod
    def _length(self, head: bytes) -> int:
        """How long the message is that this head declares. Raises UnreadableError."""

    def _payload(self, data: bytes, out: list[bytes]) -> bytes:
        part, rest = data[: self._left], data[self._left :]
        self._left -= len(part)
        self._cover(part, out)
        return rest

    def _begin(self, data: bytes, out: list[bytes]) -> bytes:
        head = self._head + data
        size = self._size(head)
        if len(head) < size:
            self._head = head
            return b""
        self._left = self._length(head[:size])
        self._head = b""
        # The head as well: where a server lies of its messages, the first characters of a value may stand there.
        self._cover(head[:size], out)
        return head[size:]

    def _cover(self, data: bytes, out: list[bytes]) -> None:
        kept, self._carry = self._scrubber.part(self._carry + data, last=not self._left, covered=True)
        out.append(kept)


class CoveredFrames(_Covered):
    """Frames of a WebSocket."""

    def _size(self, head: bytes) -> int:
        return _SHORT_HEAD if len(head) < _SHORT_HEAD else _SHORT_HEAD + _LONGER.get(head[1] & _LENGTH, 0)

    def _length(self, head: bytes) -> int:
        if head[1] & _MASKED:
            raise UnreadableError("a server masked a frame")
        return int.from_bytes(head[_SHORT_HEAD:]) if len(head) > _SHORT_HEAD else head[1] & _LENGTH


class CoveredMessages(_Covered):
    """Messages of gRPC."""

    def end(self) -> bytes:
        """A body that ends in the middle of a message is none. Raises UnreadableError."""
        if self._left or self._head:
            raise UnreadableError("a message has no end")
        return b""

    def _size(self, head: bytes) -> int:  # noqa: ARG002 -- every head is as long
        return _MESSAGE_HEAD

    def _length(self, head: bytes) -> int:
        if head[0] & _COMPRESSED:
            raise UnreadableError("a message is compressed")
        if head[0] not in {0, _TRAILERS}:
            raise UnreadableError("it is no message of gRPC")
        return int.from_bytes(head[1:])
