"""What one fetch works with: the time, the leaves of its source, and calls to services, with what came of them noted.

INVARIANT secret-confinement: once a fetch has read a leaf from our own store, it calls only hosts that the leaf is
bound to, and what it makes without a call is bound as the leaf is. Else whoever writes a definition could have a stored
value sent to a token endpoint of his own, or to a host that his definition names.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from egress.config.plain_sources import leaves_of
from egress.config.secret_sources import EnvSource, FileSource, StoreSource
from egress.credentials.binding import Binding
from egress.credentials.secret import Secret
from egress.credentials.sources import checked_leaf, read_file
from egress.errors import CredentialError, EgressError
from egress.policy import Refusal, parse_host

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from egress.config.secret_sources import LeafSource
    from egress.credentials.providers.interface import Answer
    from egress.credentials.wanted import Wanted


class Stored(Protocol):
    """A record of our own encrypted store, in words."""

    @property
    def value(self) -> Secret:
        """The value."""

    @property
    def hosts(self) -> Sequence[str]:
        """The hosts that it is bound to, as a policy file writes them."""

    @property
    def methods(self) -> Sequence[str]:
        """The methods that it is bound to; empty: all."""

    @property
    def paths(self) -> Sequence[str]:
        """The paths that it is bound to, as patterns; empty: all."""


class Caller(Protocol):
    """`call` of `Means`."""

    async def __call__(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Ask a service. Raises CredentialError where there is no answer."""


@dataclass(frozen=True, slots=True)
class Services:
    """What all fetches have in common. `wall`: seconds since 1970.

    `stored`: a record of our own store; it is called in a thread, and raises EgressError.
    """

    wall: Callable[[], float]
    call: Caller
    stored: Callable[[str], Stored]


@dataclass(slots=True, eq=False)
class Renewals:
    """What sources gave in place of leaves that can be used once, for as long as the leaf itself does not change."""

    _by_leaf: dict[LeafSource, tuple[Secret, Secret]] = field(default_factory=dict)

    def keep(self, leaf: LeafSource, original: Secret, renewed: Secret) -> None:
        """Use `renewed` in place of `original` from now on."""
        self._by_leaf[leaf] = original, renewed

    def newest(self, leaf: LeafSource, read: Secret) -> Secret:
        """What to use where `read` is the leaf's value now: a leaf that somebody changed is used as it is."""
        kept = self._by_leaf.get(leaf)
        if kept is None:
            return read
        if kept[0].reveal() != read.reveal():
            del self._by_leaf[leaf]
            return read
        return kept[1]


class FetchMeans:
    """`Means` of one fetch. `called`: the hosts that were asked, in order."""

    def __init__(self, wanted: Wanted, services: Services, renewals: Renewals) -> None:
        self.called: dict[str, None] = {}
        self._found: dict[LeafSource, Secret | EgressError] = {}
        self._bound: dict[str, Binding] = {}
        self._wanted = wanted
        self._services = services
        self._renewals = renewals
        self._bindings: list[Binding] = []

    def now(self) -> float:
        """The time, in seconds since 1970."""
        return self._services.wall()

    async def prepare(self) -> None:
        """Read the leaves that take time, in a thread: a file may be on a mount that hangs, a store may be locked."""
        leaves = tuple(leaf for leaf in leaves_of(self._wanted.source) if not isinstance(leaf, EnvSource))
        if leaves:
            await asyncio.to_thread(self._read_all, leaves)

    def leaf(self, source: LeafSource) -> Secret:
        """The value of a leaf. Raises CredentialError."""
        if source not in self._found:
            self._read_all((source,))
        found = self._found[source]
        if isinstance(found, EgressError):
            raise CredentialError(found.message, hint=found.hint)
        if isinstance(source, StoreSource):
            self._bindings.append(self._bound[source.name])
        return self._renewals.newest(source, found)

    def original(self, source: LeafSource) -> Secret | None:
        """The value of a leaf where it is, if it was read."""
        found = self._found.get(source)
        return found if isinstance(found, Secret) else None

    def binding(self) -> Binding | None:
        """What a value is bound to that is made of stored leaves alone; None: it is not. Raises CredentialError."""
        if self.called or not self._bindings:
            return None
        if len(set(self._bindings)) > 1:
            message = f"secret `{self._wanted.name}`: what it is made of is stored for different hosts"
            raise CredentialError(message, hint="bind the stored secrets to the same hosts, methods and paths")
        return self._bindings[0]

    async def stored(self, name: str) -> Stored:
        """A record of our own store. Raises CredentialError."""
        return await asyncio.to_thread(self._services.stored, name)

    async def call(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Ask a service. Raises CredentialError."""
        host = urlsplit(url).hostname or ""
        if not all(_holds(binding, method, url) for binding in self._bindings):
            raise CredentialError(
                f"secret `{self._wanted.name}`: what it signs in with is stored for other hosts than `{host}`",
                hint="bind the stored secret to that host, or correct the definition",
            )
        self.called[host] = None
        return await self._services.call(method, url, headers=headers, body=body)

    def _read_all(self, leaves: tuple[LeafSource, ...]) -> None:
        for source in leaves:
            try:
                self._found[source] = self._read(source)
            except EgressError as error:
                self._found[source] = error

    def _read(self, source: LeafSource) -> Secret:
        name = self._wanted.name
        match source:
            case EnvSource(variable=variable):
                value = self._wanted.leaves.get(variable)
                return checked_leaf(name, "" if value is None else value.reveal(), f"variable `{variable}`")
            case FileSource(path=path):
                return read_file(name, path, checked_leaf).secret
            case StoreSource(name=stored):
                record = self._services.stored(stored)
                self._bound[stored] = binding_of(record)
                return checked_leaf(name, record.value.reveal(), f"the stored secret `{stored}`")


def binding_of(record: Stored) -> Binding:
    """What a record is bound to."""
    return Binding(tuple(record.hosts), tuple(record.methods), tuple(record.paths))


def _holds(binding: Binding, method: str, url: str) -> bool:
    """Whether a stored value may go along with a call."""
    parts = urlsplit(url)
    host = parse_host(parts.hostname or "", brackets=False)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return not isinstance(host, Refusal) and binding.holds(host, port, method, parts.path)
