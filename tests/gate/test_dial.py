"""Dialling: one connection, to an address of the grant and to no other."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from egress.gate.dial import DialFailure, Dialled, dial
from egress.gate.grant import Grant

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def listening(address: str = "127.0.0.1", port: int = 0) -> Iterator[socket.socket]:
    """A listener."""
    with socket.create_server((address, port), backlog=8) as listener:
        yield listener


def grant(port: int, *addresses: str) -> Grant:
    """A grant to these addresses."""
    return Grant("id", "a.test", port, tls=False, addresses=tuple(map(ip_address, addresses)), expires=1e12)


def dialled(to: Grant, seconds: float = 1.0) -> Dialled | DialFailure:
    """What dialling came to."""
    return asyncio.run(dial(to, timeout_seconds=seconds))


def test_the_address_of_the_grant_is_dialled() -> None:
    """The socket is connected, non-blocking, without Nagle's delay."""
    with listening() as listener:
        outcome = dialled(grant(listener.getsockname()[1], "127.0.0.1"))
        assert isinstance(outcome, Dialled)
        with outcome.sock as sock:
            assert outcome.address == ip_address("127.0.0.1")
            assert sock.getpeername() == listener.getsockname()
            assert sock.gettimeout() == 0.0
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_no_name_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is never asked what the host's name means; the host here has no address at all."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a name was resolved")

    with listening() as listener:
        to = grant(listener.getsockname()[1], "127.0.0.1")
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        outcome = dialled(to)
        assert isinstance(outcome, Dialled)
        outcome.sock.close()


def test_the_next_address_is_tried_when_one_refuses() -> None:
    """In the order of the grant."""
    with listening("127.0.0.2") as listener:
        outcome = dialled(grant(listener.getsockname()[1], "127.0.0.1", "127.0.0.2"))
        assert isinstance(outcome, Dialled)
        outcome.sock.close()
        assert outcome.address == ip_address("127.0.0.2")


def test_a_refused_connection_is_a_failure_with_a_sentence() -> None:
    """Nobody listens: a value, not an exception."""
    with listening() as listener:
        port = listener.getsockname()[1]
    assert dialled(grant(port, "127.0.0.1")) == DialFailure("the connection failed: Connection refused")


def test_a_grant_without_addresses_dials_nothing() -> None:
    """No address was judged, so none is dialled."""
    assert dialled(grant(443)) == DialFailure("no address to dial")


@pytest.fixture
def full() -> Iterator[socket.socket]:
    """A listener whose queue is full, so that the next connection hangs."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.settimeout(0)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        yield listener
        for filler in fillers:
            filler.close()


def test_a_connection_that_hangs_ends_in_time(full: socket.socket) -> None:
    """The whole dial takes its limit and no more."""
    started = time.monotonic()
    outcome = dialled(grant(full.getsockname()[1], "127.0.0.1"), 0.6)
    assert outcome == DialFailure("the server did not accept the connection in time")
    assert time.monotonic() - started < 8


def test_one_address_that_hangs_does_not_take_the_time_of_the_next(full: socket.socket) -> None:
    """Each has its share."""
    with listening("127.0.0.2", full.getsockname()[1]):
        outcome = dialled(grant(full.getsockname()[1], "127.0.0.1", "127.0.0.2"), 2.0)
        assert isinstance(outcome, Dialled)
        outcome.sock.close()


def test_a_peer_that_is_not_the_address_is_not_used() -> None:
    """One name: if the kernel says that we are connected elsewhere (0.0.0.0 reaches loopback), it is closed."""
    with listening() as listener:
        outcome = dialled(grant(listener.getsockname()[1], "0.0.0.0"))
        assert outcome == DialFailure("the connection reached another address than the one judged")


def test_a_dial_that_is_given_up_leaves_no_socket(full: socket.socket) -> None:
    """Cancelled while it waits: the socket is closed (an open one would be a warning, and so an error, here)."""

    async def give_up() -> None:
        task = asyncio.ensure_future(dial(grant(full.getsockname()[1], "127.0.0.1"), timeout_seconds=5))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
