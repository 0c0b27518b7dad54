"""A gate with its parts in reach, and short ways to ask it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.gate.exchange import Client, Exchange
from egress.gate.gate import Asked
from egress.gate.grant import GrantBook
from egress.gate.resolver import Answer, Servers
from egress.policy import Protocol, Request, parse_host

if TYPE_CHECKING:
    from collections.abc import Callable

    from rig.ledger import Ledger

    from egress.gate.connecting import Destination
    from egress.gate.denial import Denial
    from egress.gate.gate import Gate
    from egress.gate.generation import Generation
    from egress.policy import Address, Host

CLIENT = Client("agent", "127.0.0.1:40000", "http")


def host(text: str) -> Host:
    """A canonical host; the text must be one."""
    parsed = parse_host(text)
    assert not hasattr(parsed, "reason"), parsed
    return parsed  # type: ignore[return-value]


def request(
    name: str, port: int = 443, protocol: Protocol = Protocol.HTTPS, method: str | None = "GET", path: str = "/"
) -> Request:
    """A request; `method` None makes it a tunnel."""
    return Request("agent", protocol, host(name), port, method, None if method is None else path)


@dataclass
class CountingResolver:
    """Answers from a table and notes each question, to prove that none was asked."""

    answers: dict[str, tuple[Address, ...]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    servers: list[Servers] = field(default_factory=list)

    def known(self, _name: str, _servers: Servers = ()) -> Answer | None:
        """Nothing is remembered."""
        return None

    async def resolve(self, name: str, servers: Servers = ()) -> Answer:
        """Note the question; answer it."""
        self.asked.append(name)
        self.servers.append(servers)
        found = self.answers.get(name, ())
        return Answer(found, "" if found else "the name does not exist")


@dataclass
class Bench:
    """A gate, its audit, and a maker of further generations. `cuts` has the reasons of connections that were cut."""

    gate: Gate
    ledger: Ledger
    generation: Callable[[str], Generation]
    book: GrantBook = field(default_factory=GrantBook)
    cuts: list[str] = field(default_factory=list)

    async def admit(self, asked: Request, *, peer: Address | None = None) -> Exchange | Denial:
        """Ask for a request to be admitted on this bench's one connection."""
        return await self.gate.admit(Asked(CLIENT, asked, self.book, self.cuts.append, peer=peer))

    async def allowed(self, asked: Request) -> Exchange:
        """Admit what must be allowed."""
        outcome = await self.admit(asked)
        assert isinstance(outcome, Exchange), outcome
        return outcome

    async def connect(self, name: str, port: int = 443) -> Destination | Denial:
        """Judge a CONNECT."""
        return await self.gate.judge_connect(CLIENT, host(name), port)

    def watch_resolver(self, **answers: Address) -> CountingResolver:
        """Put a counting resolver in the place of the gate's; names are given with `_` for `.`."""
        resolver = CountingResolver({name.replace("_", "."): (address,) for name, address in answers.items()})
        self.gate.resolver = resolver  # type: ignore[assignment]
        return resolver
