"""The book of synthetic addresses: one name each, as long as anybody may hold it, over restarts and lack of room."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import OrderedDict
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egress.errors import StateError
from egress.gate.given_book import BOOK_NAME, GivenBook, Range, _Given, read_names

if TYPE_CHECKING:
    from collections.abc import Coroutine, ItemsView
    from pathlib import Path

    from egress.policy import Address

WIDE = (ip_network("198.18.0.0/15"), ip_network("fd65:6772:6573:7300::/64"))
# Eight addresses, of which six are given out.
SMALL = (ip_network("198.18.0.0/29"),)
KEEP = 100.0


class Clock:
    """A clock that a test sets."""

    now = 1_000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def run[Result](work: Coroutine[None, None, Result]) -> Result:
    """Run on a loop of its own."""
    return asyncio.run(work)


def opened(folder: Path, ranges: tuple[object, ...] = WIDE, clock: Clock | None = None) -> GivenBook:
    """A book that is open."""
    book = GivenBook(folder, ranges, KEEP, clock or Clock())  # type: ignore[arg-type]
    book.open()
    return book


async def lent(book: GivenBook, *names: str, version: int = 4, sandbox: str = "") -> list[Address | None]:
    """The addresses of names, one after the other; each for a sandbox of its own unless one is named."""
    return [await book.lend(name, version, sandbox or name) for name in names]


def test_one_address_a_name_and_family(tmp_path: Path) -> None:
    """The same for whoever asks, and another for every name; both families lead back to the name."""

    async def play() -> None:
        book = opened(tmp_path)
        first, again, other = await lent(book, "a.example", "a.example", "b.example")
        (six,) = await lent(book, "a.example", version=6)
        assert first is not None
        assert six is not None
        assert first == again != other
        assert await book.lend("a.example", 4, "another sandbox") == first
        assert (first in WIDE[0], six in WIDE[1]) == (True, True)
        assert [await book.name_of(address) for address in (first, six)] == ["a.example", "a.example"]
        assert await book.name_of(ip_address(f"::ffff:{first}")) == "a.example"
        book.close()

    run(play())


def test_a_restart_changes_nothing(tmp_path: Path) -> None:
    """What was told still stands for its name, and is nobody else's."""

    async def play() -> None:
        names = [f"host{number}.example" for number in range(50)]
        before = opened(tmp_path)
        told = await lent(before, *names)
        # Killed: nothing is closed.
        after = opened(tmp_path)
        assert [await after.name_of(address) for address in told if address] == names
        assert await lent(after, *names) == told
        fresh = await lent(after, *[f"new{number}.example" for number in range(50)])
        assert not set(fresh) & set(told)
        after.close()
        before.close()

    run(play())


def test_an_address_is_written_before_it_is_told(tmp_path: Path) -> None:
    """INVARIANT one-name: whoever was told of one finds it in the file."""

    async def play() -> None:
        book = opened(tmp_path)
        (address,) = await lent(book, "a.example")
        assert read_names(tmp_path / BOOK_NAME) == {str(address): "a.example"}
        book.close()

    run(play())


def test_what_cannot_be_written_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk gives no address, and holds none back."""

    async def play() -> None:
        book = opened(tmp_path, SMALL)

        def full(_row: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(book, "_write", full)
            for number in range(20):
                with pytest.raises(sqlite3.OperationalError):
                    await book.lend(f"host{number}.example", 4, "agent")
        assert None not in await lent(book, *(f"host{number}.example" for number in range(6)))
        book.close()

    run(play())


def test_those_who_ask_at_once_get_the_same(tmp_path: Path) -> None:
    """Two questions for a name are one writing and one address."""

    async def play() -> None:
        book = opened(tmp_path)
        told = await asyncio.gather(*(book.lend("a.example", 4, f"agent {number}") for number in range(20)))
        assert len(set(told)) == 1
        assert len(read_names(tmp_path / BOOK_NAME)) == 1
        book.close()

    run(play())


def test_exhausted_ranges_give_nothing_rather_than_what_is_in_use(tmp_path: Path) -> None:
    """Only what nobody asked for, or came with, for long enough becomes another name's, longest unused first."""

    async def play() -> None:
        clock = Clock()
        book = opened(tmp_path, SMALL, clock)
        names = [f"host{number}.example" for number in range(6)]
        told = await lent(book, *names)
        assert None not in told
        assert await lent(book, "late.example") == [None]
        clock.now += KEEP - 1
        # Asked for, and come with: both are use.
        await lent(book, names[0])
        assert told[1] is not None
        assert await book.name_of(told[1]) == names[1]
        assert await lent(book, "late.example") == [None]
        clock.now += 1
        assert await lent(book, "late.example") == [told[2]]
        assert await book.name_of(told[2]) == "late.example" if told[2] else False
        assert [await book.name_of(address) for address in told[:2] if address] == names[:2]
        assert read_names(tmp_path / BOOK_NAME)[str(told[2])] == "late.example"
        book.close()

    run(play())


