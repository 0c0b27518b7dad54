"""The supervisor: starts the other processes, starts them again when they die, and tells them what to do.

It has one thread and no event loop, opens no connection to the network, and acts on what `events` tells: a signal, a
word of a process, the end of one, a connection that waits for the mitm process, a request on the control socket, a
moment at which something is due.

1. start   the hub first, since nothing may pass unrecorded; then the workers; the mitm process when it is needed
2. death   a hub or worker is started again, at once at first, then less and less often; what it held is lost with it
3. links   whenever a hub or a process that judges is new, the supervisor joins the two by a channel of their own
4. end     workers, then the mitm process, then the hub, so that each is there for as long as somebody needs it

If the supervisor itself is gone, its channels end; the others deny what comes, record it, and end (see `judging`).
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from egress.audit.notes import Kind
from egress.errors import AuditError, EgressError, StartError, StateError
from egress.server.channel import Gone, Values, Word, close_all, encode, make_pair, receive, send
from egress.server.children import SIGNALS, Child, Role, fork
from egress.server.events import Events
from egress.server.handed import drop_handed

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping

    from egress.credentials import Secret
    from egress.gate.generation import Generation

logger = logging.getLogger(__name__)

HUB: Final = "hub"
MITM: Final = "mitm"
# Among what is to be started again, MITM itself stands for looking whether it is needed.
_MITM_NEEDED: Final = "mitm, needed"

_AGAIN_FIRST: Final = 0.05
_AGAIN_LAST: Final = 5.0
# Who lived this long did not die of how it was started.
_SETTLED_SECONDS: Final = 10.0
# Beyond the time for requests under way: what closing, recording and exiting may take.
_ENDING_SECONDS: Final = 15.0
_ABANDONED_SECONDS: Final = 5.0
_NOTES_AT_MOST: Final = 1000
_FAILURES: Final[dict[str, type[EgressError]]] = {kind.__name__: kind for kind in (AuditError, StartError, StateError)}


class Supervisor:
    """Runs the processes of `roles`, by name. `handed`: the end that the mitm process takes connections from."""

    def __init__(
        self, roles: Mapping[str, Role], generation: Generation, handed: socket.socket, *, drain_seconds: float
    ) -> None:
        self.generation = generation
        self.reload_wanted = False
        self.stopping = False
        self._roles = roles
        self._handed = handed
        self._drain_seconds = drain_seconds
        self.events = Events()
        # What else is open here for the supervisor alone: each is called in every new process.
        self.closers: list[Callable[[], None]] = []
        self._wakeup = make_pair()
        self._children: dict[str, Child] = {}
        self._again: dict[str, float] = {}
        self._delays: dict[str, float] = {}
        self._notes: deque[bytes] = deque(maxlen=_NOTES_AT_MOST)
        self._failure: EgressError | None = None
        self._serving = False

    # what `run` and the reload use

    def start(self, *, warm: bool, recorded: Callable[[], None] = lambda: None) -> None:
        """Start everything, and wait until it serves. Raises the EgressError of what cannot.

        `recorded` is called once the hub stands, and so everything that is judged from then on can be recorded.
        """
        # What is there now is there for good, and in all processes: looking at it would only have it copied.
        gc.freeze()
        self._start_and_wait([HUB])
        recorded()
        self._start_and_wait([name for name in self._roles if name not in {HUB, MITM}])
        if warm:
            self._start_and_wait([MITM])
        else:
            self._again[MITM] = 0.0
        self._serving = True

    def turn(self) -> None:
        """Act on what happens next, and start again what is due."""
        self.events.act(min(self._again.values(), default=None))
        for name in tuple(self._again) if not self.stopping else ():
            self._start_if_due(name)

    def until(self, holds: Callable[[], bool], seconds: float | None) -> bool:
        """Act on what happens until the condition holds or the time is over. Of what dies, only a hub is replaced."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not holds():
            if deadline is not None and deadline <= time.monotonic():
                return False
            times = [moment for moment in (deadline, self._again.get(HUB)) if moment is not None]
            self.events.act(min(times, default=None))
            if not holds():
                self._start_if_due(HUB)
        return True

    def secrets(self) -> tuple[Secret, ...]:
        """The values in force, for the cleaning of logs."""
        return self.generation.credentials.known()

    @property
    def children(self) -> tuple[Child, ...]:
        """The processes that run."""
        return tuple(self._children.values())

    @property
    def serving(self) -> bool:
        """Whether the start is over and the end has not begun."""
        return self._serving and not self.stopping

    @property
    def missing(self) -> tuple[str, ...]:
        """Processes that have to be there and are not ready. The mitm process has not to be there."""
        ready = {child.name for child in self._children.values() if Word.READY in child.said}
        return tuple(name for name in self._roles if name != MITM and name not in ready)

    @property
    def judges(self) -> list[Child]:
        """The processes that judge by generations."""
        return [child for child in self._children.values() if child.role.judges]

    def tell(self, child: Child, word: Word, *values: Any, descriptor: int | None = None) -> None:
        """Send a process a message. One that does not take it works no more, and is ended."""
        try:
            taken = send(child.control, encode(word, *values), descriptor)
        except Gone:
            return
        if not taken:
            logger.error("the process `%s` does not listen, and is ended", child.name)
            child.kill()

    def note(self, kind: str, detail: str) -> None:
        """Have the hub record what happened; kept for the next hub while there is none."""
        self._notes.append(encode(Word.NOTE, str(kind), detail[:2000]))
        self._send_notes()

    def drain(self) -> None:
        """Let what is under way end, up to the limit, then everything else, in order."""
        self.stopping = True
        for child in self.judges:
            self.tell(child, Word.DRAIN, self._drain_seconds)
        deadline = time.monotonic() + self._drain_seconds + _ENDING_SECONDS
        self._end([child for child in self.judges if child.name != MITM], deadline)
        self._end(self.judges, deadline)
        self.note(Kind.STOP, "")
        self._end([child for child in self._children.values() if child.name == HUB], deadline)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Take the signals; at the end no process of ours is left."""
        read, write = self._wakeup
        self.events.watch(read, lambda: self._signalled(read.recv(64)))
        before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
        wakeup = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            self._abandon()
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self.events.close()
            read.close()
            write.close()

    def leave(self) -> None:
        """Close, in a new process, what the supervisor has open for itself."""
        for child in self._children.values():
            child.control.close()
            os.close(child.pidfd)
        for end in self._wakeup:
            end.close()
        self.events.close()
        for close in self.closers:
            close()

    # what happens

    def _signalled(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGHUP:
                self.reload_wanted = True
            elif number in SIGNALS:
                self.stopping = True

    def _heard(self, child: Child) -> None:
        with contextlib.suppress(Gone):
            while (message := receive(child.control)) is not None:
                values, descriptors = message
                close_all(descriptors)
                self._said(child, values)
            return
        self.events.forget(child.control)

    def _said(self, child: Child, values: Values) -> None:
        match values:
            case (Word.FAILED, str(kind), str(message), str(hint)):
                child.failure = _FAILURES.get(kind, StartError)(message, hint=hint)
            case (Word.LINK, _):
                # The channel between the two broke, and both live.
                hub = self._children.get(HUB)
                if hub is not None and Word.READY in hub.said:
                    self._join(hub, child)
            case (Word.STATUS, int(number), dict(told)):
                child.told = (number, told)
            case (str(word), int(number)) if word in Word:
                child.said[Word(word)] = number
                if child.name == HUB and word == Word.READY:
                    self._send_notes()
            case _:
                logger.error("the process `%s` says what cannot be understood", child.name)

    def _ended(self, child: Child) -> None:
        self._heard(child)
        self.events.forget(child.pidfd)
        self.events.forget(child.control)
        status = child.reap()
        del self._children[child.name]
        if self.stopping and status == 0:
            return
        self._failure = child.failure
        if child.failure is not None:
            # At the start it is raised instead.
            if self._serving:
                logger.error("the process `%s` cannot work: %s", child.name, child.failure)
        else:
            how = f"by signal {-status}" if status < 0 else f"with status {status}"
            logger.error("the process `%s` ended %s", child.name, how)
        if child.name == MITM and Word.READY not in child.said:
            # What waits for it must not wait for as long as it cannot be started.
            drop_handed(self._handed)
        lived = time.monotonic() - child.started
        delay = _AGAIN_FIRST if lived > _SETTLED_SECONDS else self._delays.get(child.name, _AGAIN_FIRST)
        self._delays[child.name] = min(delay * 3, _AGAIN_LAST)
        self._again[child.name] = time.monotonic() + delay

    # starting

    def _start_if_due(self, name: str) -> None:
        if self._again.get(name, time.monotonic() + 1) > time.monotonic():
            return
        del self._again[name]
        if name == MITM:
            self.events.watch(self._handed, self._needed)
        else:
            self._start(MITM if name == _MITM_NEEDED else name)

    def _needed(self) -> None:
        """A connection waits for the mitm process, which is started once nothing else is under way."""
        self.events.forget(self._handed)
        self._again[_MITM_NEEDED] = 0.0

    def _start(self, name: str) -> None:
        try:
            child = fork(name, self._roles[name], self.generation)
        except OSError as error:
            logger.error("the process `%s` cannot be started: %s", name, error.strerror)  # noqa: TRY400 - it says it all
            self._again[name] = time.monotonic() + _AGAIN_LAST
            return
        self._children[name] = child
        self.events.watch(child.pidfd, lambda: self._ended(child))
        self.events.watch(child.control, lambda: self._heard(child))
        hub = self._children.get(HUB)
        if child is hub:
            for other in self.judges:
                self._join(child, other)
            self.tell(child, Word.LINKED)
        elif hub is not None:
            self._join(hub, child)

    def _start_and_wait(self, names: list[str]) -> None:
        self._failure = None
        for name in names:
            self._start(name)
        started = [self._children[name] for name in names if name in self._children]
        self.until(
            lambda: (
                self.stopping
                or any(name not in self._children for name in names)
                or all(Word.READY in child.said for child in started)
            ),
            None,
        )
        if not self.stopping and any(name not in self._children for name in names):
            raise self._failure or StartError("a process of the proxy ended as it started", hint="its log says why")

    def _join(self, hub: Child, child: Child) -> None:
        """Give a hub and a process that judges the ends of a channel. Where that fails, the process asks again."""
        try:
            ends = make_pair()
        except OSError as error:
            logger.error("no channel for the process `%s`: %s", child.name, error.strerror)  # noqa: TRY400 - it says it all
            return
        self.tell(hub, Word.LINK, child.name, descriptor=ends[0].fileno())
        self.tell(child, Word.LINK, descriptor=ends[1].fileno())
        for end in ends:
            end.close()

    # ending

    def _end(self, children: list[Child], deadline: float) -> None:
        """Tell these that nobody needs them any more, and wait until they have ended; at the deadline, end them."""
        for child in children:
            self.tell(child, Word.END)
        for late in (False, True):
            for child in children if late else ():
                if self._children.get(child.name) is child:
                    logger.error("the process `%s` did not end in time", child.name)
                    child.kill()
            seconds = None if late else max(deadline - time.monotonic(), 1.0)
            self.until(lambda: all(self._children.get(child.name) is not child for child in children), seconds)

    def _abandon(self) -> None:
        """What is left ends by itself once its channel ends, having recorded what it can; or is ended."""
        deadline = time.monotonic() + _ABANDONED_SECONDS
        for child in self._children.values():
            child.control.close()
        for child in self._children.values():
            select.select([child.pidfd], [], [], max(deadline - time.monotonic(), 0))
            child.kill()
            child.reap()

    def _send_notes(self) -> None:
        hub = self._children.get(HUB)
        while self._notes and hub is not None and Word.READY in hub.said:
            try:
                if not send(hub.control, self._notes[0]):
                    return
            except Gone:
                return
            self._notes.popleft()
