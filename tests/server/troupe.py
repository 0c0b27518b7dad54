"""A supervisor with processes that do as they are told, for `test_supervisor`: it prints what happens.

`python troupe.py SCENE`. Each process prints `NAME WORD` for each word that it hears, unless its part says otherwise.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from egress.credentials import CredentialStore
from egress.errors import AuditError, StartError
from egress.gate.exchange import Client
from egress.gate.generation import Generation
from egress.policy import Scope, ScopeRules, compile_policy
from egress.server import reload as reload_module
from egress.server import supervisor as supervisor_module
from egress.server.channel import Gone, Word, encode, make_pair, receive, send
from egress.server.children import Role
from egress.server.generations import read_generation, write_generation
from egress.server.handed import HandedOver
from egress.server.supervisor import HUB, MITM, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.server.children import Start

CLIENT = Client("default", "192.0.2.1:1234")
SILENT = frozenset({Word.NOTE, Word.LINKED})
ANSWERS = {Word.PREPARE: Word.PREPARED, Word.COMMIT: Word.COMMITTED, Word.CUT: Word.CUT}


def tell(*words: object) -> None:
    """Print a line, whole."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def generation(number: int) -> Generation:
    """A generation that allows nothing."""
    return Generation(
        number,
        compile_policy([ScopeRules(Scope.SANDBOX, ())], digest=f"d{number}", clock=time.time),
        CredentialStore({}, env={}),
    )


@dataclass
class Part:
    """How a process plays: words that it does not answer, words at which it exits, how it begins."""

    deaf: frozenset[Word] = frozenset()
    dies: frozenset[Word] = frozenset()
    begin: Callable[[Start], None] = lambda _: None
    once: bool = False

    def main(self, start: Start) -> int:
        """Play it."""
        tell(start.name, "starts", start.generation.number)
        faulty = not self.once or start.generation.number == 1
        self.begin(start)
        send(start.control, encode(Word.READY, 0))
        while True:
            select.select([start.control], [], [])
            try:
                message = receive(start.control)
            except Gone:
                tell(start.name, "is alone")
                return 0
            (word, *values), descriptors = message or ((Word.NOTE,), [])
            if faulty and word in self.dies:
                os._exit(3)
            if word in SILENT or (faulty and word in self.deaf):
                continue
            tell(start.name, word)
            if descriptors and word == Word.PREPARE:
                assert read_generation(descriptors[0]).number == values[0]
            if word in ANSWERS:
                send(start.control, encode(ANSWERS[Word(word)], 1 if word == Word.CUT else values[0]))
            if word == Word.END or (word == Word.DRAIN and start.name.startswith("worker")):
                time.sleep(0.1)
                tell(start.name, "ends")
                return 0


def raising(error: type[Exception]) -> Callable[[Start], None]:
    """A beginning that fails as the hub does."""

    def begin(start: Start) -> None:
        send(start.control, encode(Word.FAILED, error.__name__, "it cannot be opened", "mend it"))
        os._exit(1)

    return begin


def dying(_: Start) -> None:
    """A beginning that is the end."""
    os._exit(7)


def deaf(start: Start) -> NoReturn:
    """Serves, hears nothing more, and does not end either."""
    send(start.control, encode(Word.READY, 0))
    while True:
        signal.pause()


class Play:
    """A supervisor with these parts."""

    def __init__(self, *, drain_seconds: float = 5.0, **parts: Part) -> None:
        self.into, out_of = make_pair()
        names = {"hub": HUB, "mitm": MITM, "one": "worker 1", "two": "worker 2", "three": "worker 3"}
        roles = {
            names[name]: Role(part.main, self._leave, judges=name != "hub")
            for name, part in ({"hub": Part(), "mitm": Part()} | parts).items()
        }
        self.supervisor = Supervisor(roles, generation(1), out_of, drain_seconds=drain_seconds)

    def _leave(self) -> None:
        self.supervisor.leave()

    def run(self, *acts: Callable[[Supervisor], None], warm: bool = False) -> None:
        """Start, play the acts, drain."""
        with self.supervisor.signals():
            try:
                self.supervisor.start(warm=warm)
            except (AuditError, StartError) as error:
                tell(type(error).__name__, error)
                return
            tell("started")
            for act in acts:
                act(self.supervisor)
            self.supervisor.drain()
            tell("drained")


def reload(supervisor: Supervisor) -> None:
    """A reload."""
    after = generation(supervisor.generation.number + 1)
    descriptor = write_generation(after)
    _, cut = reload_module.put_in_force(supervisor, after.number, descriptor, lambda: after)
    os.close(descriptor)
    tell("cut", cut)
    tell("reloaded", supervisor.generation.number)


