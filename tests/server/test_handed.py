"""The queue of connections for the mitm process: the very socket arrives, with what is known of it, or nothing does."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from egress.config import UnixListener
from egress.gate.exchange import Client
from egress.gate.roster import ClientPlace
from egress.server.channel import Word, encode, make_pair, send
from egress.server.handed import HandedOver, drop_handed, take_handed

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENT = Client("default", "192.0.2.1:1234", "mitm")


def open_descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def queue() -> Iterator[tuple[HandedOver, socket.socket]]:
    """The workers' side, and the end from which connections are taken."""
    into, out_of = make_pair()
    yield HandedOver(into), out_of
    into.close()
    out_of.close()


@pytest.mark.parametrize("destination", [None, ("api.example.com", 443), ("2001:db8::1", 8443)])
def test_a_connection_arrives_with_what_is_known_of_it(
    queue: tuple[HandedOver, socket.socket], destination: tuple[str, int] | None
) -> None:
    """The giver closes its copy; bytes that came before and after are there for the taker."""
    near, far = socket.socketpair()
    with far:
        far.sendall(b"before ")
        assert queue[0].hand_over(near, CLIENT, destination)
        near.close()
        far.sendall(b"after")
        ((sock, client, taken),) = take_handed(queue[1])
        with sock:
            assert (client.sandbox, client.peer, taken) == (CLIENT.sandbox, CLIENT.peer, destination)
            assert sock.recv(12, socket.MSG_WAITALL) == b"before after"


@pytest.mark.parametrize(
    "client",
    [
        Client("ci-7", "192.0.2.1:1", "mitm", ClientPlace("192.0.2.1", ("127.0.0.1", 3128)), settled=True),
        Client("unknown", "192.0.2.1:1", "mitm", ClientPlace("192.0.2.1")),
        Client("default", "192.0.2.1:1", "mitm", ClientPlace("192.0.2.1"), settled=True, road="socks"),
        Client("build", "unix:uid=7", "mitm", ClientPlace("unix:uid=7", UnixListener("/run/p.sock"), 7), settled=True),
    ],
)
def test_who_the_client_is_and_where_it_came_from_arrive(
    queue: tuple[HandedOver, socket.socket], client: Client
) -> None:
    """So that the other process takes it for nobody else, and can tell who it is where that is still open."""
    near, far = socket.socketpair()
    with far, near:
        assert queue[0].hand_over(near, client, None)
        ((sock, taken, _),) = take_handed(queue[1])
        sock.close()
        assert taken == client


def test_a_full_queue_refuses(queue: tuple[HandedOver, socket.socket]) -> None:
    """Its caller is told at once, and can refuse; what was taken arrives; the room is there again."""
    near, far = socket.socketpair()
    with near, far:
        count = 0
        while queue[0].hand_over(near, CLIENT, None):
            count += 1
            assert count < 100_000
        assert count > 10
        taken = list(take_handed(queue[1]))
        for sock, _, _ in taken:
            sock.close()
        assert queue[0].hand_over(near, CLIENT, None)


def test_what_is_no_connection_is_closed() -> None:
    """A descriptor that nobody knows what to do with does not stay open."""
    before = open_descriptors()
    into, out_of = make_pair()
    near, far = socket.socketpair()
    assert send(into, encode(Word.READY, 1), near.fileno())
    assert send(into, encode(Word.HANDED, "default", "x", None, 0))
    assert list(take_handed(out_of)) == []
    for end in (into, out_of, near, far):
        end.close()
    assert open_descriptors() == before


def test_what_waits_can_be_dropped(queue: tuple[HandedOver, socket.socket]) -> None:
    """Where nobody will ever take them, their clients see the end of the connection."""
    before = open_descriptors()
    pairs = [socket.socketpair() for _ in range(100)]
    for near, _ in pairs:
        assert queue[0].hand_over(near, CLIENT, None)
        near.close()
    drop_handed(queue[1])
    for _, far in pairs:
        assert far.recv(10) == b""
        far.close()
    assert open_descriptors() == before
