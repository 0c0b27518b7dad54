"""A broker whose clock, chance and sources are a test's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.config.secret_sources import EnvSource, VaultSource, VaultToken
from egress.credentials import Secret
from egress.credentials.broker import Broker
from egress.credentials.entry import Patience
from egress.credentials.means import Services
from egress.credentials.providers import Answer, Fetched
from egress.credentials.wanted import Wanted
from egress.errors import CredentialError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from egress.config.secret_sources import FetchedSource
    from egress.credentials.means import Stored
    from egress.credentials.providers import Means

# As if the machine had been set to a date: a source's own times are of this clock.
EPOCH = 1_700_000_000.0


def vault(path: str = "app") -> VaultSource:
    """A source; the fake provider fetches whatever it is."""
    return VaultSource("https://vault.test", path, VaultToken(EnvSource("TOKEN")))


def wanted(name: str = "github", source: FetchedSource | None = None, **leaves: str) -> Wanted:
    """A secret that is asked for."""
    values = {variable: Secret(variable, value) for variable, value in leaves.items()}
    return Wanted(name, source or vault(), values)


@dataclass
class Clock:
    """Seconds that a test lets pass."""

    seconds: float = 0.0

    def __call__(self) -> float:
        """Those that have passed."""
        return self.seconds


@dataclass
class Source:
    """A provider that gives what it is told to, in order, and the last of it for good."""

    gives: list[Fetched | Exception | None]
    asked: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    work: Callable[[Means], Coroutine[None, None, None]] | None = None

    async def fetch(self, name: str, source: object, means: Means) -> Fetched:
        """What is next; None never comes."""
        del name, source
        self.asked += 1
        give = self.gives.pop(0) if len(self.gives) > 1 else self.gives[0]
        await self.gate.wait()
        if self.work is not None:
            await self.work(means)
        if give is None:
            await asyncio.Event().wait()
        if isinstance(give, Exception):
            raise give
        assert give is not None
        return give


def value(text: str = "one", **more: float) -> Fetched:
    """A value that was fetched."""
    return Fetched(Secret("x", text), **more)  # type: ignore[arg-type]


class Stage:
    """A broker, and what it is made of. Answers come at once unless `hold` is set."""

    def __init__(self, *gives: Fetched | Exception | None, hold: bool = False, **patience: float) -> None:
        self.clock = Clock()
        self.source = Source(list(gives))
        if not hold:
            self.source.gate.set()
        self.notes: list[tuple[str, str]] = []
        self.renewed: list[tuple[str, str]] = []
        self.calls: list[tuple[str, str]] = []
        self.chances: list[tuple[float, float]] = []
        self.chosen = 0.0
        self.records: dict[str, Stored] = {}
        self.broker = Broker(
            Services(lambda: EPOCH + self.clock.seconds, self._call, self._stored),
            Patience(**({"fetch_seconds": 5.0} | patience)),  # type: ignore[arg-type]
            lambda kind, detail: self.notes.append((kind, detail)),
            lambda leaf, secret: self.renewed.append((leaf.name, secret.reveal())),
            provider=lambda _: self.source.fetch,
            clock=self.clock,
            chance=self._chance,
        )

    def _chance(self, first: float, last: float) -> float:
        self.chances.append((first, last))
        return first + (last - first) * self.chosen

    async def _call(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        del headers, body
        self.calls.append((method, url))
        return Answer(200, {}, b"")

    def _stored(self, name: str) -> Stored:
        if name not in self.records:
            raise CredentialError(f"no secret `{name}` is stored")
        return self.records[name]

    async def text(self, asked: Wanted | None = None) -> str | None:
        """The value, after asking for it; None if there is none."""
        await self.broker.get(asked or wanted())
        usable = self.broker.known(asked or wanted())
        return None if usable is None else usable.secret.reveal()


async def settle() -> None:
    """Let everything that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


def run(work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run on a loop of its own, within a limit."""

    async def bounded() -> None:
        async with asyncio.timeout(30):
            await work()

    asyncio.run(bounded())
