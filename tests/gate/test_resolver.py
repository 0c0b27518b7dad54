"""Resolving: absolute names against a real server, once, within a time, and nothing but what was asked."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from nameserver import NameServer

from egress.gate import resolver as resolver_module
from egress.gate.resolver import Answer, Resolver

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[NameServer]:
    """A name server that knows a few names."""
    records = {
        ("one.test", "A"): (60, ["192.0.2.1"]),
        ("two.test", "A"): (60, ["192.0.2.2", "192.0.2.3"]),
        ("both.test", "A"): (60, ["192.0.2.4"]),
        ("both.test", "AAAA"): (60, ["2001:db8::4"]),
        ("six.test", "AAAA"): (60, ["2001:db8::6"]),
        ("short.test", "A"): (0, ["192.0.2.7"]),
        ("long.test", "A"): (2_000_000_000, ["192.0.2.8"]),
        ("text.test", "TXT"): (60, ["x"]),
        ("many.test", "A"): (60, [f"192.0.2.{number}" for number in range(1, 101)]),
    }
    with NameServer(
        records, aliases={"alias.test": "one.test", "dangling.test": "gone.test", "moved.test": "long.test"}
    ) as running:
        yield running


def resolver(server: NameServer, **more: object) -> Resolver:
    """A resolver that asks this server."""
    made = Resolver(servers=("127.0.0.1",), lifetime_seconds=1.0, **more)  # type: ignore[arg-type]
    made._servers().port = server.port
    return made


def resolve(server: NameServer, *names: str, **more: object) -> list[Answer]:
    """The answers for names that are asked one after the other of one resolver."""

    async def ask() -> list[Answer]:
        asking = resolver(server, **more)
        return [await asking.resolve(name) for name in names]

    return asyncio.run(ask())


def texts(answer: Answer) -> list[str]:
    """The addresses as text."""
    return [str(address) for address in answer.addresses]


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("one.test", ["192.0.2.1"]),
        ("two.test", ["192.0.2.2", "192.0.2.3"]),
        ("both.test", ["192.0.2.4", "2001:db8::4"]),
        ("six.test", ["2001:db8::6"]),
        ("alias.test", ["192.0.2.1"]),
    ],
)
def test_all_addresses_of_a_name_come_ipv4_first(server: NameServer, name: str, addresses: list[str]) -> None:
    """Both kinds are asked for; an alias is followed to its addresses. Within a kind the server shuffles."""
    (answer,) = resolve(server, name)
    assert sorted(texts(answer)) == addresses
    assert [address.version for address in answer.addresses] == sorted(one.version for one in answer.addresses)
    assert answer.error == ""


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("gone.test", "the name does not exist"),
        ("text.test", "no address"),
        ("dangling.test", "the name does not exist"),
    ],
)
def test_a_name_without_addresses_says_why(server: NameServer, name: str, error: str) -> None:
    """No address is an answer, not an exception."""
    (answer,) = resolve(server, name)
    assert answer == Answer((), error)


def test_names_are_asked_as_absolute(server: NameServer) -> None:
    """One label, or a name that does not exist, is asked as it stands: no search list, ever."""
    resolve(server, "db", "gone.test")
    assert set(server.names()) == {"db.", "gone.test."}


def test_no_search_list_of_the_system_is_used(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system's configuration would append is not."""
    import dns.name

    async def ask() -> None:
        asking = resolver(server)
        assert asking._servers().search == []
        assert asking._servers().domain == dns.name.root
        await asking.resolve("db")

    monkeypatch.setenv("LOCALDOMAIN", "corp.example evil.example")
    asyncio.run(ask())
    assert set(server.names()) == {"db."}


def test_an_answer_is_kept_for_its_time(server: NameServer) -> None:
    """The second question for a name asks nobody."""
    resolve(server, "one.test", "one.test", "one.test")
    assert sorted(server.asked) == [("one.test.", "A", "udp"), ("one.test.", "AAAA", "udp")]


def test_an_answer_lives_no_longer_than_the_aliases_that_lead_to_it(server: NameServer) -> None:
    """An alias that is taken away from an address must not lead there for as long as the address lives."""
    direct, moved = resolve(server, "long.test", "moved.test")
    assert (texts(moved), direct.ttl, moved.ttl) == (["192.0.2.8"], 300.0, 60.0)


