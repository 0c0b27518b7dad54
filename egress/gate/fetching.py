"""The fetcher of secrets' values, put together: providers' calls go out by our own resolver and dialler.

INVARIANT secret-confinement: these connections are the proxy's own. No policy of a sandbox judges them, no sandbox can
cause one to a host that a secret's definition does not name, and each fetch is an event in the audit.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Protocol

from egress.config import key_variable
from egress.credentials.broker import Broker
from egress.credentials.entry import Patience
from egress.credentials.means import Services
from egress.gate.dial import Dialled, dial
from egress.gate.grant import Grant
from egress.gate.own import OwnListeners
from egress.gate.resolver import Resolver
from egress.policy import Refusal, parse_host

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from egress.config import ServerConfig
    from egress.config.secret_sources import StoreSource
    from egress.credentials import Secret
    from egress.credentials.means import Caller, Stored
    from egress.credentials.providers import Answer
    from egress.credentials.secret_store import SecretStore
    from egress.credentials.wanted import Usable, Wanted
    from egress.gate.upstream_way import UpstreamWay
    from egress.policy import Address

# Whom our own calls trust, in the state folder: as other upstreams.
ROOTS = "upstream-roots.pem"
# RFC 6761, section 6.3: never a question for DNS.
LOCALHOST: tuple[Address, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


class _Names(Protocol):
    async def resolve(self, name: str) -> _Found:
        """Addresses of a canonical name."""


class _Found(Protocol):
    @property
    def addresses(self) -> tuple[Address, ...]:
        """In the resolver's order."""


@dataclass(slots=True)
class OwnCalls:
    """`call` of providers, by way of our resolver and dialler. The client is loaded at the first call."""

    roots: Path
    names: _Names
    connect_seconds: float
    call_seconds: float
    way: UpstreamWay | None = None
    _call: Caller | None = field(default=None, repr=False)

    async def __call__(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Ask a service. Raises CredentialError where there is no answer."""
        if self._call is None:
            self._call = await asyncio.to_thread(self._load)
        return await self._call(method, url, headers=headers, body=body)

    def _load(self) -> Caller:
        from egress.credentials.providers.web import Web  # noqa: PLC0415 -- loads httpx

        through = None if self.way is None else self._through
        web = Web(self.roots, self._resolve, self._dial, through, seconds=self.call_seconds)
        call: Caller = web.call
        return call

    async def _resolve(self, name: str) -> tuple[Address, ...]:
        host = parse_host(name)
        if isinstance(host, Refusal) or host.address is not None:
            return ()
        found = await self.names.resolve(host.text)
        return found.addresses

    async def _dial(self, addresses: tuple[Address, ...], port: int) -> socket.socket | None:
        grant = Grant("", "", port, tls=True, addresses=addresses, expires=float("inf"))
        outcome = await dial(grant, timeout_seconds=self.connect_seconds)
        return outcome.sock if isinstance(outcome, Dialled) else None

    async def _through(self, host: str, port: int) -> socket.socket | None:
        """By the upstream proxy, which is told of no name that we cannot resolve."""
        named = parse_host(host, brackets=True)
        if self.way is None or isinstance(named, Refusal):
            return None
        if named.address is not None:
            addresses: tuple[Address, ...] = (named.address,)
        else:
            addresses = LOCALHOST if named.text == "localhost" else await self._resolve(named.text)
        grant = Grant("", named.text, port, tls=True, addresses=addresses, expires=float("inf"))
        outcome = await self.way.dial(grant, timeout_seconds=self.connect_seconds)
        return outcome.sock if isinstance(outcome, Dialled) else None


@dataclass(frozen=True, slots=True)
class OwnStore:
    """Our own store, as far as it is a source: both are called in a thread, and raise EgressError.

    `renew` puts in place of a value what a service gave for the next time.
    """

    read: Callable[[str], Stored]
    renew: Callable[[StoreSource, Secret], None]


# One a process, and the same in those that are forked from it: a variable that has the key is read but once.
_stores: dict[Path, SecretStore] = {}


def secret_store(config: ServerConfig) -> SecretStore:
    """The store of a configuration, opened when it is first asked. Raises StateError for a key that is none."""
    from egress.credentials.configured_store import configured_path, configured_store  # noqa: PLC0415 -- most need none

    path = configured_path(config)
    if path not in _stores:
        _stores[path] = configured_store(config, os.environ)
    return _stores[path]


def take_key(config: ServerConfig) -> None:
    """Read the store's key now if a variable has it, and take it out of the environment. Raises StateError."""
    if key_variable(config.secrets_key, os.environ) is not None:
        secret_store(config)


def own_store(config: ServerConfig) -> OwnStore:
    """The store of a configuration, as a source."""

    def read(name: str) -> Stored:
        store = secret_store(config)
        found = store.get(name)
        store.used(name, time.time())
        return found

    def renew(leaf: StoreSource, renewed: Secret) -> None:
        secret_store(config).put(leaf.name, renewed)

    return OwnStore(read, renew)


def take_password(config: ServerConfig) -> None:
    """Remember the password of the upstream proxy if a variable has it, before others take that out."""
    if config.upstream.proxy is not None:
        from egress.gate.proxy_password import remember  # noqa: PLC0415 -- most need none

        remember(config.upstream.proxy)


def check_way(config: ServerConfig) -> None:
    """Find what is wrong with the upstream proxy's files and password before anything is forked. Raises EgressError.

    A variable that holds the password leaves the environment.
    """
    way = build_way(config, Resolver(pins=config.resolve))
    if way is not None:
        way.check()


def build_way(config: ServerConfig, names: _Names, own: OwnListeners | None = None) -> UpstreamWay | None:
    """The upstream proxy of a configuration, if it has one, for one process."""
    proxy = config.upstream.proxy
    if proxy is None:
        return None
    from egress.gate.proxy_password import ProxyPassword  # noqa: PLC0415 -- most need none
    from egress.gate.upstream_way import UpstreamWay  # noqa: PLC0415

    password = ProxyPassword(proxy, own_store(config).read)
    return UpstreamWay(proxy, names, own or OwnListeners(), password, config.state_dir / ROOTS)


def build_broker(config: ServerConfig, names: _Names, note: Callable[[str, str], object]) -> Broker:
    """The fetcher, for one process of those that share a configuration. `note` records what happened to the proxy."""
    limits = config.limits
    way = build_way(config, names)
    calls = OwnCalls(config.state_dir / ROOTS, names, limits.connect_seconds, limits.secret_seconds, way)
    store = own_store(config)
    return Broker(Services(time.time, calls, store.read), Patience(limits.secret_seconds), note, store.renew)


@dataclass(frozen=True, slots=True)
class LocalSecrets:
    """A fetcher in the process that judges."""

    broker: Broker

    def known(self, wanted: Wanted) -> Usable | None:
        """The value, if there is one that may be used now."""
        return self.broker.known(wanted)

    async def fetch(self, wanted: Wanted) -> None:
        """Have the value fetched, and wait for it, within a limit."""
        await self.broker.get(wanted)

    def expect(self, wanted: Iterable[Wanted]) -> None:
        """Have these fetched, in the background, once there is a loop to do it on."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        for one in wanted:
            loop.call_soon(partial(self.broker.expect, one))

    def values(self) -> Iterable[Secret]:
        """All values that are held here, for the cleaning of logs."""
        return tuple(self.broker.values())
