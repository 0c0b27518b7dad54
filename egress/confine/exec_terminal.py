"""Our terminal and the command's own, joined: keys go in, output comes out, sizes follow.

The command never holds our terminal where it could push keys into it (TIOCSTI) for the shell to read afterwards: it has
one of its own, and this passes bytes. Only where both standard input and output are a terminal; in a pipeline the three
streams pass as they are, and the command has no terminal that it controls.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios
import tty
from typing import Final

_PIECE: Final = 65_536
# Keys that wait for a command which does not read: no more is read then, as a terminal would do.
_WAITING: Final = 65_536


def size_of_terminal() -> tuple[int, int] | None:
    """Lines and columns, if there is a terminal to join."""
    if not (os.isatty(0) and os.isatty(1)):
        return None
    lines, columns, _, _ = struct.unpack("4H", fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))
    return lines, columns


class Joined:
    """Both terminals. `other` is our end of the command's."""

    def __init__(self, other: int) -> None:
        self.other = other
        self._waiting = bytearray()
        self._reads = True
        self._before = termios.tcgetattr(0)
        os.set_blocking(other, False)
        termios.tcsetattr(other, termios.TCSANOW, self._before)

    @property
    def wants_keys(self) -> bool:
        """Whether our terminal is to be read."""
        return self._reads and len(self._waiting) < _WAITING

    @property
    def has_keys(self) -> bool:
        """Whether some wait for the command."""
        return bool(self._waiting)

    def begin(self) -> None:
        """Every key goes to the command from here on, also those that make signals. In the background it stops here."""
        with contextlib.suppress(termios.error):
            tty.setraw(0, termios.TCSADRAIN)
        self.resize()

    def rest(self) -> None:
        """Our terminal as it was."""
        with contextlib.suppress(termios.error):
            termios.tcsetattr(0, termios.TCSADRAIN, self._before)

    def resize(self) -> None:
        """Give the command's terminal the size of ours; the kernel tells the command."""
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self.other, termios.TIOCSWINSZ, size)

    def take_keys(self) -> None:
        """Read our terminal; one that is gone is not read again."""
        try:
            keys = os.read(0, _PIECE)
        except OSError:
            keys = b""
        self._reads = bool(keys)
        self._waiting += keys
        self.pass_keys()

    def pass_keys(self) -> None:
        """Write what waits, as much as the command's terminal takes."""
        with contextlib.suppress(BlockingIOError):
            try:
                del self._waiting[: os.write(self.other, self._waiting)]
            except OSError as error:
                if isinstance(error, BlockingIOError):
                    raise
                self._waiting.clear()

    def show(self) -> bool:
        """Write out what the command's terminal has; whether there may be more."""
        try:
            output = os.read(self.other, _PIECE)
        except BlockingIOError:
            return True
        except OSError:
            # EIO: nobody has it open any more.
            return False
        view = memoryview(output)
        # Our terminal may be gone; the command need not end for that.
        with contextlib.suppress(OSError):
            while view:
                view = view[os.write(1, view) :]
        return bool(output)

    def close(self) -> None:
        """Show what is left, and leave our terminal as it was."""
        os.set_blocking(self.other, False)
        while _readable(self.other) and self.show():
            pass
        self.rest()
        os.close(self.other)


def _readable(descriptor: int) -> bool:
    import select  # noqa: PLC0415 - for this alone

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    found = poll.poll(0)
    return bool(found and found[0][1] & select.POLLIN)