def test_an_answer_of_ttl_zero_is_not_kept(server: NameServer) -> None:
    """Each question is asked anew."""
    resolve(server, "short.test", "short.test")
    assert server.names().count("short.test.") == 4


def test_no_answer_is_kept_for_long(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time to live of decades is cut to minutes."""
    now = 1000.0
    monkeypatch.setattr(resolver_module.time, "monotonic", lambda: now)

    async def ask() -> None:
        nonlocal now
        asking = resolver(server)
        await asking.resolve("long.test")
        now += 299
        await asking.resolve("long.test")
        assert len(server.asked) == 2
        now += 2
        await asking.resolve("long.test")
        assert len(server.asked) == 4

    asyncio.run(ask())


def test_a_failure_is_kept_for_a_moment_only(server: NameServer) -> None:
    """A name that did not exist a second ago may exist now, but a storm of questions asks once."""
    resolve(server, "gone.test", "gone.test", "gone.test")
    assert len(server.asked) == 2


def test_one_lookup_a_name_at_a_time(server: NameServer) -> None:
    """Twenty askers at once are one asker to the server."""
    server.delay = 0.1

    async def ask() -> list[Answer]:
        asking = resolver(server)
        return await asyncio.gather(*(asking.resolve("one.test") for _ in range(20)))

    answers = asyncio.run(ask())
    assert {tuple(texts(answer)) for answer in answers} == {("192.0.2.1",)}
    assert len(server.asked) == 2


def test_one_asker_that_gives_up_does_not_end_the_lookup_of_the_others(server: NameServer) -> None:
    """The lookup is shared; being cancelled is not."""
    server.delay = 0.1

    async def ask() -> Answer:
        asking = resolver(server)
        first = asyncio.ensure_future(asking.resolve("one.test"))
        second = asyncio.ensure_future(asking.resolve("one.test"))
        await asyncio.sleep(0.02)
        first.cancel()
        answer = await second
        assert first.cancelled()
        return answer

    assert texts(asyncio.run(ask())) == ["192.0.2.1"]


def test_a_silent_server_ends_in_an_error_in_time(server: NameServer) -> None:
    """The whole lookup takes its lifetime and no more."""
    import time

    server.silent.add("one.test")
    started = time.monotonic()
    (answer,) = resolve(server, "one.test")
    assert answer == Answer((), "the resolver did not answer in time")
    assert time.monotonic() - started < 8


def test_a_server_that_fails_is_an_error(server: NameServer) -> None:
    """SERVFAIL is not `no such name`, and not an exception either."""
    server.broken.add("one.test")
    (answer,) = resolve(server, "one.test")
    assert answer.addresses == ()
    assert answer.error.startswith("the resolver")


def test_no_server_at_all_is_an_error() -> None:
    """A port at which nobody answers."""

    async def ask() -> Answer:
        asking = Resolver(servers=("127.0.0.1",), lifetime_seconds=0.3)
        asking._servers().port = 1
        return await asking.resolve("one.test")

    answer = asyncio.run(ask())
    assert answer.addresses == ()
    assert answer.error


def test_a_truncated_answer_is_asked_again_over_tcp(server: NameServer) -> None:
    """What UDP cannot carry whole is not used in part."""
    server.truncated = True
    (answer,) = resolve(server, "two.test")
    assert sorted(texts(answer)) == ["192.0.2.2", "192.0.2.3"]
    assert "two.test." in server.names("tcp")


def test_an_answer_is_bounded(server: NameServer) -> None:
    """A hundred addresses are not a hundred dials."""
    server.truncated = True
    (answer,) = resolve(server, "many.test")
    assert len(answer.addresses) == 32


def test_the_cache_is_bounded(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest answers go when it is full."""
    monkeypatch.setattr(resolver_module, "_CACHE_ENTRIES", 2)

    async def ask() -> None:
        asking = resolver(server)
        for name in ("one.test", "two.test", "both.test"):
            await asking.resolve(name)
        assert list(asking._cache) == [("two.test", ()), ("both.test", ())]

    asyncio.run(ask())


def test_pins_win_and_ask_nobody(server: NameServer) -> None:
    """A pinned name is answered from its pin, for that name only."""
    (pinned, other) = resolve(server, "one.test", "two.test", pins={"one.test": (ip_address("10.9.9.9"),)})
    assert texts(pinned) == ["10.9.9.9"]
    assert sorted(texts(other)) == ["192.0.2.2", "192.0.2.3"]
    assert "one.test." not in server.names()
