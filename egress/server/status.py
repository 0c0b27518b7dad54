"""What `egress status` is told: the policy in force, the processes, what they count, and whether the proxy is ready.

Ready means: a policy is in force, the hub and all workers serve, answer, and judge by it, and the audit can be written.
A process that does not answer in time is shown as silent, and holds up nothing.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from egress import __version__
from egress.config import told_listener
from egress.config.recorded import absolute
from egress.policy import Lane
from egress.server.channel import Word
from egress.server.process_usage import usage
from egress.server.supervisor import HUB, MITM

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.config import SandboxDefinition, ServerConfig
    from egress.policy import ScopeRules
    from egress.server.children import Child
    from egress.server.listening import Listener
    from egress.server.reloads import Reloads
    from egress.server.supervisor import Supervisor

_ANSWER_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.01

# What readiness is made of.
CHECKS: Final = ("listeners", "policy", "audit", "hub", "workers")

type Plain = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the proxy listens, and since when (monotonic seconds) it runs.

    `listening`: where it is a proxy; `listeners`: everywhere, but for `admin`, where it tells of itself.
    """

    listening: tuple[str, ...]
    started: float
    listeners: tuple[Listener, ...] = ()
    admin: str | None = None

    def plain(self) -> list[Plain]:
        """Every listener, for a program."""
        found = [
            {"kind": one.kind.value, "address": one.told, "destination": one.destination, "mode": one.mode}
            for one in self.listeners
        ]
        if self.admin is not None:
            found.append({"kind": "admin", "address": self.admin, "destination": None, "mode": None})
        return found


class Status:
    """Asks the processes, and puts together what they say with what the supervisor knows.

    `closed`: the listeners that nobody can connect to, as people write them.
    """

    def __init__(
        self,
        config: ServerConfig,
        supervisor: Supervisor,
        reloads: Reloads,
        place: Place,
        closed: Callable[[], list[str]] = list,
    ) -> None:
        self._config = config
        self._supervisor = supervisor
        self._reloads = reloads
        self._place = place
        self._closed = closed

    def address(self, *, unix: bool) -> str:
        """The first of the addresses that the proxy listens on that is a unix socket, or is not; else the first."""
        listening = self._place.listening
        return next((told for told in listening if told.startswith("unix:") is unix), listening[0])

    @property
    def _listening(self) -> str:
        return ", ".join(self._place.listening)

    def ask(self, done: Callable[[Plain], None]) -> None:
        """Ask every process that serves; `done` gets the whole once all have answered, or the time is over."""
        for child in self._supervisor.children:
            # Who has not answered the last question has it still: more of them would only fill its channel.
            if Word.READY in child.said and child.asked == child.told[0]:
                child.asked += 1
                self._supervisor.tell(child, Word.STATUS, child.asked)
        self._wait(done, time.monotonic() + _ANSWER_SECONDS)

    def ask_sandboxes(self, done: Callable[[Plain], None]) -> None:
        """Who is known, and how many connections each has open; answered as `ask` is."""
        self.ask(lambda _: done({"listening": self._listening, "sandboxes": self._sandboxes()}))

    def _sandboxes(self) -> list[Plain]:
        roster = self._supervisor.generation.roster
        open_now: Counter[str] = Counter()
        for child in self._supervisor.children:
            open_now.update(child.told[1].get("sandboxes", {}))
        now = time.time()
        return [_sandbox(own.definition, open_now, now) for own in (() if roster is None else roster.members)]

    def _wait(self, done: Callable[[Plain], None], deadline: float) -> None:
        if time.monotonic() < deadline and any(_is_silent(child) for child in self._supervisor.children):
            self._supervisor.events.later(_LOOK_SECONDS, lambda: self._wait(done, deadline))
        else:
            done(self._whole())

    def ask_metrics(self, done: Callable[[Plain], None]) -> None:
        """The whole, with what only metrics tell; answered as `ask` is."""
        self.ask(lambda told: done({**told, "measured": self._measured()}))

    def _measured(self) -> Plain:
        children = self._supervisor.children
        open_now: Counter[str] = Counter()
        for child in children:
            open_now.update(child.told[1].get("sandboxes", {}))
        return {
            "hub": next((dict(child.told[1]) for child in children if child.name == HUB), {}),
            "waiting": sum(child.told[1].get("waiting", 0) for child in children),
            "sandboxes": dict(open_now),
            "own": usage(os.getpid()),
            "processes": {child.name: usage(child.pid) for child in children},
        }

    def _whole(self) -> Plain:
        found = self._reasons()
        reasons = [sentence for _, sentence in found]
        failed = {check for check, _ in found}
        children = self._supervisor.children
        return {
            "ready": not reasons,
            "reasons": reasons,
            "checks": {check: check not in failed for check in CHECKS},
            "version": __version__,
            "pid": os.getpid(),
            "listening": self._listening,
            "listeners": self._place.plain(),
            "upstream_proxy": None if self._config.upstream.proxy is None else str(self._config.upstream.proxy.address),
            "uptime": round(time.monotonic() - self._place.started, 3),
            "policy": self._policy(),
            "reload": None if self._reloads.last is None else self._reloads.last.plain(),
            "processes": [_process(child) for child in children],
            "connections": sum(child.told[1].get("connections", 0) for child in children),
            "open": sum(child.told[1].get("open", 0) for child in children),
            "counters": _counters(children),
        }

    def _reasons(self) -> list[tuple[str, str]]:
        """What keeps the proxy from being ready: which of `CHECKS`, and a sentence."""
        supervisor = self._supervisor
        if supervisor.stopping:
            return [("listeners", "the proxy is stopping")]
        found = [("listeners", f"nobody can connect to {told}") for told in self._closed()]
        found += [(_check_of(name), f"the process `{name}` is not ready") for name in supervisor.missing]
        for child in supervisor.children:
            generation = child.told[1].get("generation", supervisor.generation.number)
            if child.name != MITM and Word.READY in child.said and _is_silent(child):
                found.append((_check_of(child.name), f"the process `{child.name}` does not answer"))
            elif not _is_silent(child) and generation != supervisor.generation.number:
                found.append(("policy", f"the process `{child.name}` judges by generation {generation}"))
            if problem := child.told[1].get("problem"):
                found.append(("audit", f"the audit cannot be written: {problem}"))
        return found

    def _policy(self) -> Plain:
        generation, begun = self._supervisor.generation, self._reloads.begun
        return {
            "generation": generation.number,
            "digest": generation.digest,
            "sandboxes": None if generation.roster is None else len(generation.roster.members),
            "loaded": self._reloads.loaded,
            "files": [str(absolute(path)) for path in generation.files],
            "scopes": [_scope(scope) for scope in generation.policy.scopes],
            "reporting": [scope.value for scope in generation.reporting],
            "watched": self._config.watch,
            "last_good": begun.warning or None,
            "problems": list(begun.problems),
        }


