"""What processes ask the hub about names: one answer for all of them, an end to every question, whatever dies."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from joined import Kill, Names, config_in, hub_in, until

from egress.config import DnsConfig
from egress.errors import EgressError
from egress.gate.resolver import Answer, Records, Servers
from egress.server.channel import make_pair
from egress.server.fetches import HubSecrets
from egress.server.leases import Shares, stock
from egress.server.link import HubLink
from egress.server.names import HubNames
from egress.server.questions import HubQuestions
from egress.server.quotas import HubCounting
from egress.server.rows import RowSink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from egress.config import ServerConfig
    from egress.server.hub import Hub


OPEN: list[Asker] = []


class Asker:
    """The part of a process that asks."""

    def __init__(self, config: ServerConfig, hub: Hub, name: str) -> None:
        OPEN.append(self)
        self.questions = HubQuestions(config.dns, 1.0)
        shares = Shares(stock(10, 2), stock(10, 2)), HubCounting(2)
        answers = HubNames({}, 1.0), HubSecrets(1.0)
        self.link = HubLink(RowSink(10, 1.0), answers, shares, lambda: None, self.questions)
        self.join(hub, name)

    def join(self, hub: Hub, name: str) -> None:
        """A channel between this and a hub."""
        ours, its = make_pair()
        hub.attach(name, its)
        self.link.attach(ours)


class Zone(Names):
    """A name service that has other records too."""

    async def records(self, name: str, kind: int, _servers: Servers = ()) -> Records:
        """One of each type."""
        return Records(((f"{name}.", kind, b"\x01x"),), ttl=7.0)


def giving(folder: Path) -> ServerConfig:
    """A configuration under which addresses are given out."""
    return replace(config_in(folder), dns=DnsConfig(listen=(("127.0.0.1", 0),)))


def run(work: Callable[[], Awaitable[None]]) -> None:
    """Run on a loop of its own."""

    async def bounded() -> None:
        async with asyncio.timeout(30):
            try:
                await work()
            finally:
                leave()

    asyncio.run(bounded())


def leave() -> None:
    """End the part of every process."""
    while OPEN:
        OPEN.pop().link.close()


def kill(hub: Hub) -> None:
    """End a hub at once, with what it has open."""
    Kill(hub)
    assert hub.questions._book is not None
    hub.questions._book.close()


def names() -> Zone:
    """No name has an address."""
    return Zone(lambda _: Answer((), "no address"))


def test_all_processes_agree(tmp_path: Path) -> None:
    """What one was given for a name, another finds the name of, and is given too."""

    async def play() -> None:
        config = giving(tmp_path)
        hub = hub_in(config, names())
        first, second = Asker(config, hub, "worker 1"), Asker(config, hub, "worker 2")
        address = await first.questions.lend("a.example", 4, "agent")
        assert address is not None
        assert await second.questions.lend("a.example", 4, "other") == address
        assert await second.questions.name_of(address) == "a.example"
        assert await second.questions.name_of(ip_address(f"::ffff:{address}")) == "a.example"
        assert await second.questions.name_of(ip_address("198.19.0.77")) is None
        leave()
        assert await hub.close()

    run(play)


def test_what_was_given_outlives_the_hub(tmp_path: Path) -> None:
    """A hub that is killed, and a new one in its place: INVARIANT one-name."""

    async def play() -> None:
        config = giving(tmp_path)
        hub = hub_in(config, names())
        asker = Asker(config, hub, "worker 1")
        address = await asker.questions.lend("a.example", 4, "agent")
        assert address is not None
        kill(hub)
        after = hub_in(config, names())
        late = Asker(config, after, "worker 2")
        assert await late.questions.name_of(address) == "a.example"
        assert await late.questions.lend("b.example", 4, "agent") != address
        leave()
        assert await after.close()

    run(play)


def test_every_question_ends(tmp_path: Path) -> None:
    """In an error without a hub, when it dies, and when it says nothing."""

    async def play() -> None:
        config = giving(tmp_path)
        alone = HubQuestions(config.dns, 0.2)
        with pytest.raises(EgressError):
            await alone.lend("a.example", 4, "agent")
        hub = hub_in(config, names())
        asker = Asker(config, hub, "worker 1")
        hub.questions.asked = lambda *_: None  # type: ignore[method-assign]
        waiting = asyncio.ensure_future(asker.questions.name_of(ip_address("198.18.0.9")))
        await until(lambda: asker.questions._asked, "the question")
        kill(hub)
        with pytest.raises(EgressError):
            await waiting
        silent = hub_in(giving(tmp_path / "other"), names())
        silent.questions.asked = lambda *_: None  # type: ignore[method-assign]
        asker.join(silent, "worker 1")
        with pytest.raises(TimeoutError):
            await asker.questions.records("a.example", 16)
        assert not asker.questions._asked
        leave()
        assert await silent.close()

    run(play)


def test_other_records_come_whole(tmp_path: Path) -> None:
    """Name, type and data, as the resolver found them."""

    async def play() -> None:
        config = giving(tmp_path)
        hub = hub_in(config, names())
        asker = Asker(config, hub, "worker 1")
        found = await asker.questions.records("a.example", 16)
        assert (found.records, found.error, found.ttl) == ((("a.example.", 16, b"\x01x"),), "", 7.0)
        leave()
        assert await hub.close()

    run(play)


def test_without_a_range_nothing_is_synthetic(tmp_path: Path) -> None:
    """Where addresses are those of the names, or nobody listens, none stands for a name."""

    async def play() -> None:
        config = config_in(tmp_path)
        hub = hub_in(config, names())
        asker = Asker(config, hub, "worker 1")
        assert not asker.questions.is_synthetic(ip_address("198.18.0.1"))
        assert await asker.questions.name_of(ip_address("198.18.0.1")) is None
        with pytest.raises(EgressError):
            await asker.questions.lend("a.example", 4, "agent")
        leave()
        assert await hub.close()

    run(play)
