"""A resolver for sandboxes with its parts in reach: asked by bytes, as a client would."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
from rig.ledger import Ledger

from egress.config import DnsAnswers, DnsConfig, PolicySource, SandboxDefinition, load_policy, policy_of
from egress.credentials import CredentialStore
from egress.gate.floods import Floods
from egress.gate.gate import Gate, GateLimits
from egress.gate.generation import Generation
from egress.gate.given_book import GivenBook
from egress.gate.record import Recorder
from egress.gate.resolver import Resolver
from egress.gate.roster import ClientPlace, Member, Roster
from egress.policy import Sandbox, Scope
from egress.proxy.dns.answering import Answering
from egress.proxy.dns.server import DnsServer
from egress.proxy.entrance import Entrance, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from nameserver import NameServer

    from egress.gate.exchange import Client
    from egress.gate.resolver import Records, Servers

OF_SANDBOX, OF_OTHER, OF_NOBODY = "10.8.1.2", "10.8.2.2", "10.8.9.9"


class Clock:
    """A clock that a test sets."""

    now = 10_000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


class Lender(GivenBook):
    """The book, with other records from the resolver itself."""

    resolver: Resolver

    async def records(self, name: str, kind: int, servers: Servers = ()) -> Records:
        """As the hub would."""
        return await self.resolver.records(name, kind, servers)


def query(name: str, kind: str = "A", *, edns: bool = True, payload: int = 1232) -> bytes:
    """A question as a client would send it."""
    asked = dns.message.make_query(name, kind, use_edns=0 if edns else -1, payload=payload)
    return asked.to_wire()


@dataclass
class Bench:
    """A resolver of one process, under a policy; it is opened within the loop of a test."""

    folder: Path
    upstream: NameServer
    policy: str
    changed: dict[str, object]
    sandboxes: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)
    clock: Clock = field(default_factory=Clock)
    count: int = 0

    def run(self, play: Callable[[Bench], Coroutine[None, None, None]]) -> None:
        """Play on a loop, with everything open; close it afterwards."""

        async def bounded() -> None:
            async with asyncio.timeout(50):
                self.open()
                try:
                    await play(self)
                finally:
                    self.answering.ledger.close()
                    self.book.close()

        asyncio.run(bounded())

    def open(self) -> None:
        """Put it together."""
        config = replace(DnsConfig(listen=(("127.0.0.1", 0),)), **self.changed)  # type: ignore[arg-type]
        self.book = Lender(self.folder, config.ranges, config.keep_seconds, self.clock)
        self.book.open()
        self.book.resolver = Resolver(servers=(("127.0.0.1", self.upstream.port),), lifetime_seconds=2.0)
        recorder = Recorder(self.ledger, wait_seconds=0.05, floods=Floods(200, self.ledger.offer))
        self.gate = Gate(
            generation=self.generation(self.policy),
            resolver=self.book.resolver,
            recorder=recorder,
            limits=GateLimits(judge_seconds=5.0),
            given=self.book if config.gives else None,
        )
        self.answering = Answering(self.gate, config, self.book, self.clock)

    def generation(self, policy: str) -> Generation:
        """What a reload would bring: the same rules for `agent` and `other`, written out for each."""
        self.count += 1
        path = self.folder / f"policy{self.count}.yaml"
        path.write_text(f"version: 1\n{policy}")
        loaded = load_policy((PolicySource(Scope.SANDBOX, path),))
        credentials = CredentialStore({}, env={})
        if not self.sandboxes:
            return Generation(self.count, loaded.policy, credentials)
        members = []
        for name, source in (("agent", OF_SANDBOX), ("other", OF_OTHER)):
            known = Sandbox(name, (("n", self.labels.get(name, "0")),))
            definition = SandboxDefinition(known, sources=(ip_network(f"{source}/32"),))
            members.append(Member(definition, policy_of(loaded.policy, known, whole=True)))
        return Generation(self.count, loaded.policy, credentials, roster=Roster(members))

    def client(self, address: str = OF_SANDBOX) -> Client:
        """Who asks."""
        return self.gate.arrived(f"{address}:40000", ClientPlace(address))

    async def send(self, data: bytes, address: str = OF_SANDBOX, *, stream: bool = False) -> bytes | None:
        """The bytes that come back."""
        return await self.answering.answer(data, self.client(address), stream=stream)

    async def ask(
        self, name: str, kind: str = "A", address: str = OF_SANDBOX, *, stream: bool = False
    ) -> dns.message.Message:
        """The answer to a question; there must be one."""
        answer = await self.send(query(name, kind), address, stream=stream)
        assert answer is not None
        return dns.message.from_wire(answer)

    async def told(self, name: str, kind: str = "A", address: str = OF_SANDBOX) -> str:
        """The answer in short: its code, and its records' data in order."""
        return short(await self.ask(name, kind, address))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[tuple[str, int]]:
        """On real sockets of loopback, UDP and TCP."""
        with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            where: tuple[str, int] = tcp.getsockname()
            udp.bind(where)
            server = DnsServer(self.gate, self.answering)
            for sock in (tcp, udp):
                server.serve(sock, Entrance(Kind.DNS, where))
            try:
                yield where
            finally:
                await server.close()


def short(answer: dns.message.Message) -> str:
    """Its code, and its records' data in order."""
    found = sorted(record.to_text() for rrset in answer.answer for record in rrset)
    return " ".join([dns.rcode.to_text(answer.rcode()), *found])


def errors(answer: dns.message.Message) -> list[tuple[int, str]]:
    """Its extended errors."""
    return [(int(option.code), option.text or "") for option in answer.extended_errors()]


REAL = {"answers": DnsAnswers.REAL}
__all__ = ["OF_NOBODY", "OF_OTHER", "OF_SANDBOX", "REAL", "Bench", "Clock", "errors", "query", "short"]
