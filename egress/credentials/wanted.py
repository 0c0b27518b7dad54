"""A secret whose value has to be fetched: what is asked for, what is had of it, and who has it.

INVARIANT secret-confinement: values are in `Secret`s, here as everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from egress.config.secret_sources import FetchedSource
    from egress.credentials.binding import Binding
    from egress.credentials.secret import Secret


@dataclass(frozen=True, slots=True)
class Wanted:
    """A secret and its source. `leaves`: the values of the variables that the source names, where they were found.

    `key` is the same for all that ask for the same.
    """

    name: str
    source: FetchedSource
    leaves: Mapping[str, Secret] = field(default_factory=dict, repr=False, compare=False)
    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make the key once: it is looked up at each request."""
        object.__setattr__(self, "key", repr((self.name, self.source)))


@dataclass(frozen=True, slots=True)
class Usable:
    """A value that may be used now. `binding`: that of our own store, which holds beside the definition's."""

    secret: Secret
    binding: Binding | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A value, how long from now it may be used, and after how long to ask again. In seconds."""

    usable: Usable
    usable_seconds: float
    renew_seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is no value; it is not asked for again before `retry_seconds` are over."""

    message: str
    hint: str = ""
    retry_seconds: float = 1.0


class SecretService(Protocol):
    """What the gate asks of whoever fetches values for it. All methods run on the event loop's thread."""

    def known(self, wanted: Wanted) -> Usable | None:
        """The value, if there is one that may be used now."""

    async def fetch(self, wanted: Wanted) -> None:
        """Have the value fetched, and wait for it, within a limit. Never raises: `known` says what came of it."""

    def expect(self, wanted: Iterable[Wanted]) -> None:
        """These will be asked for: have them fetched, in the background."""

    def values(self) -> Iterable[Secret]:
        """All values that are held here, for the cleaning of logs."""