def test_after_a_restart_everything_counts_as_used(tmp_path: Path) -> None:
    """Nobody knows how long before it was."""

    async def play() -> None:
        clock = Clock()
        before = opened(tmp_path, SMALL, clock)
        await lent(before, *(f"host{number}.example" for number in range(6)))
        before.close()
        clock.now += KEEP - 1
        after = opened(tmp_path, SMALL, clock)
        clock.now += KEEP - 1
        assert await lent(after, "late.example") == [None]
        after.close()

    run(play())


def test_one_sandbox_leaves_the_others_theirs(tmp_path: Path) -> None:
    """It has a quarter of the range at most."""

    async def play() -> None:
        book = opened(tmp_path, (ip_network("198.18.0.0/28"),))
        told = await lent(book, *(f"host{number}.example" for number in range(10)), sandbox="greedy")
        assert [address is None for address in told] == [False] * 3 + [True] * 7
        assert None not in await lent(book, "other.example")
        book.close()

    run(play())


def test_a_sandbox_with_its_part_gets_its_own_longest_unused_and_no_other_is_looked_at() -> None:
    """It asks for ever new names: those of the others, idle or not, neither go to it nor cost time."""

    class Unsearched(OrderedDict[int, _Given]):
        def items(self) -> ItemsView[int, _Given]:
            raise AssertionError("all that were given out were looked through")

    own = Range(ip_network("198.18.0.0/28"), KEEP)  # type: ignore[arg-type]
    own._given = Unsearched()
    others = [own.take(f"other{number}.example", f"other{number}", 0.0) for number in range(8)]
    told = [own.take(f"host{number}.example", "greedy", 1.0) for number in range(4)]
    assert [address is None for address in told] == [False] * 3 + [True]
    own.known("host0.example", 50.0)
    assert own.take("late.example", "greedy", KEEP) is None
    assert own.take("late.example", "greedy", KEEP + 1) == told[1]
    assert None not in others
    assert [own.name_of(address, KEEP + 1) for address in others if address][:1] == ["other0.example"]


def test_ranges_that_were_others_before(tmp_path: Path) -> None:
    """What was given out of a range that is configured no more is no address of ours; it comes back with its range."""

    async def play() -> None:
        book = opened(tmp_path)
        (told,) = await lent(book, "a.example")
        assert told is not None
        book.close()
        other = opened(tmp_path, (ip_network("10.99.0.0/16"),))
        assert (other.is_synthetic(told), await other.name_of(told)) == (False, None)
        await lent(other, "a.example")
        other.close()
        back = opened(tmp_path)
        assert await back.name_of(told) == "a.example"
        back.close()

    run(play())


@pytest.mark.parametrize("text", ["198.17.255.255", "198.20.0.0", "fd65:6772:6573:7301::", "::1", "10.0.0.1"])
def test_other_addresses_are_none_of_ours(tmp_path: Path, text: str) -> None:
    """They stand for nothing."""
    book = opened(tmp_path)
    assert not book.is_synthetic(ip_address(text))
    assert run(book.name_of(ip_address(text))) is None
    book.close()


@pytest.mark.parametrize("text", ["198.18.0.1", "198.19.255.255", "fd65:6772:6573:7300::1", "::ffff:198.18.0.1"])
def test_an_address_of_the_range_that_nobody_was_given(tmp_path: Path, text: str) -> None:
    """It is ours, and stands for nothing."""
    book = opened(tmp_path)
    assert book.is_synthetic(ip_address(text))
    assert run(book.name_of(ip_address(text))) is None
    book.close()


def test_a_family_without_a_range_has_no_addresses(tmp_path: Path) -> None:
    """And nothing fails."""
    book = opened(tmp_path, (WIDE[0],))
    assert run(book.lend("a.example", 6, "agent")) is None
    book.close()


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be taken for one" * 40, None])
def test_a_book_that_cannot_be_read_stops_the_start(tmp_path: Path, content: bytes | None) -> None:
    """INVARIANT one-name: beginning anew in silence could give an address a second name."""
    path = tmp_path / BOOK_NAME
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(StateError) as raised:
        opened(tmp_path)
    assert "restore it" in raised.value.hint


def test_the_file_is_ours_alone(tmp_path: Path) -> None:
    """It tells what every sandbox asked for."""
    opened(tmp_path).close()
    assert (tmp_path / BOOK_NAME).stat().st_mode & 0o777 == 0o600


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 3), st.floats(0, KEEP)), max_size=80))
def test_no_address_has_two_names_within_its_time(steps: list[tuple[int, int, float]]) -> None:
    """Whatever is asked for in whatever order: who was told of an address less than its time ago still reaches that."""
    own = Range(SMALL[0], KEEP)  # type: ignore[arg-type]
    now = 0.0
    told: dict[Address, tuple[str, float]] = {}
    for number, sandbox, seconds in steps:
        now += seconds
        name = f"host{number}.example"
        address = own.known(name, now) or own.take(name, str(sandbox), now)
        if address is not None:
            before, at = told.get(address, (name, now))
            assert before == name or now - at >= KEEP
            told[address] = name, now
        for known, (expected, at) in told.items():
            if now - at < KEEP:
                assert own._given[int(known)].name == expected
