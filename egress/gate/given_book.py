"""The book of synthetic addresses: which address of ours stands for which name, in one process for all others.

1. one address a name and family; the same for every sandbox, so that what it stands for does not depend on who asks
2. INVARIANT one-name: an address is written down, on the disk, before anybody is told of it; after a restart it still
   stands for its name
3. an address becomes another name's only once the range is used up, and nobody asked for it, or came with it, for
   `keep_seconds`; as long as there is none such, who asks for a new name gets none
4. a sandbox has at most a part of what there is: one that asks for ever new names leaves the others theirs

Where the book was lost, it begins anew at a random place of the range: what clients may still hold is not told again
before the range is used up.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import time
from collections import OrderedDict
from contextlib import closing
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address
from typing import TYPE_CHECKING, Final

from egress.errors import StateError
from egress.policy import unmap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from ipaddress import IPv6Network
    from pathlib import Path

    from egress.policy import Address

BOOK_NAME: Final = "dns-addresses.db"
# What is remembered of one family at most; an IPv6 range has more addresses than anybody's memory.
_NAMES_AT_MOST: Final = 200_000
_PART: Final = 4
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS given (address TEXT PRIMARY KEY, name TEXT NOT NULL, sandbox TEXT NOT NULL)"
)
_INSERT: Final = "INSERT OR REPLACE INTO given (address, name, sandbox) VALUES (?, ?, ?)"


@dataclass(slots=True)
class _Given:
    """What an address stands for, for whom it was first taken, and when it was last used."""

    name: str
    sandbox: str
    used: float


class Range:
    """The addresses of one family. Plain memory; knows nothing of the disk."""

    def __init__(self, network: IPv4Network | IPv6Network, keep_seconds: float, at_most: int = _NAMES_AT_MOST) -> None:
        self.network = network
        self._keep = keep_seconds
        self._first = int(network.network_address) + 1
        # Without the first and the last, which routers may take for addresses of the network itself.
        self._size = network.num_addresses - 2
        self._capacity = min(self._size, at_most)
        self._cursor = secrets.randbelow(self._size)
        # Longest unused first.
        self._given: OrderedDict[int, _Given] = OrderedDict()
        self._by_name: dict[str, int] = {}
        # Those that were taken for each sandbox, in the same order.
        self._held: dict[str, OrderedDict[int, None]] = {}

    def __len__(self) -> int:
        return len(self._given)

    def restore(self, address: Address, name: str, sandbox: str, now: float) -> None:
        """What is written down counts as used just now: nobody knows when it was."""
        if address in self.network and name not in self._by_name and len(self._given) < self._capacity:
            self._put(int(address), _Given(name, sandbox, now))

    def known(self, name: str, now: float) -> Address | None:
        """The address of a name that has one, which is used by that."""
        number = self._by_name.get(name)
        return None if number is None else self._use(number, now)

    def name_of(self, address: Address, now: float) -> str | None:
        """What an address stands for, and is used for by that."""
        given = self._given.get(int(address)) if address in self.network else None
        if given is None:
            return None
        self._use(int(address), now)
        return given.name

    def take(self, name: str, sandbox: str, now: float) -> Address | None:
        """An address for a name that has none; None: all are in use, or all that one sandbox may have."""
        number = self._free(sandbox, now)
        if number is None:
            return None
        self._put(number, _Given(name, sandbox, now))
        return ip_address(self._text(number))

    def drop(self, name: str) -> None:
        """Forget what nobody was told of."""
        number = self._by_name.pop(name, None)
        if number is not None:
            sandbox = self._given.pop(number).sandbox
            del self._held[sandbox][number]
            if not self._held[sandbox]:
                del self._held[sandbox]

    def _free(self, sandbox: str, now: float) -> int | None:
        held = self._held.get(sandbox, ())
        if len(held) >= max(self._capacity // _PART, 1):
            return self._idle(next(iter(held)), now)
        if len(self._given) >= self._capacity:
            return self._idle(next(iter(self._given)), now)
        while self._first + self._cursor in self._given:
            self._cursor = (self._cursor + 1) % self._size
        return self._first + self._cursor

    def _idle(self, oldest: int, now: float) -> int | None:
        """The longest unused of those that could be another name's, if nobody used it for long enough."""
        given = self._given[oldest]
        if now - given.used < self._keep:
            return None
        self.drop(given.name)
        return oldest

    def _use(self, number: int, now: float) -> Address:
        given = self._given[number]
        given.used = now
        self._given.move_to_end(number)
        self._held[given.sandbox].move_to_end(number)
        return ip_address(self._text(number))

    def _put(self, number: int, given: _Given) -> None:
        self._given[number] = given
        self._by_name[given.name] = number
        self._held.setdefault(given.sandbox, OrderedDict())[number] = None

    def _text(self, number: int) -> str:
        # The number alone would not tell the family of a small one.
        return str(self.network.network_address + (number - int(self.network.network_address)))


