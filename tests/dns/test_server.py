"""The sockets: datagrams and connections, pipelined, slow, many, half; all bounded."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

import dns.asyncquery
import dns.message
import dns.rcode
import pytest
from resolving import Bench, query, short

from egress.config import DnsLimits, SandboxDefinition
from egress.gate.roster import Member, Roster
from egress.policy import Rate, Sandbox
from egress.proxy.dns.server import may_ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from nameserver import NameServer

LOTS = Rate(1_000_000, 60)
RULES = """
rules:
  - {allow: "*.wild.example"}
  - {allow: big.example.com, protocol: dns}
  - {allow: slow.example.com}
"""


def framed(*messages: bytes) -> bytes:
    """Messages as TCP carries them."""
    return b"".join(len(each).to_bytes(2) + each for each in messages)


async def next_message(reader: asyncio.StreamReader) -> dns.message.Message:
    """The next answer of a connection."""
    length = int.from_bytes(await reader.readexactly(2))
    return dns.message.from_wire(await reader.readexactly(length))


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the connection ends, without another byte."""
    try:
        async with asyncio.timeout(20):
            return await reader.read(1) == b""
    except ConnectionError:
        return True


def test_a_sandbox_may_be_told_by_the_listener_that_it_asks(bench: Callable[..., Bench]) -> None:
    """Over UDP and TCP; who asks another one is nobody."""

    async def play(own: Bench) -> None:
        async with own.serving() as where, own.serving() as (other, port):
            policy = own.gate.generation.policy
            member = Member(SandboxDefinition(Sandbox("agent"), listener=where), policy)
            own.gate.generation = replace(own.gate.generation, roster=Roster([member]))
            asked = dns.message.make_query("host1.wild.example", "A")
            assert (await dns.asyncquery.udp(asked, where[0], 5, where[1])).rcode() == dns.rcode.NOERROR
            assert (await dns.asyncquery.tcp(asked, where[0], 5, where[1])).rcode() == dns.rcode.NOERROR
            assert (await dns.asyncquery.udp(asked, other, 5, port)).rcode() == dns.rcode.REFUSED
        assert {(row.sandbox, row.verdict, row.road) for row in own.ledger.decisions} == {
            ("agent", "allow", "dns"),
            ("unknown", "deny", "dns"),
        }

    bench(RULES).run(play)


def test_a_client_library_is_answered_over_both(bench: Callable[..., Bench]) -> None:
    """UDP, and TCP where the answer was cut."""

    async def play(own: Bench) -> None:
        async with own.serving() as (host, port):
            asked = dns.message.make_query("host1.wild.example", "A", use_edns=0)
            assert short(await dns.asyncquery.udp(asked, host, 5, port)).startswith("NOERROR 198.1")
            asked = dns.message.make_query("big.example.com", "TXT")
            answer, by_tcp = await dns.asyncquery.udp_with_fallback(asked, host, 5, port=port)
            assert (by_tcp, len(answer.answer[0])) == (True, 20)

    bench(RULES).run(play)


def test_pipelined_questions_are_all_answered(bench: Callable[..., Bench], upstream: NameServer) -> None:
    """In one packet, more than are under way at once, in whatever order."""
    upstream.delay = 0.02

    async def play(own: Bench) -> None:
        async with own.serving() as where:
            reader, writer = await asyncio.open_connection(*where)
            asked = [query(f"host{number}.wild.example") for number in range(40)]
            writer.write(framed(*asked))
            answers = [await next_message(reader) for _ in asked]
            assert {answer.id for answer in answers} == {dns.message.from_wire(each).id for each in asked}
            assert all(answer.rcode() == dns.rcode.NOERROR for answer in answers)
            writer.write_eof()
            assert await ended(reader)
            writer.close()

    bench(RULES).run(play)


