"""A step that takes secrets out of a WebSocket's frames on their way to the client (RFC 6455, section 5.2).

A value is covered by as many `*`, so that the length that its frame declares stays true. Each frame is looked at on its
own, so that none waits for the next: a value that the server spreads over several frames is not found.
"""

from __future__ import annotations

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


class CoveredFrames:
    """The frames of one connection, from the server."""

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
        """What is held of a frame that never ended goes nowhere."""
        return b""

    def _payload(self, data: bytes, out: list[bytes]) -> bytes:
        part, rest = data[: self._left], data[self._left :]
        self._left -= len(part)
        kept, self._carry = self._scrubber.part(self._carry + part, last=not self._left, covered=True)
        out.append(kept)
        return rest

    def _begin(self, data: bytes, out: list[bytes]) -> bytes:
        head = self._head + data
        size = _SHORT_HEAD if len(head) < _SHORT_HEAD else _SHORT_HEAD + _LONGER.get(head[1] & _LENGTH, 0)
        if len(head) < size:
            self._head = head
            return b""
        if head[1] & _MASKED:
            raise UnreadableError("a server masked a frame")
        self._head = b""
        length = head[1] & _LENGTH
        self._left = int.from_bytes(head[_SHORT_HEAD:size]) if size > _SHORT_HEAD else length
        out.append(head[:size])
        return head[size:]
