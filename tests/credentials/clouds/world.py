"""A world of services under their real names: its resolver and dialler lead to loopback, its CA signs for them all."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING

from credentials.clouds.server import serving

from egress.config.secret_sources import EnvSource, FileSource
from egress.credentials.providers.web import Web
from egress.credentials.secret import Secret
from egress.errors import CredentialError

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Mapping
    from pathlib import Path

    from credentials.clouds.server import Service
    from harness.authority import TestAuthority

    from egress.config.secret_sources import LeafSource
    from egress.credentials.providers.interface import Answer, Fetched, Provider
    from egress.policy import Address

_FIRST = int(IPv4Address("198.51.100.1"))


@dataclass
class World:
    """Services by name or address. It is the `Means` of a provider as well: its clock stands still until it is set."""

    authority: TestAuthority
    stack: contextlib.ExitStack
    env: dict[str, str] = field(default_factory=dict)
    time: float = field(default_factory=time.time)
    names: dict[str, Address] = field(default_factory=dict)
    ports: dict[tuple[Address, int], int] = field(default_factory=dict)
    dialled: list[tuple[Address, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.web = Web(roots=self.authority.ca_file, resolve=self.resolve, dial=self.dial)

    def add[S: Service](self, service: S, *hosts: str, secure: bool = True, fault: str = "") -> S:
        """Let `service` answer for these hosts, on 443 or, without TLS, on 80."""
        for host in hosts:
            try:
                address = ip_address(host)
            except ValueError:
                address = self.names.setdefault(host, ip_address(_FIRST + len(self.names)))
            context = self.authority.server_context(host, fault=fault) if secure else None
            self.ports[address, 443 if secure else 80] = self.stack.enter_context(serving(service.reply, context))
        return service

    async def resolve(self, name: str) -> tuple[Address, ...]:
        """The made-up address of a name that a service answers for."""
        return (self.names[name],) if name in self.names else ()

    async def dial(self, addresses: tuple[Address, ...], port: int) -> socket.socket | None:
        """A connection to the loopback port behind an address; as the real one, it is told addresses, never names."""
        for address in addresses:
            self.dialled.append((address, port))
            target = self.ports.get((address, port), port if address.is_loopback else None)
            if target is None:
                continue
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.setblocking(False)  # noqa: FBT003 - the method takes it so
            try:
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", target))
            except BaseException as error:
                sock.close()
                if isinstance(error, OSError):
                    continue
                raise
            return sock
        return None

    def now(self) -> float:
        """The time of the test."""
        return self.time

    def leaf(self, source: LeafSource) -> Secret:
        """A leaf of the test's own environment, or a file's."""
        match source:
            case EnvSource(variable=variable) if variable in self.env:
                return Secret("leaf", self.env[variable])
            case FileSource(path=path) if path.is_file():
                # A leaf may have lines: a private key has.
                return Secret("leaf", path.read_text().removesuffix("\n"))
        raise CredentialError("no such leaf")

    async def call(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Ask over real sockets."""
        return await self.web.call(method, url, headers=headers, body=body)

    def ask(self, method: str, url: str, **more: object) -> Answer:
        """As `call`, from outside of a loop."""
        return asyncio.run(self.web.call(method, url, **more))  # type: ignore[arg-type]

    def fetch[S](self, provider: Provider[S], source: S) -> Fetched:
        """One fetch of the secret `api`, in a loop of its own."""
        return asyncio.run(provider("api", source, self))  # type: ignore[arg-type]

    def refused[S](self, provider: Provider[S], source: S) -> str:
        """What the error of a fetch says, which must hold no leaf's value."""
        try:
            self.fetch(provider, source)
        except CredentialError as error:
            shown = f"{error} {error!r} {error.__cause__!r} {error.__context__!r}"
            assert not [value for value in self.env.values() if len(value) > 8 and value in shown]
            assert "CANARY" not in shown
            return str(error)
        raise AssertionError("there was a value")


def written(folder: Path, name: str, text: str) -> FileSource:
    """A leaf in a file."""
    path = folder / name
    path.write_text(text)
    path.chmod(0o600)
    return FileSource(path)