def test_a_client_that_has_said_all_still_gets_its_answer(bench: Callable[..., Bench], upstream: NameServer) -> None:
    """It closes its side at once, as some do."""
    upstream.delay = 0.1

    async def play(own: Bench) -> None:
        async with own.serving() as where:
            reader, writer = await asyncio.open_connection(*where)
            writer.write(framed(query("host1.wild.example")))
            writer.write_eof()
            assert (await next_message(reader)).rcode() == dns.rcode.NOERROR
            assert await ended(reader)
            writer.close()

    bench(RULES).run(play)


@pytest.mark.parametrize(
    "sent", [b"", b"\0", b"\0\x30", framed(query("a.test"))[:-3], b"\xff\xff" + b"x" * 100, b"\x10\0"]
)
def test_a_slow_or_endless_message_ends_the_connection(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """Each wait has its end, and a length that no question has is not waited for."""
    monkeypatch.setattr("egress.proxy.dns.server._IDLE_SECONDS", 0.2)
    monkeypatch.setattr("egress.proxy.dns.server._MESSAGE_SECONDS", 0.2)

    async def play(own: Bench) -> None:
        async with own.serving() as where:
            reader, writer = await asyncio.open_connection(*where)
            writer.write(sent)
            assert await ended(reader)
            writer.close()
        assert own.ledger.decisions == []

    bench(RULES).run(play)


def test_a_client_that_drips_is_left_behind(bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then does not start the time for a message anew."""
    monkeypatch.setattr("egress.proxy.dns.server._MESSAGE_SECONDS", 0.3)

    async def play(own: Bench) -> None:
        async with own.serving() as where:
            reader, writer = await asyncio.open_connection(*where)
            gone = asyncio.create_task(ended(reader))
            for byte in framed(query("host1.wild.example")):
                if gone.done():
                    break
                writer.write(bytes([byte]))
                await asyncio.sleep(0.1)
            assert await gone
            writer.close()

    bench(RULES).run(play)


def test_a_client_that_does_not_read_is_left_behind(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it does not take fills no memory: its connection ends."""
    monkeypatch.setattr("egress.proxy.dns.server._MESSAGE_SECONDS", 0.3)

    async def play(own: Bench) -> None:
        async with own.serving() as where:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
            sock.connect(where)
            sock.setblocking(False)  # noqa: FBT003 - the method takes it so
            loop = asyncio.get_running_loop()
            batch = framed(*[query("big.example.com", "TXT")] * 20)

            async def flood() -> None:
                while True:
                    await loop.sock_sendall(sock, batch)
                    await asyncio.sleep(0.01)

            with sock, pytest.raises(ConnectionError):
                await flood()

    bench(RULES, limits=DnsLimits(queries=LOTS, parent_queries=LOTS)).run(play)


def test_connections_are_limited(bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    """One client takes its part, and no more; those that it closes are free again."""
    monkeypatch.setattr("egress.proxy.dns.server._CONNECTIONS_OF_ONE", 3)

    async def play(own: Bench) -> None:
        async with own.serving() as where:
            held = [await asyncio.open_connection(*where) for _ in range(4)]
            # Closed at once, and not only once it was idle for long enough.
            held[3][1].write(framed(query("host1.wild.example")))
            assert await ended(held[3][0])
            for _, writer in held:
                writer.close()
                await writer.wait_closed()
            await asyncio.sleep(0.05)
            reader, writer = await asyncio.open_connection(*where)
            writer.write(framed(query("host1.wild.example")))
            assert (await next_message(reader)).rcode() == dns.rcode.NOERROR
            writer.close()

    bench(RULES).run(play)


def test_connections_are_a_sandboxs_however_many_addresses_it_has(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From ever new addresses it takes no more than its part, and the others keep theirs."""
    monkeypatch.setattr("egress.proxy.dns.server._CONNECTIONS_OF_ONE", 3)

    async def play(own: Bench) -> None:
        async with own.serving() as where:
            policy = own.gate.generation.policy
            many = SandboxDefinition(Sandbox("many"), (ip_network("127.0.1.0/24"),))
            other = SandboxDefinition(Sandbox("other"), (ip_network("127.0.2.1/32"),))
            own.gate.generation = replace(
                own.gate.generation, roster=Roster([Member(many, policy), Member(other, policy)])
            )
            held = [
                await asyncio.open_connection(*where, local_addr=(f"127.0.1.{number}", 0)) for number in range(1, 5)
            ]
            # Closed at once, and not only once it was idle for long enough.
            held[3][1].write(framed(query("host1.wild.example")))
            assert await ended(held[3][0])
            reader, writer = await asyncio.open_connection(*where, local_addr=("127.0.2.1", 0))
            writer.write(framed(query("host1.wild.example")))
            assert (await next_message(reader)).rcode() == dns.rcode.NOERROR
            for each in (writer, *(writer for _, writer in held)):
                each.close()

    bench(RULES).run(play)


def test_each_question_of_a_connection_is_of_who_is_there_now(bench: Callable[..., Bench]) -> None:
    """A sandbox is removed, and another registered under its name: a connection of the first is not the second's."""

    async def play(own: Bench) -> None:
        async with own.serving() as where:
            policy = own.gate.generation.policy

            def registered(source: str) -> None:
                member = Member(SandboxDefinition(Sandbox("agent"), (ip_network(source),)), policy)
                own.gate.generation = replace(own.gate.generation, roster=Roster([member]))

            registered("127.0.0.1/32")
            reader, writer = await asyncio.open_connection(*where)
            for source, told in (("127.0.0.1/32", dns.rcode.NOERROR), ("127.0.2.1/32", dns.rcode.REFUSED)):
                registered(source)
                writer.write(framed(query("host1.wild.example")))
                assert (await next_message(reader)).rcode() == told
            writer.close()
        assert {(row.sandbox, row.verdict) for row in own.ledger.decisions} == {("agent", "allow"), ("unknown", "deny")}

    bench(RULES).run(play)


def test_datagrams_beyond_what_may_wait_are_not_answered(
    bench: Callable[..., Bench], upstream: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks will ask again; what was being answered is."""
    monkeypatch.setattr("egress.proxy.dns.server._DATAGRAMS_AT_MOST", 4)
    upstream.delay = 0.3

    async def play(own: Bench) -> None:
        async with own.serving() as where:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.setblocking(False)  # noqa: FBT003 - the method takes it so
                client.connect(where)
                for number in range(10):
                    client.send(query(f"host{number}.wild.example"))
                loop = asyncio.get_running_loop()
                for _ in range(4):
                    await loop.sock_recv(client, 2_000)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await loop.sock_recv(client, 2_000)

    bench(RULES).run(play)


def test_the_end_waits_for_nobody(bench: Callable[..., Bench], upstream: NameServer) -> None:
    """Connections under way end with the process, and leave nothing behind."""
    upstream.silent.add("slow.example.com")

    async def play(own: Bench) -> None:
        async with own.serving() as where:
            reader, writer = await asyncio.open_connection(*where)
            writer.write(framed(query("slow.example.com")))
            await asyncio.sleep(0.1)
        assert await ended(reader)
        writer.close()

    bench(RULES).run(play)


@pytest.mark.parametrize(
    ("address", "port", "may"),
    [
        ("10.8.1.2", 40_000, True),
        ("10.8.1.2", 53, True),
        ("fe80::1%eth0", 1_024, True),
        ("10.8.1.2", 0, False),
        ("10.8.1.2", 7, False),
        ("10.8.1.2", 19, False),
        ("10.8.1.2", 123, False),
        ("224.0.0.1", 40_000, False),
        ("255.255.255.255", 40_000, False),
        ("0.0.0.0", 40_000, False),
        ("ff02::1", 40_000, False),
        ("::", 40_000, False),
        ("nonsense", 40_000, False),
    ],
)
def test_who_may_be_answered(address: str, port: int, *, may: bool) -> None:
    """Not the port of a service that would answer in turn, nor an address that is nobody's own."""
    assert may_ask(address, port) is may
