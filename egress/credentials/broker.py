"""The one fetcher of secrets' values, in one process, whoever of ours needs them.

1. single flight  a source is asked once at a time, however many wait for it
2. ahead          a value in use is fetched anew, in the background, before it ends: at a moment that differs each time
3. failures       are remembered apart from values, and the source is left alone for longer each time
4. stale          a value serves for as long as it is valid, and not a moment longer, whatever has failed
5. INVARIANT fail-closed: a fetch that hangs ends, and all who wait for it are told that there is no value
6. INVARIANT secret-confinement: what is logged or noted names the secret, its source and the hosts asked: no value

Moments are those of a clock that nobody sets; a source's own expiry is turned into one when its answer comes.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from egress.config.plain_sources import word_of
from egress.config.secret_sources import CommandSource, StoreSource
from egress.credentials.entry import Entry, Patience, Value, life_of
from egress.credentials.means import FetchMeans, Renewals
from egress.credentials.providers.registry import provider_of
from egress.credentials.sources import MAX_BYTES, checked
from egress.credentials.wanted import Failed, Held, Usable
from egress.errors import CredentialError, EgressError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from egress.config.secret_sources import FetchedSource, LeafSource
    from egress.credentials.means import Services
    from egress.credentials.providers.interface import Fetched, Provider
    from egress.credentials.secret import Secret
    from egress.credentials.wanted import Wanted

logger = logging.getLogger(__name__)

AUDIT_KIND: Final = "credential-fetch"
# How much of a value's time is over when it is fetched anew, at the least and at the most.
RENEWED_AFTER: Final = (0.75, 0.9)
_SOON_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 30.0
_FAILURE_SECONDS: Final = 1.0
_FAILURE_AT_MOST: Final = 30.0


@dataclass(slots=True, eq=False)
class Broker:
    """All methods run on the event loop's thread.

    `note` records what happened to the proxy (kind, detail). `on_renewed` writes back, in place of what a leaf of our
    own store held, what its source gave for the next time; it is called in a thread. `outcomes` counts fetches.
    """

    services: Services
    patience: Patience = field(default_factory=Patience)
    note: Callable[[str, str], object] = lambda _kind, _detail: None
    on_renewed: Callable[[StoreSource, Secret], None] = lambda _leaf, _renewed: None
    provider: Callable[[FetchedSource], Provider[FetchedSource]] = provider_of
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[float, float], float] = random.uniform
    outcomes: Counter[str] = field(default_factory=Counter)
    _entries: dict[str, Entry] = field(default_factory=dict)
    _renewals: Renewals = field(default_factory=Renewals)
    _waiting: int = 0
    _timer: asyncio.TimerHandle | None = None

    def known(self, wanted: Wanted) -> Usable | None:
        """The value, if there is one that may be used now; asking counts as use."""
        entry = self._entries.get(wanted.key)
        if entry is None:
            return None
        now = entry.asked = self.clock()
        value = entry.valid(now)
        if value is not None and now >= value.renew_at:
            self._begin(entry, now)
        return None if value is None else value.usable

    async def get(self, wanted: Wanted) -> Held | Failed:
        """The value: at once, if there is one; else when it has been fetched. Never raises."""
        now = self.clock()
        entry = self._entry(wanted, now)
        if entry is None:
            return Failed(f"secret `{wanted.name}`: too many secrets are being fetched")
        entry.wanted, entry.asked = wanted, now
        if self.known(wanted) is None:
            self._begin(entry, now)
            if entry.task is not None:
                await self._wait(entry.task)
        return self._answer(entry)

    def expect(self, wanted: Wanted) -> None:
        """Have it fetched, in the background, if it is not there."""
        now = self.clock()
        entry = self._entry(wanted, now)
        if entry is not None and entry.valid(now) is None:
            entry.wanted = wanted
            self._begin(entry, now)

    def values(self) -> Iterator[Secret]:
        """All values that are held, and those before them, for the cleaning of logs."""
        for entry in tuple(self._entries.values()):
            yield from entry.wanted.leaves.values()
            yield from entry.secrets()

    def stop(self) -> list[asyncio.Task[None]]:
        """Have what is being fetched end; returns what is to be waited for."""
        if self._timer is not None:
            self._timer.cancel()
        tasks = [entry.task for entry in self._entries.values() if entry.task is not None]
        self._entries.clear()
        for task in tasks:
            task.cancel()
        return tasks

    async def close(self) -> None:
        """End what is being fetched, and with it the programs that were started for it."""
        await asyncio.gather(*self.stop(), return_exceptions=True)

    def renew_due(self) -> None:
        """Fetch anew what is in use and about to end; drop what has ended."""
        now = self.clock()
        for entry in self._entries.values():
            if entry.value is not None and now >= entry.value.ends:
                entry.drop()
            elif entry.value is not None and now >= entry.value.renew_at and entry.in_use(now):
                self._begin(entry, now)
        self._look_again(now)

    # a fetch

    def _entry(self, wanted: Wanted, now: float) -> Entry | None:
        entry = self._entries.get(wanted.key)
        if entry is None and self._has_room():
            entry = self._entries[wanted.key] = Entry(wanted, now)
        return entry

    def _has_room(self) -> bool:
        """Make room for one more: what nobody has asked for for longest gives way."""
        if len(self._entries) < self.patience.sources:
            return True
        idle = [(entry.asked, key) for key, entry in self._entries.items() if entry.task is None]
        if idle:
            del self._entries[min(idle)[1]]
        return bool(idle)

    def _begin(self, entry: Entry, now: float) -> None:
        if entry.task is None and now >= entry.retry_at:
            entry.task = asyncio.get_running_loop().create_task(self._fetch(entry))

    async def _wait(self, task: asyncio.Task[None]) -> None:
        """Wait for a fetch as long as anybody may; it goes on for the others."""
        if self._waiting < self.patience.waiting:
            self._waiting += 1
            try:
                await asyncio.wait({task}, timeout=self.patience.fetch_seconds)
            finally:
                self._waiting -= 1

    def _answer(self, entry: Entry) -> Held | Failed:
        now = self.clock()
        value = entry.valid(now)
        if value is not None:
            again = max(value.renew_at, entry.retry_at if entry.failed else 0.0) - now
            return Held(value.usable, value.ends - now, max(again, _SOON_SECONDS))
        if entry.failed is None:
            return Failed(f"secret `{entry.wanted.name}`: its source did not answer in time")
        left = max(entry.retry_at - now, 0.0)
        return Failed(entry.failed.message, entry.failed.hint, left)

    async def _fetch(self, entry: Entry) -> None:
        wanted = entry.wanted
        means = FetchMeans(wanted, self.services, self._renewals)
        seconds = self.patience.fetch_seconds
        if isinstance(wanted.source, CommandSource):
            # Beyond its own time, that of ending the program.
            seconds = max(seconds, wanted.source.seconds + 2 * _SOON_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                await means.prepare()
                fetched = await self.provider(wanted.source)(wanted.name, wanted.source, means)
            await self._keep(entry, fetched, means)
        except TimeoutError:
            late = f"secret `{wanted.name}`: its source did not answer in {seconds:g} seconds"
            self._fail(entry, means, Failed(late))
        except EgressError as error:
            # What is wrong with a host says nothing of whose value it was to give.
            whose = "" if f"`{wanted.name}`" in error.message else f"secret `{wanted.name}`: "
            self._fail(entry, means, Failed(f"{whose}{error.message}", error.hint))
        except Exception as error:  # noqa: BLE001 - a library's own text may quote what it was handed
            told = f"secret `{wanted.name}`: fetching it failed ({type(error).__name__})"
            self._fail(entry, means, Failed(told))
        finally:
            entry.task = None
        self._look_again(self.clock())

    async def _keep(self, entry: Entry, fetched: Fetched, means: FetchMeans) -> None:
        if fetched.renewed is not None:
            # First of all: what was used up must not be tried again, whatever else is wrong with the answer.
            await self._keep_renewed(entry.wanted.source, fetched.renewed, means)
        name = entry.wanted.name
        text = fetched.value.reveal()
        if len(text) > MAX_BYTES:
            raise CredentialError(f"secret `{name}`: the value is larger than {MAX_BYTES // 1024} KiB")
        secret = checked(name, text, f"what `{word_of(entry.wanted.source)}` gave")
        binding = means.binding() if fetched.binding is None else fetched.binding
        life = life_of(name, fetched, self.services.wall(), self.patience.period_seconds)
        span = min(life, fetched.refresh_seconds or life)
        now = self.clock()
        entry.former = None if entry.value is None else entry.value.usable.secret
        renew_at = now + span * self.chance(*RENEWED_AFTER)
        entry.value = Value(Usable(secret, binding), renew_at, now + life, span)
        entry.failed, entry.failures, entry.retry_at, entry.told = None, 0, 0.0, ""
        self._note(entry.wanted, means, "fetched")

    async def _keep_renewed(self, source: FetchedSource, renewed: Secret, means: FetchMeans) -> None:
        leaf: LeafSource | None = getattr(source, "refresh_token", None)
        original = None if leaf is None else means.original(leaf)
        if leaf is None or original is None:
            return
        self._renewals.keep(leaf, original, renewed)
        if isinstance(leaf, StoreSource):
            try:
                await asyncio.to_thread(self.on_renewed, leaf, renewed)
            except Exception as error:  # noqa: BLE001 - as above; it is still had here
                told = type(error).__name__
                logger.error("the stored secret `%s` could not be renewed (%s)", leaf.name, told)  # noqa: TRY400

    def _fail(self, entry: Entry, means: FetchMeans, failed: Failed) -> None:
        entry.failed = failed
        wait = min(_FAILURE_SECONDS * 2.0**entry.failures, _FAILURE_AT_MOST) * self.chance(*RENEWED_AFTER)
        entry.failures = min(entry.failures + 1, 16)
        entry.retry_at = self.clock() + wait
        if failed.message != entry.told:
            entry.told = failed.message
            logger.warning("%s%s", failed.message, f"; {failed.hint}" if failed.hint else "")
        self._note(entry.wanted, means, "failed")

    def _note(self, wanted: Wanted, means: FetchMeans, outcome: str) -> None:
        """Have it recorded as the proxy's own; a look into our own store is none."""
        if isinstance(wanted.source, StoreSource) and outcome == "fetched":
            return
        self.outcomes[outcome] += 1
        asked = f", asked {', '.join(means.called)}" if means.called else ""
        self.note(AUDIT_KIND, f"secret `{wanted.name}` ({word_of(wanted.source)}): {outcome}{asked}")

    def _look_again(self, now: float) -> None:
        """Look when the next value is due."""
        due = [moment for entry in self._entries.values() if (moment := entry.due(now)) is not None]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due:
            wait = min(max(min(due) - now, _SOON_SECONDS), _LOOK_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(wait, self.renew_due)
