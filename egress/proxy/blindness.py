"""Whether a socket has an error, which is where a loop goes blind to it.

libuv tells of an error once, and from then on of nothing: not of bytes that came before it, nor of the end. Who reads
some bytes and waits for the rest would wait for ever.
"""

from __future__ import annotations

import select
from typing import Final

_LOOKED_AT: Final = 0


class Blindness:
    """Looks at one descriptor, without a wait and without taking the error away from who reads."""

    __slots__ = ("_fd", "_poll")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll: select.poll | None = None

    def __bool__(self) -> bool:
        if self._poll is None:
            self._poll = select.poll()
            # An error is told of whatever is asked for.
            self._poll.register(self._fd, _LOOKED_AT)
        return any(event & select.POLLERR for _, event in self._poll.poll(0))