class GivenBook:
    """The book of one folder. `names`: the ranges, at most one of a family. All methods run on one event loop."""

    def __init__(
        self,
        folder: Path,
        networks: Iterable[IPv4Network | IPv6Network],
        keep_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = folder / BOOK_NAME
        self._ranges: dict[int, Range] = {each.version: Range(each, keep_seconds) for each in networks}
        self._clock = clock
        self._database: sqlite3.Connection | None = None
        self._asked: dict[tuple[int, str], asyncio.Future[Address | None]] = {}
        self._writing = asyncio.Lock()

    def open(self) -> None:
        """Read what was given out before. Raises StateError: without it, an address could be told for two names."""
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            # It is used by one thread at a time.
            database = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=5)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            database.execute(_SCHEMA)
            self._restore(database.execute("SELECT address, name, sandbox FROM given").fetchall())
        except (sqlite3.Error, ValueError) as error:
            database.close()
            raise self._unusable(error) from error
        self._database = database

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def is_synthetic(self, address: Address) -> bool:
        """Whether the address lies in one of the ranges, whoever was given it."""
        return is_in(address, [own.network for own in self._ranges.values()])

    async def name_of(self, address: Address) -> str | None:
        """The one name that a synthetic address stands for; None: none."""
        plain = unmap(address)
        own = self._ranges.get(plain.version)
        return None if own is None else own.name_of(plain, self._clock())

    async def lend(self, name: str, version: int, sandbox: str) -> Address | None:
        """The address that stands for a canonical name; None: there is none to be had."""
        own = self._ranges.get(version)
        if own is None or self._database is None:
            return None
        asked = self._asked.get((version, name))
        if asked is not None:
            return await asyncio.shield(asked)
        known = own.known(name, self._clock())
        if known is not None:
            return known
        task: asyncio.Future[Address | None] = asyncio.ensure_future(self._take(own, name, sandbox))
        self._asked[version, name] = task
        task.add_done_callback(lambda _: self._asked.pop((version, name), None))
        return await asyncio.shield(task)

    async def _take(self, own: Range, name: str, sandbox: str) -> Address | None:
        address = own.take(name, sandbox, self._clock())
        if address is None:
            return None
        try:
            async with self._writing:
                await asyncio.to_thread(self._write, (str(address), name, sandbox))
        except BaseException:
            # INVARIANT one-name: what is not on the disk is nobody's, and nobody is told of it.
            own.drop(name)
            raise
        return address

    def _write(self, row: tuple[str, str, str]) -> None:
        if self._database is None:
            raise sqlite3.ProgrammingError("the book is closed")
        self._database.execute(_INSERT, row)

    def _restore(self, rows: Iterable[tuple[str, str, str]]) -> None:
        now = self._clock()
        for text, name, sandbox in rows:
            address = ip_address(text)
            own = self._ranges.get(address.version)
            if own is not None:
                own.restore(address, name, sandbox, now)

    def _unusable(self, error: Exception) -> StateError:
        return StateError(
            f"cannot use `{self._path}`, which has the addresses that DNS gave out: {error}",
            hint="restore it: without it, an address that a sandbox still holds could come to stand for another name",
        )


def is_in(address: Address, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Whether a range holds the address, also as IPv6 writes one of IPv4."""
    plain = unmap(address)
    return any(plain in network for network in networks)


def read_names(path: Path) -> dict[str, str]:
    """What a book says, by address: for people and tests."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return dict(database.execute("SELECT address, name FROM given"))
