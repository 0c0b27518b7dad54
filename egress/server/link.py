"""What a process that judges has at the hub: its audit, names and secrets, and its part in the limits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from egress.server.channel import Line, Values, Word
from egress.server.questions import HubQuestions

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from egress.server.fetches import HubSecrets
    from egress.server.leases import Shares
    from egress.server.names import HubNames
    from egress.server.quotas import HubCounting
    from egress.server.rows import RowSink

_ASK_SECONDS: Final = 1.0


class HubLink:
    """The line to the hub that is there; without one, everything that needs it is refused, and `ask` asks for one."""

    def __init__(
        self,
        sink: RowSink,
        answers: tuple[HubNames, HubSecrets],
        limits: tuple[Shares, HubCounting],
        ask: Callable[[], None],
        questions: HubQuestions | None = None,
    ) -> None:
        self._sink = sink
        self._names, self._secrets = answers
        self._shares, self._quotas = limits
        self._ask = ask
        self._questions = questions or HubQuestions()
        self._timer: asyncio.TimerHandle | None = None
        self._wait()
        self._line: Line | None = None

    def attach(self, end: socket.socket) -> None:
        """A hub is there: what is held here first, then what the last hub left undone."""
        self.close()
        line = Line(asyncio.get_running_loop(), end, self._heard, self._lost)
        self._line = line
        self._quotas.report(line)
        line.say(Word.HELD, self._shares.held())
        self._names.attached(line)
        self._sink.attached(line)
        self._shares.attached(line)
        self._quotas.attached(line)
        self._secrets.attached(line)
        self._questions.attached(line)

    def close(self) -> None:
        """Leave the hub."""
        if self._line is not None:
            self._line.close()
            self._leave()

    def _lost(self) -> None:
        self._leave()
        self._wait()

    def _wait(self) -> None:
        # A hub that is new is joined to this process without asking; a line that broke between two that live is not.
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_ASK_SECONDS, self._ask_again)

    def _ask_again(self) -> None:
        self._timer = None
        if self._line is None:
            self._ask()
            self._wait()

    def _leave(self) -> None:
        self._line = None
        self._sink.lost()
        self._names.lost()
        self._shares.lost()
        self._quotas.lost()
        self._secrets.lost()
        self._questions.lost()

    def _heard(self, values: Values, descriptors: list[int]) -> None:
        del descriptors  # a hub sends none
        match values:
            case (Word.RECORDED, number):
                self._sink.recorded(number)
            case (Word.AUDIT, problem):
                self._sink.told(problem)
            case (Word.ANSWER, name, servers, addresses, error, ttl):
                self._names.answered((name, servers), addresses, error, ttl)
            case (Word.GRANT, key, count):
                self._shares.granted(key, count)
            case (Word.COUNTED, number, answer):
                self._quotas.answered(number, answer)
            case (Word.REPLY, number, answer, error):
                self._questions.answered(number, answer, error)
            case (Word.FETCHED, number, answer):
                self._secrets.answered(number, answer)
            case _:
                raise ValueError(values[0])
