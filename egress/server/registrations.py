"""Registering sandboxes at run time: one change after the other, each in force in all processes before it is answered.

1. added     written down first, then put in force; what cannot be used changes nothing. The token is made here, told
             once, and kept as its hash
2. removed   written down first as well, so that no start brings it back; in force even where that cannot be written
3. expired   as removed, by itself
4. Files are not read for any of it. Files that are being read meanwhile are read again, since what they would have
   put in force knows nothing of the change.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from egress.audit.notes import Kind, count_of
from egress.config import (
    SandboxDefinition,
    UnixListener,
    hash_token,
    label_problem,
    name_problem,
    uid_problem,
    wall_clock,
)
from egress.errors import ConfigError
from egress.gate.enrol import enrolled
from egress.policy import Sandbox
from egress.server.generations import write_generation
from egress.server.registry import read_sources, write_registry
from egress.server.reload import put_in_force

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from egress.config import ListenAddress
    from egress.gate.generation import Generation
    from egress.policy import Network
    from egress.server.reloads import Reloads
    from egress.server.supervisor import Supervisor

logger = logging.getLogger(__name__)

MOST_REGISTERED: Final = 1_000
LONGEST_TTL: Final = 30 * 86_400
_TOKEN_BYTES: Final = 32
# The next expiry is looked for again after so long at most: the clock may be set.
_LOOK_SECONDS: Final = 60.0

type Answer = Callable[[Mapping[str, Any]], None]


class _Refused(Exception):  # noqa: N818 - it is told as a refusal
    """A change that is not made; its arguments say why, a line each."""


@dataclass(frozen=True, slots=True)
class _Asked:
    request: Mapping[str, Any]
    answer: Answer
    who: str


class Registrations:
    """The sandboxes that were registered with one supervisor.

    `known`: those of the registry. `listens`: where the proxy listens.
    """

    def __init__(
        self,
        state_dir: Path,
        supervisor: Supervisor,
        reloads: Reloads,
        known: tuple[SandboxDefinition, ...] | None,
        listens: Sequence[ListenAddress] = (),
    ) -> None:
        self._unix = any(isinstance(address, UnixListener) for address in listens)
        self._state_dir = state_dir
        self._supervisor = supervisor
        self._reloads = reloads
        self._known = {own.name: own for own in known or ()}
        self._asked: deque[_Asked] = deque()
        self._timer = supervisor.events.later(0, self._look)

    def ask(self, request: Mapping[str, Any], answer: Answer, who: str) -> None:
        """Have a sandbox added or removed because `who` asks; `answer` is called once that is done or refused."""
        self._asked.append(_Asked(request, answer, who))

    def act(self) -> None:
        """Make the changes that are due. To be called between the supervisor's turns, never within one."""
        now = wall_clock()
        expired = [own.name for own in self._known.values() if own.expires is not None and own.expires <= now]
        if expired:
            self._remove(expired, Kind.SANDBOX_EXPIRE)
        while self._asked and not self._supervisor.stopping:
            asked = self._asked.popleft()
            try:
                told = self._change(asked.request, asked.who)
            except _Refused as refusal:
                told = {"done": False, "problems": list(refusal.args)}
            asked.answer(told)

    def _look(self) -> None:
        """Only wakes the supervisor, which then calls `act`."""
        moments = [own.expires for own in self._known.values() if own.expires is not None]
        seconds = min([moment - wall_clock() for moment in moments], default=_LOOK_SECONDS)
        self._timer = self._supervisor.events.later(min(max(seconds, 0.05), _LOOK_SECONDS), self._look)

    def _change(self, request: Mapping[str, Any], who: str) -> Mapping[str, Any]:
        match request:
            case {"command": "sandbox-add", **more}:
                return self._add(more, who)
            case {"command": "sandbox-rm", "name": str(name), **more} if not more:
                if name not in self._known:
                    raise _Refused(f"no sandbox `{name[:80]}` is registered")
                return {"done": True, "name": name, "cut": self._remove([name], Kind.SANDBOX_RM, f"; by {who}")}
            case _:
                raise _Refused("this proxy knows no such request")

    # add

    def _add(self, asked: Mapping[str, Any], who: str) -> Mapping[str, Any]:
        token = secrets.token_hex(_TOKEN_BYTES)
        own = self._read(asked, token)
        before = self._supervisor.generation
        try:
            generation = enrolled(before, [*self._known.values(), own])
        except ConfigError as error:
            raise _Refused(*(str(problem) for problem in error.problems)) from error
        try:
            write_registry(self._state_dir, [*self._known.values(), own])
        except OSError as error:
            raise _Refused(f"the registry cannot be written: {error.strerror}") from error
        self._known[own.name] = own
        self._put_in_force(generation)
        until = "" if own.expires is None else f", until {_moment(own.expires)}"
        self._supervisor.note(Kind.SANDBOX_ADD, f"{own.name}{until}; digest {generation.digest}; by {who}")
        self._wake()
        return {"done": True, "name": own.name, "token": token, "expires": own.expires}

    def _read(self, asked: Mapping[str, Any], token: str) -> SandboxDefinition:
        name, sources, labels, ttl = asked.get("name"), asked.get("sources"), asked.get("labels"), asked.get("ttl")
        session = asked.get("policy") or ""
        if set(asked) - {"name", "sources", "uids", "labels", "ttl", "policy"} or not isinstance(session, str):
            raise _Refused("this proxy knows no such request")
        if not isinstance(name, str) or name_problem(name):
            problem = name_problem(name if isinstance(name, str) else "")
            raise _Refused(f"{problem}, write 1 to 63 lower-case letters, digits and `-`")
        self._check_room(name)
        pairs = labels if isinstance(labels, dict) else {}
        for problem in filter(None, (label_problem(key, value) for key, value in pairs.items())):
            raise _Refused(f"{problem}, write `team=data`, in lower-case letters, digits and `-`")
        if ttl is not None and not _is_ttl(ttl):
            raise _Refused(f"a sandbox lasts up to {LONGEST_TTL // 86_400} days, write `--ttl 1h`")
        try:
            ranges = read_sources(map(str, sources if isinstance(sources, list) else []))
        except ValueError as error:
            raise _Refused(str(error)) from error
        return SandboxDefinition(
            sandbox=Sandbox(name, tuple(pairs.items())),
            sources=ranges,
            token=hash_token(token.encode()),
            registered=True,
            session=session,
            expires=None if ttl is None else wall_clock() + ttl,
            uids=self._uids(asked.get("uids"), ranges),
        )

    def _uids(self, asked: object, sources: tuple[Network, ...]) -> tuple[int, ...]:
        uids = asked if isinstance(asked, list) else []
        for problem in filter(None, map(uid_problem, uids)):
            raise _Refused(f"{problem}, write a number, as `id -u NAME` prints it")
        if uids and not self._unix:
            raise _Refused("the proxy listens on no unix socket, so nobody would be this sandbox")
        if uids and sources:
            raise _Refused("a client of a unix socket has no address: give `--uid` or `--source`, not both")
        return tuple(dict.fromkeys(uids))

    def _check_room(self, name: str) -> None:
        if self._supervisor.generation.roster is not None and name in self._supervisor.generation.roster.policies:
            raise _Refused(f"there is a sandbox `{name}` already, remove it first: `egress sandbox rm {name}`")
        if len(self._known) >= MOST_REGISTERED:
            raise _Refused(f"{MOST_REGISTERED} sandboxes are registered, and there can be no more: remove some")

    # remove

    def _remove(self, names: list[str], kind: Kind, by: str = "") -> int:
        for name in names:
            del self._known[name]
        try:
            write_registry(self._state_dir, self._known.values())
        except OSError as error:
            # Said loudly: what did not expire by itself would be back after the next start.
            logger.error("the registry cannot be written, and still holds %s: %s", ", ".join(names), error.strerror)  # noqa: TRY400 - it says it all
        cut = self._put_in_force(enrolled(self._supervisor.generation, list(self._known.values())))
        for name in names:
            # Several that expire at once are put out of force at once, and so counted together.
            self._supervisor.note(kind, f"{name}{by}; {count_of(cut)} cut")
        return cut

    # both

    def _put_in_force(self, generation: Generation) -> int:
        self._reloads.read_again()
        supervisor = self._supervisor
        descriptor = write_generation(generation, supervisor.generation)
        try:
            _, cut = put_in_force(supervisor, generation.number, descriptor, lambda: generation)
        finally:
            os.close(descriptor)
        self._reloads.changed(generation)
        return cut

    def _wake(self) -> None:
        self._supervisor.events.cancel(self._timer)
        self._look()


def _is_ttl(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= LONGEST_TTL


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
