"""Waiting for a confined command as a shell's job does: signals go to it, stops stop us, its end is ours.

1. told     INT, TERM, HUP, QUIT, USR1 and USR2 that reach us reach the command's process group; a signal that was
            ignored when we were started stays ignored
2. stopped  a command that stops stops us, with the terminal as it was; going on sets both going
3. ended    its exit status, or 128 and the signal that ended it
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import TYPE_CHECKING, Final, Self

from egress.confine.exec_channel import Channel, Word
from egress.confine.exec_plan import ConfineError
from egress.confine.exec_terminal import Joined

if TYPE_CHECKING:
    from types import FrameType

_PASSED: Final = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTSTP,
)
_ACTED_ON: Final = (signal.SIGCONT, signal.SIGWINCH)
_BY_SIGNAL: Final = 128


class Signals:
    """Those that reach us while the block lasts, as numbers to read."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before = {number: signal.getsignal(number) for number in (*_PASSED, *_ACTED_ON)}
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def __enter__(self) -> Self:
        for number, before in self._before.items():
            if before is not signal.SIG_IGN:
                signal.signal(number, _noted)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, before in self._before.items():
            signal.signal(number, before)
        os.close(self._read)
        os.close(self._write)

    def leave(self) -> None:
        """In a forked process: signals do there what they did before."""
        signal.set_wakeup_fd(-1)
        for number, before in self._before.items():
            signal.signal(number, before)

    def fileno(self) -> int:
        """Readable when one came."""
        return self._read

    def take(self) -> bytes:
        """The numbers that came, in order."""
        try:
            return os.read(self._read, 512)
        except BlockingIOError:
            return b""


class Waiting:
    """Waits for the command at the other end of a channel. Raises ConfineError if it cannot be started."""

    def __init__(self, channel: Channel, signals: Signals) -> None:
        self._channel = channel
        self._signals = signals
        self._joined: Joined | None = None
        self._status: int | None = None

    def wait(self) -> int:
        """Its exit status, as a shell has it."""
        try:
            while self._status is None:
                self._turn()
        finally:
            if self._joined is not None:
                self._joined.close()
        return self._status if self._status >= 0 else _BY_SIGNAL - self._status

    def _turn(self) -> None:
        ready = dict(self._poll().poll())
        if self._signals.fileno() in ready:
            for number in self._signals.take():
                self._signalled(number)
        joined = self._joined
        if joined is not None:
            if 0 in ready:
                joined.take_keys()
            if ready.get(joined.other, 0) & select.POLLOUT:
                joined.pass_keys()
            if ready.get(joined.other, 0) & select.POLLIN:
                joined.show()
        if self._channel.fileno() in ready:
            self._heard()

    def _poll(self) -> select.poll:
        poll = select.poll()
        poll.register(self._signals.fileno(), select.POLLIN)
        poll.register(self._channel.fileno(), select.POLLIN)
        if self._joined is not None:
            poll.register(self._joined.other, select.POLLIN | (select.POLLOUT if self._joined.has_keys else 0))
            if self._joined.wants_keys:
                poll.register(0, select.POLLIN)
        return poll

    def _heard(self) -> None:
        said = self._channel.receive()
        if said is None:
            # The one with number 1 was killed from outside, and all of them with it.
            self._status = -signal.SIGKILL
            return
        word, value, descriptors = said
        match word:
            case Word.TERMINAL:
                self._joined = Joined(descriptors[0])
            case Word.STARTED:
                if self._joined is not None:
                    self._joined.begin()
            case Word.STOPPED:
                self._stop()
            case Word.ENDED:
                self._status = value
            case Word.FAILED:
                raise ConfineError(value[0], hint=value[1])
            case _:
                raise ConfineError(f"the confined side says what is not expected, `{word}`")

    def _signalled(self, number: int) -> None:
        if number == signal.SIGWINCH:
            if self._joined is not None:
                self._joined.resize()
        elif number == signal.SIGCONT:
            self._go_on()
        else:
            self._tell(Word.SIGNAL, number)

    def _stop(self) -> None:
        """Be stopped as the command is, until somebody has us go on."""
        if self._joined is not None:
            self._joined.rest()
        # Python notes the SIGCONT that ends this, so that `_go_on` follows.
        os.kill(os.getpid(), signal.SIGSTOP)

    def _go_on(self) -> None:
        if self._joined is not None:
            self._joined.begin()
        self._tell(Word.CONTINUE)

    def _tell(self, word: Word, value: object = None) -> None:
        with contextlib.suppress(OSError):
            self._channel.send(word, value)


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The wakeup descriptor has it."""
