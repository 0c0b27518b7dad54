"""Channels between processes: whole messages in order, an end that is noticed, and nothing that waits or leaks."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest
import uvloop

from egress.server.channel import LARGEST, Gone, Line, Values, Word, encode, make_pair, receive, send

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a channel."""
    ends = make_pair()
    yield ends
    for end in ends:
        end.close()


def test_a_message_arrives_as_it_was_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    """Word, numbers, text, bytes, lists, None; and in order."""
    sent = [(Word.ROWS, 7, [b"\x00", b"x" * 1000]), (Word.ASK, "name.test"), (Word.HANDED, None, 1.5, ())]
    for word, *values in sent:
        assert send(pair[0], encode(word, *values))
    assert [receive(pair[1]) for _ in sent] == [(message, []) for message in sent]
    assert receive(pair[1]) is None


def test_a_descriptor_travels_with_its_message(pair: tuple[socket.socket, socket.socket]) -> None:
    """The receiver has a copy of its own, which a program that it starts does not inherit."""
    read, write = os.pipe()
    assert send(pair[0], encode(Word.LINK), write)
    os.close(write)
    message = receive(pair[1])
    assert message is not None
    values, (descriptor,) = message
    assert values == ("link",)
    assert not os.get_inheritable(descriptor)
    os.write(descriptor, b"here")
    os.close(descriptor)
    assert os.read(read, 10) == b"here"
    os.close(read)


def test_a_full_channel_says_so_and_loses_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    """Nobody waits for a reader that does not read; what was taken arrives."""
    count = 0
    while send(pair[0], encode(Word.ROWS, count, [b"x" * 30_000])):
        count += 1
    assert count > 1
    for number in range(count):
        message = receive(pair[1])
        assert message is not None
        assert message[0][1] == number
    assert receive(pair[1]) is None


def test_the_largest_message_fits(pair: tuple[socket.socket, socket.socket]) -> None:
    """What may be sent is taken whole, at once."""
    message = encode(Word.ROWS, 1, [b"x" * (LARGEST - 100)])
    assert len(message) <= LARGEST
    assert send(pair[0], message)
    received = receive(pair[1])
    assert received is not None
    assert len(received[0][2][0]) == LARGEST - 100


def test_a_message_that_is_too_large_ends_the_channel(pair: tuple[socket.socket, socket.socket]) -> None:
    """Half a message is none: its receiver treats the sender as gone."""
    assert send(pair[0], encode(Word.ROWS, 1, [b"x" * LARGEST]))
    with pytest.raises(Gone):
        receive(pair[1])


@pytest.mark.parametrize("data", [b"\xff", b"(", b"i\x01\x00\x00\x00", b")\x00", b"[\x00\x00\x00\x00"])
def test_what_is_no_message_ends_the_channel(pair: tuple[socket.socket, socket.socket], data: bytes) -> None:
    """Garbage is told from a message, and its sender treated as gone."""
    assert send(pair[0], data)
    with pytest.raises(Gone):
        receive(pair[1])


def test_an_end_that_is_closed_is_noticed_after_its_last_words(pair: tuple[socket.socket, socket.socket]) -> None:
    """What a process said before it died is still heard."""
    assert send(pair[0], encode(Word.ROWS, 1, []))
    send(pair[1], encode(Word.RECORDED, 1))
    pair[0].close()
    assert receive(pair[1]) == (("rows", 1, []), [])
    with pytest.raises(Gone):
        receive(pair[1])
    with pytest.raises(Gone):
        send(pair[1], encode(Word.RECORDED, 1))


def test_a_line_keeps_in_order_what_has_no_room(pair: tuple[socket.socket, socket.socket]) -> None:
    """More than the kernel holds is sent and read: all of it, in order."""

    async def talk() -> list[int]:
        loop = asyncio.get_running_loop()
        heard: list[int] = []
        whole = asyncio.Event()

        def hear(values: Values, _: list[int]) -> None:
            heard.append(values[1])
            if len(heard) == 200:
                whole.set()

        line = Line(loop, pair[0], lambda *_: None, lambda: None)
        for number in range(190):
            line.say(Word.ROWS, number, b"x" * 10_000)
        for _ in range(3):
            message = receive(pair[1])
            assert message is not None
            hear(*message)
        # There is room again, and others wait for it.
        for number in range(190, 200):
            line.say(Word.ROWS, number, b"x")
        reader = Line(loop, pair[1], hear, lambda: None)
        async with asyncio.timeout(10):
            await whole.wait()
        line.close()
        reader.close()
        return heard

    assert asyncio.run(talk()) == list(range(200))


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_all_that_was_said_before_a_break_is_heard(
    pair: tuple[socket.socket, socket.socket], new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """However much it was: a loop that tells of the break once need not tell of it again."""

    async def talk() -> list[int]:
        heard: list[int] = []
        gone = asyncio.Event()
        for number in range(200):
            assert send(pair[1], encode(Word.READY, number))
        # What it leaves unread makes its end a break.
        assert send(pair[0], encode(Word.RECORDED, 1))
        pair[1].close()
        Line(asyncio.get_running_loop(), pair[0], lambda values, _: heard.append(values[1]), gone.set)
        async with asyncio.timeout(5):
            await gone.wait()
        return heard

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(talk()) == list(range(200))


@pytest.mark.parametrize("fault", ["closed", "misunderstood"])
def test_a_line_tells_once_that_it_is_over(pair: tuple[socket.socket, socket.socket], fault: str) -> None:
    """The other process is gone, or what it says cannot be acted on: no more is read, and the end is told."""

    async def talk() -> tuple[list[Values], int]:
        heard: list[Values] = []
        gone: list[None] = []

        def on_message(values: Values, _: list[int]) -> None:
            heard.append(values)
            if values[0] == "failed":
                raise ValueError(values)

        line = Line(asyncio.get_running_loop(), pair[0], on_message, lambda: gone.append(None))
        send(pair[1], encode(Word.READY, 1))
        if fault == "closed":
            pair[1].close()
        else:
            send(pair[1], encode(Word.FAILED))
            send(pair[1], encode(Word.READY, 2))
        await asyncio.sleep(0.05)
        line.say(Word.READY)
        line.close()
        return heard, len(gone)

    heard, gone = asyncio.run(talk())
    assert gone == 1
    assert heard[0] == ("ready", 1)
    assert ("ready", 2) not in heard