def turns(seconds: float) -> Callable[[Supervisor], None]:
    """Let the supervisor act for so long."""

    def act(supervisor: Supervisor) -> None:
        deadline = time.monotonic() + seconds
        # A signal that means nothing to it makes the supervisor look up.
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        while time.monotonic() < deadline:
            supervisor.turn()
        signal.setitimer(signal.ITIMER_REAL, 0)

    return act


def main(scene: str) -> None:
    """Play one scene."""
    reload_module._PREPARE_SECONDS = reload_module._COMMIT_SECONDS = 1.0  # type: ignore[misc]
    supervisor_module._ENDING_SECONDS = supervisor_module._ABANDONED_SECONDS = 1.0  # type: ignore[misc]
    SCENES[scene]()


def _handed(supervisor: Supervisor, into: socket.socket, *, patience: float) -> None:
    near, far = socket.socketpair()
    assert HandedOver(into).hand_over(near, CLIENT, None)
    near.close()
    turns(patience)(supervisor)
    tell("client", "is told" if select.select([far], [], [], 0)[0] else "waits")


def needed() -> None:
    """A connection is handed over while no mitm process runs."""
    play = Play(one=Part())
    play.run(lambda supervisor: _handed(supervisor, play.into, patience=0.5))


def needed_in_vain() -> None:
    """The same, where the mitm process cannot start."""
    play = Play(one=Part(), mitm=Part(begin=dying))
    play.run(lambda supervisor: _handed(supervisor, play.into, patience=0.5))


def needed_during_a_reload() -> None:
    """A connection is handed over; before anybody has looked, a reload begins that takes its time."""
    play = Play(one=Part(), two=never(Word.PREPARE))

    def act(supervisor: Supervisor) -> None:
        turns(0.1)(supervisor)
        near, far = socket.socketpair()
        with near, far:
            assert HandedOver(play.into).hand_over(near, CLIENT, None)
            reload(supervisor)
            turns(0.3)(supervisor)

    play.run(act)


def fault() -> None:
    """Something that nobody thought of goes wrong in the supervisor; one of its processes does not even notice."""

    def act(_: Supervisor) -> None:
        raise ZeroDivisionError

    try:
        Play(one=Part(), two=Part(begin=deaf)).run(act)
    except ZeroDivisionError:
        tell("fault")


def killed(name: str) -> Callable[[Supervisor], None]:
    """A process is killed, and time passes."""

    def act(supervisor: Supervisor) -> None:
        turns(0.3)(supervisor)
        supervisor._children[name].kill()
        turns(0.5)(supervisor)

    return act


def notes(supervisor: Supervisor) -> None:
    """Fill a process's channel until it must be found out."""
    child = next(child for child in supervisor.judges if child.name == "worker 1")
    for _ in range(10_000):
        supervisor.tell(child, Word.NOTE, "x", "y" * 1000)
    turns(0.5)(supervisor)


def never(*words: Word) -> Part:
    """Does not answer these, in its first generation."""
    return Part(deaf=frozenset(words), once=True)


SCENES: dict[str, Callable[[], None]] = {
    "reload": lambda: Play(one=Part(), two=Part(), three=Part()).run(reload),
    "deaf-to-prepare": lambda: Play(one=Part(), two=never(Word.PREPARE)).run(reload, turns(0.3)),
    "deaf-to-commit": lambda: Play(one=Part(), two=never(Word.COMMIT)).run(reload, turns(0.3)),
    "deaf-to-cut": lambda: Play(one=Part(), two=never(Word.CUT)).run(reload, turns(0.3)),
    "dies-of-prepare": lambda: Play(one=Part(), two=Part(dies=frozenset({Word.PREPARE}), once=True)).run(
        reload, turns(0.3)
    ),
    "dies-while-another-is-slow": lambda: Play(
        one=Part(), two=Part(dies=frozenset({Word.PREPARE}), once=True), three=never(Word.PREPARE)
    ).run(reload, turns(0.3)),
    "fault": fault,
    "drain": lambda: Play(one=Part(), two=Part()).run(warm=True),
    "deaf-to-drain": lambda: Play(one=Part(deaf=frozenset({Word.DRAIN, Word.END})), drain_seconds=0.2).run(),
    "hub-fails": lambda: Play(hub=Part(begin=raising(AuditError)), one=Part()).run(),
    "worker-fails": lambda: Play(one=Part(begin=dying)).run(),
    "worker-killed": lambda: Play(one=Part(), two=Part()).run(killed("worker 1")),
    "hub-killed": lambda: Play(one=Part()).run(killed("hub")),
    "mitm-killed": lambda: Play(one=Part()).run(killed("mitm"), warm=True),
    "needed": needed,
    "needed-in-vain": needed_in_vain,
    "needed-during-a-reload": needed_during_a_reload,
    "does-not-listen": lambda: Play(one=Part(begin=deaf), drain_seconds=0.2).run(notes),
}


if __name__ == "__main__":
    main(sys.argv[1])
