"""What the supervisor waits for: descriptors and moments, each called once for what it is."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from egress.server.events import WRITE, Events

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def events() -> Iterator[Events]:
    """Nothing is watched yet."""
    made = Events()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends, the second of which can be read."""
    ends = socket.socketpair()
    ends[0].send(b"x")
    yield ends
    for end in ends:
        end.close()


def test_what_an_earlier_one_of_a_turn_forgot_is_not_called(events: Events) -> None:
    """Both can be read; whichever is first forgets and closes the other, so that its number may be another's."""
    called: list[int] = []
    (a, far_a), (b, far_b) = socket.socketpair(), socket.socketpair()
    for far in (far_a, far_b):
        far.send(b"x")

    def end(name: int, other: socket.socket) -> None:
        called.append(name)
        events.forget(other)
        other.close()

    events.watch(a, lambda: end(1, b))
    events.watch(b, lambda: end(2, a))
    events.act(time.monotonic() + 1)
    assert len(called) == 1
    for sock in (a, b, far_a, far_b):
        sock.close()


def test_forgetting_twice_or_what_is_closed_is_nothing(
    events: Events, pair: tuple[socket.socket, socket.socket]
) -> None:
    """Ends are told from several places."""
    events.watch(pair[1], lambda: None)
    events.forget(pair[1])
    events.forget(pair[1])
    pair[0].close()
    events.forget(pair[0])
    assert events.act(time.monotonic()) is None


def test_watching_again_replaces(events: Events, pair: tuple[socket.socket, socket.socket]) -> None:
    """One callback for a descriptor: to read first, then to write."""
    called: list[str] = []
    events.watch(pair[1], lambda: called.append("read"))
    events.watch(pair[1], lambda: called.append("write"), WRITE)
    events.act(time.monotonic() + 1)
    assert called == ["write"]


def test_timers_are_called_once_in_time_and_not_when_cancelled(events: Events) -> None:
    """Also by another timer of the same moment."""
    called: list[str] = []
    events.later(0.0, lambda: called.append("first"))
    second = events.later(0.0, lambda: called.append("second"))
    third = events.later(0.0, lambda: called.append("third"))
    events.later(60.0, lambda: called.append("later"))
    events.cancel(second)
    events.cancel(second)
    events.later(0.0, lambda: events.cancel(third))
    events.act(None)
    events.act(time.monotonic())
    assert called == ["first", "third"]


def test_a_timer_ends_the_wait(events: Events) -> None:
    """Nobody says anything, and there is no deadline."""
    called: list[float] = []
    started = time.monotonic()
    events.later(0.05, lambda: called.append(time.monotonic() - started))
    events.act(None)
    assert called[0] >= 0.05
