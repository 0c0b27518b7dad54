"""A hub and processes that judge, all in this process: joined, lost and joined again by what a test says."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from typing import TYPE_CHECKING

from egress.audit import DecisionEvent, OutcomeEvent
from egress.config import AuditConfig, Limits, ServerConfig, UpstreamConfig
from egress.server.channel import make_pair
from egress.server.fetches import HubSecrets
from egress.server.hub import Hub
from egress.server.leases import Shares, stock
from egress.server.link import HubLink
from egress.server.names import HubNames
from egress.server.quotas import HubCounting
from egress.server.rows import RowSink

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from egress.gate.resolver import Answer, Servers
    from egress.policy import Address

PATIENCE = 10.0


def config_in(folder: Path, *, flush_interval: float = 0.02, queue: int = 100, connections: int = 100) -> ServerConfig:
    """A configuration whose files are in a folder."""
    return ServerConfig(
        listen=("127.0.0.1", 0),
        state_dir=folder,
        audit=AuditConfig(folder / "audit.db", flush_interval=flush_interval, queue=queue),
        ca_dir=folder / "ca",
        upstream=UpstreamConfig(),
        resolve={},
        policies=(),
        limits=Limits(connections=connections),
        secrets={},
    )


def decision(number: int, **changed: object) -> DecisionEvent:
    """The decision of that number."""
    values: dict[str, object] = {
        "id": f"id-{number:06d}",
        "time_us": 1_790_000_000_000_000 + number,
        "sandbox": "default",
        "client": "127.0.0.1:4000",
        "verdict": "allow",
        "reason": "rule-allow",
    }
    return DecisionEvent(**(values | changed))  # type: ignore[arg-type]


def outcome(number: int) -> OutcomeEvent:
    """The outcome of the decision of that number."""
    return OutcomeEvent(id=f"id-{number:06d}", time_us=1_790_000_000_000_050 + number, status=200)


class Names:
    """A name service that answers as told, and counts."""

    def __init__(self, answer: Callable[[str], Answer | None]) -> None:
        self.asked: list[str] = []
        self.servers: list[Servers] = []
        self._answer = answer

    async def resolve(self, name: str, servers: Servers = ()) -> Answer:
        """The answer; None never comes."""
        self.asked.append(name)
        self.servers.append(servers)
        answer = self._answer(name)
        if answer is None:
            await asyncio.Event().wait()
        assert answer is not None
        return answer


class Process:
    """The part of a process that judges which talks to the hub."""

    def __init__(
        self,
        config: ServerConfig,
        *,
        window: int = 100,
        pins: Mapping[str, tuple[Address, ...]] | None = None,
        name_seconds: float = 5.0,
        secret_seconds: float = 5.0,
    ) -> None:
        self.sink = RowSink(window, config.audit.flush_interval)
        self.names = HubNames(pins or {}, name_seconds)
        limits = config.limits
        self.shares = Shares(stock(limits.connections, 2), stock(limits.connections_per_client, 2))
        self.slots = self.shares.connections
        self.asked = 0
        self.counting = HubCounting(2)
        self.secrets = HubSecrets(secret_seconds)
        self.link = HubLink(self.sink, (self.names, self.secrets), (self.shares, self.counting), self._ask)

    def _ask(self) -> None:
        self.asked += 1

    def join(self, hub: Hub, name: str = "worker 1") -> None:
        """A channel between this and a hub."""
        ours, its = make_pair()
        hub.attach(name, its)
        self.link.attach(ours)


class Kill:
    """A hub killed with -9: what it had read and not committed is gone, its channels end."""

    def __init__(self, hub: Hub) -> None:
        for client in tuple(hub._clients):
            client.line.close()
        hub._clients.clear()
        writer = hub._writer
        with writer._lock:
            writer._pending._entries.clear()
        writer.close(5)


def hub_in(config: ServerConfig, names: Names | None = None) -> Hub:
    """A hub with its audit open."""
    hub = Hub(config, names)  # type: ignore[arg-type]
    hub.open()
    hub.complete()
    return hub


async def until(holds: Callable[[], object], what: str = "it") -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(0.005)


def rows(config: ServerConfig, sql: str) -> list[tuple[object, ...]]:
    """Ask the audit."""
    database = sqlite3.connect(config.audit.path)
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()
