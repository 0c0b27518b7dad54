"""What the broker holds of one source: its value, what failed, who waits. Moments are seconds of the broker's clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from egress.errors import CredentialError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from egress.credentials.providers.interface import Fetched
    from egress.credentials.secret import Secret
    from egress.credentials.wanted import Failed, Usable, Wanted


# A value is not used in the last moments before its source says that it ends: on its way it would end.
_MARGIN_SECONDS: Final = 30.0
_MARGIN_PART: Final = 0.1


@dataclass(frozen=True, slots=True)
class Patience:
    """`fetch_seconds`: a fetch, and the wait for one. `period_seconds`: how long a value serves that states no end.

    `sources` and `waiting`: how many there may be at once.
    """

    fetch_seconds: float = 10.0
    period_seconds: float = 300.0
    sources: int = 1_024
    waiting: int = 4_096


@dataclass(frozen=True, slots=True)
class Value:
    """A value that was fetched. `span`: how long after that its source is asked anew at the latest, if it is in use."""

    usable: Usable
    renew_at: float
    ends: float
    span: float


@dataclass(slots=True, eq=False)
class Entry:
    """One source. `asked`: when somebody last wanted its value. `told`: what was last said of its failing."""

    wanted: Wanted
    asked: float
    value: Value | None = None
    former: Secret | None = None
    failed: Failed | None = None
    failures: int = 0
    retry_at: float = 0.0
    told: str = ""
    task: asyncio.Task[None] | None = None

    def valid(self, now: float) -> Value | None:
        """The value, while it may be used."""
        return self.value if self.value is not None and now < self.value.ends else None

    def in_use(self, now: float) -> bool:
        """Whether somebody asked for it within its last period."""
        return self.value is not None and now - self.asked <= self.value.span

    def due(self, now: float) -> float | None:
        """When to look at it again: to fetch it anew, or to drop it. None: it holds nothing."""
        value = self.value
        if value is None:
            return None
        if self.task is not None or not (now < value.renew_at or self.in_use(now)):
            return value.ends
        return min(value.ends, max(value.renew_at, self.retry_at))

    def secrets(self) -> Iterator[Secret]:
        """Its value, and the one before."""
        if self.value is not None:
            yield self.value.usable.secret
        if self.former is not None:
            yield self.former

    def drop(self) -> None:
        """The value has ended."""
        self.value = self.former = None


def life_of(name: str, fetched: Fetched, wall: float, period_seconds: float) -> float:
    """How long from now a value may be used. What states no end serves until it is fetched anew."""
    if fetched.expires is None:
        return fetched.refresh_seconds or period_seconds
    left = fetched.expires - wall
    if left <= 0:
        raise CredentialError(f"secret `{name}`: its source gave a value that has expired")
    return left - min(left * _MARGIN_PART, _MARGIN_SECONDS)
