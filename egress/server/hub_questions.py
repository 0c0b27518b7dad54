"""What processes that judge ask the hub about names, beside their addresses: what it gave out, and other records.

INVARIANT fail-closed: a question that cannot be answered is answered with an error, never with nothing that could be
taken for an answer.
"""

from __future__ import annotations

import asyncio
import logging
from enum import StrEnum
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, Protocol

from egress.server.channel import Word

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.gate.given_book import GivenBook
    from egress.gate.resolver import NameService, Records, Servers
    from egress.server.channel import Line

logger = logging.getLogger(__name__)

_AT_MOST: Final = 4_096
_CLOSE_SECONDS: Final = 5.0


class About(StrEnum):
    """What is asked: the address that stands for a name, the name that an address stands for, records of a type."""

    LEND = "lend"
    WHOSE = "whose"
    RECORDS = "records"


class Questions:
    """Answers for all processes. `book` None: no addresses are given out."""

    def __init__(self, names: NameService, book: GivenBook | None) -> None:
        self._names = names
        self._book = book
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Read what was given out before. Raises StateError."""
        if self._book is not None:
            self._book.open()

    async def close(self) -> None:
        """Let what is being written be written, and close the book."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_SECONDS)
        if self._book is not None:
            self._book.close()

    def asked(self, line: Line, number: int, about: str, told: Sequence[Any]) -> None:
        """A question; its answer comes with its number."""
        if len(self._tasks) >= _AT_MOST:
            line.say(Word.REPLY, number, None, "too much is being asked")
            return
        task = asyncio.get_running_loop().create_task(self._answer(line, number, about, told))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, line: Line, number: int, about: str, told: Sequence[Any]) -> None:
        try:
            answer = await self._answer_to(about, told)
        except Exception:
            logger.exception("a question about a name could not be answered")
            line.say(Word.REPLY, number, None, "it could not be answered")
            return
        line.say(Word.REPLY, number, answer, "")

    async def _answer_to(self, about: str, told: Sequence[Any]) -> Any:
        match about, told:
            case About.LEND, (name, version, sandbox) if self._book is not None:
                address = await self._book.lend(name, version, sandbox)
                return None if address is None else str(address)
            case About.WHOSE, (text,) if self._book is not None:
                return await self._book.name_of(ip_address(text))
            case About.RECORDS, (name, kind, servers):
                found = await _records(self._names).records(name, kind, servers)
                return list(found.records), found.error, found.ttl
        raise ValueError(about)


class RecordService(Protocol):
    """Who asks for records of other types."""

    async def records(self, name: str, kind: int, servers: Servers) -> Records:
        """Records of a type of a canonical name. Never raises for a name that has none; `Records.error` says why."""


def _records(names: Any) -> RecordService:
    """The same resolver, for other records."""
    found: RecordService = names
    return found