def _sandbox(own: SandboxDefinition, open_now: Counter[str], now: float) -> Plain:
    listener = own.listener
    return {
        "name": own.name,
        "sources": [str(source) for source in own.sources],
        "listener": None if listener is None else told_listener(listener),
        "uids": list(own.uids),
        "token": own.token is not None,
        "labels": dict(own.sandbox.labels),
        "registered": own.registered,
        "ttl": None if own.expires is None else max(round(own.expires - now, 1), 0),
        "connections": open_now[own.name],
    }


def _check_of(process: str) -> str:
    return "hub" if process == HUB else "workers"


def _is_silent(child: Child) -> bool:
    return child.asked != child.told[0]


def _process(child: Child) -> Plain:
    state = "starting"
    if Word.READY in child.said:
        state = "silent" if _is_silent(child) else "ready"
    lanes = {HUB: [], MITM: [Lane.MITM.value]}.get(child.name, [Lane.TUNNEL.value, Lane.HTTP.value])
    return {
        "name": child.name,
        "pid": child.pid,
        "uptime": round(time.monotonic() - child.started, 3),
        "state": state,
        "lanes": lanes,
        "connections": child.told[1].get("connections"),
        "open": child.told[1].get("open"),
        "tasks": child.told[1].get("tasks"),
    }


def _counters(children: tuple[Child, ...]) -> Plain:
    """What the hub counted since it began; what the others turned away and could not tell it yet is added."""
    hub = next((child.told[1] for child in children if child.name == HUB), {})
    verdicts: Counter[str] = Counter(hub.get("verdicts", {}))
    return {
        "since": hub.get("since"),
        "verdicts": dict(verdicts),
        "recorded": hub.get("recorded"),
        "refused": sum(child.told[1].get("refused", 0) for child in children),
    }


def _scope(scope: ScopeRules) -> Plain:
    mode = getattr(scope, "mode", None)
    return {
        "scope": scope.scope.value,
        "rules": len(scope.rules),
        "default": None if scope.default is None else scope.default.value,
        "mode": None if mode is None else str(mode),
    }
