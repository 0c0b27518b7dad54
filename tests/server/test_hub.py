"""The hub and a process at its other end: every accepted row is recorded once, every question ends, whatever dies."""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from joined import Kill, Names, Process, config_in, decision, hub_in, outcome, rows, until

from egress.audit import DecisionEvent, NoteEvent
from egress.audit.database import open_for_writing
from egress.config import Durability
from egress.gate.resolver import Answer
from egress.server.channel import Word

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    import pytest

    from egress.config import ServerConfig
    from egress.server.hub import Hub

HERE = (ip_address("192.0.2.1"),)


def run(work: Callable[[], Awaitable[None]]) -> None:
    """Run on a loop of its own."""

    async def bounded() -> None:
        async with asyncio.timeout(30):
            await work()

    asyncio.run(bounded())


def strict_in(folder: Path) -> ServerConfig:
    """A configuration under which a flush would come too late for every test."""
    config = config_in(folder, flush_interval=30)
    return replace(config, audit=replace(config.audit, durability=Durability.STRICT))


async def joined(process: Process, hub: Hub) -> None:
    """Join them, and wait until the hub has said whether it can record."""
    process.join(hub)
    await until(lambda: not process.sink._problem, "a hub that records")


# the audit


def test_rows_are_recorded_in_their_order(tmp_path: Path) -> None:
    """Decisions and outcomes, with their values; the process learns that they are in the database."""

    async def play() -> None:
        config = config_in(tmp_path)
        hub, process = hub_in(config), Process(config)
        await joined(process, hub)
        for number in range(50):
            assert process.sink.offer(decision(number, host="naïve.test", secrets=("a", "b")))
            assert process.sink.offer(outcome(number))
        assert await process.sink.flush(5)
        process.link.close()
        assert await hub.close()
        assert rows(config, "SELECT id, host, secrets, status FROM requests ORDER BY seq") == [
            (f"id-{number:06d}", "naïve.test", '["a", "b"]', 200) for number in range(50)
        ]
        first_uses = ["a for sandbox default, in id-000000", "b for sandbox default, in id-000000"]
        assert rows(config, "SELECT kind, detail FROM events") == [("secret-first-use", told) for told in first_uses]

    run(play)


def test_a_process_without_a_hub_refuses_decisions_and_keeps_outcomes(tmp_path: Path) -> None:
    """What was accepted before must be able to end on record; it is there once there is a hub again."""

    async def play() -> None:
        config = config_in(tmp_path)
        process = Process(config)
        assert not process.sink.offer(decision(0))
        hub = hub_in(config)
        await joined(process, hub)
        assert process.sink.offer(decision(1))
        process.link.close()
        assert not process.sink.offer(decision(2))
        assert process.sink.offer(outcome(1))
        await joined(process, hub)
        assert process.sink.offer(decision(3))
        assert await process.sink.flush(5)
        process.link.close()
        assert await hub.close()
        assert rows(config, "SELECT id, state FROM requests") == [("id-000001", "done"), ("id-000003", "open")]
        (gap,) = rows(config, "SELECT kind, detail FROM events")
        assert gap[0] == "gap"
        assert str(gap[1]).endswith(": 2 decisions")

    run(play)


def test_nothing_is_recorded_twice_and_nothing_is_lost_when_the_hub_is_killed(tmp_path: Path) -> None:
    """Killed again and again under load: each accepted row is there once, and no row that was refused."""

    async def play() -> None:
        config = config_in(tmp_path, flush_interval=0.01)
        process, accepted = Process(config, window=1000), []
        for life in range(8):
            hub = hub_in(config)
            process.join(hub)
            for number in range(life * 200, life * 200 + 200):
                if process.sink.offer(decision(number)):
                    accepted.append(f"id-{number:06d}")
                    assert process.sink.offer(outcome(number))
                if not number % 3:
                    await asyncio.sleep(0.001)
            if life < 7:
                Kill(hub)
                await asyncio.sleep(0)
        assert len(accepted) > 800
        assert await process.sink.flush(5)
        process.link.close()
        assert await hub.close()
        assert rows(config, "SELECT id FROM decisions ORDER BY id") == [(name,) for name in accepted]
        assert rows(config, "SELECT count(*) FROM outcomes") == [(len(accepted),)]
        assert rows(config, "SELECT count(*) FROM events WHERE kind = 'duplicate-id'") == [(0,)]

    run(play)


def test_a_database_that_cannot_be_written_refuses_at_once_and_loses_nothing(tmp_path: Path) -> None:
    """Told as soon as the hub knows; outcomes are still taken; afterwards everything accepted is there, and a gap."""

    async def play() -> None:
        config = config_in(tmp_path)
        hub, process = hub_in(config), Process(config)
        await joined(process, hub)
        blocker = open_for_writing(config.audit.path)
        blocker.execute("BEGIN IMMEDIATE")
        assert process.sink.offer(decision(0))
        await until(lambda: process.sink._problem, "the problem")
        assert not process.sink.offer(decision(1))
        assert process.sink.offer(outcome(0))
        late = Process(config)
        late.join(hub, "worker 2")
        await asyncio.sleep(0.05)
        assert not late.sink.offer(decision(2))
        blocker.execute("ROLLBACK")
        blocker.close()
        await until(lambda: not process.sink._problem and not late.sink._problem, "recovery")
        assert process.sink.offer(decision(3))
        assert await process.sink.flush(5)
        for one in (process, late):
            one.link.close()
        assert await hub.close()
        assert rows(config, "SELECT id, state FROM requests") == [("id-000000", "done"), ("id-000003", "open")]
        gaps = rows(config, "SELECT detail FROM events WHERE kind = 'gap'")
        assert sum(int(str(detail).rsplit(" ", 2)[1]) for (detail,) in gaps) == 2

    run(play)


def test_what_waits_is_bounded(tmp_path: Path) -> None:
    """At the limit decisions are refused; outcomes have room for twice as many; then they are refused too."""

    async def play() -> None:
        config = config_in(tmp_path, flush_interval=10)
        hub, process = hub_in(config), Process(config, window=10)
        await joined(process, hub)
        assert [process.sink.offer(decision(number)) for number in range(12)] == [True] * 10 + [False] * 2
        assert [process.sink.offer(outcome(number)) for number in range(22)] == [True] * 20 + [False] * 2
        process.link.close()
        assert await hub.close()

    run(play)


def test_what_is_recorded_makes_room(tmp_path: Path) -> None:
    """The limit is on what waits, not on what was ever offered."""

    async def play() -> None:
        config = config_in(tmp_path)
        hub, process = hub_in(config), Process(config, window=10)
        await joined(process, hub)
        for turn in range(3):
            assert all(process.sink.offer(decision(turn * 10 + number)) for number in range(10))
            assert all(process.sink.offer(outcome(turn * 10 + number)) for number in range(10))
            assert await process.sink.flush(5)
        process.link.close()
        assert await hub.close()

    run(play)


def test_rows_of_any_size_arrive(tmp_path: Path) -> None:
    """The longest texts that an event may hold fit in a message; a row that would not is refused, not lost."""

    async def play() -> None:
        config = config_in(tmp_path)
        hub, process = hub_in(config), Process(config)
        await joined(process, hub)
        wide = "\N{GRINNING FACE}" * 5000
        texts = {each.name for each in fields(DecisionEvent)} - {"time_us", "line", "port", "secrets", "count"}
        assert process.sink.offer(decision(0, **dict.fromkeys(texts, wide)))
        assert not process.sink.offer(decision(1, secrets=tuple(f"{number:0128d}" for number in range(1000))))
        assert process.sink.offer(decision(2))
        assert await process.sink.flush(5)
        process.link.close()
        assert await hub.close()
        assert rows(config, "SELECT count(*) FROM decisions") == [(2,)]

    run(play)


def test_a_hub_that_hangs_lets_nothing_pass_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not say that it has recorded: after a while decisions are refused, and taken again once it goes on."""
    monkeypatch.setattr("egress.server.rows._HANGS_SECONDS", 0.05)

    async def play() -> None:
        config = config_in(tmp_path)
        hub, process = hub_in(config), Process(config)
        await joined(process, hub)
        look, hub._look = hub._look, lambda: None  # type: ignore[method-assign]
        assert process.sink.offer(decision(0))
        await asyncio.sleep(0.2)
        assert not process.sink.offer(decision(1))
        hub._look = look  # type: ignore[method-assign]
        hub._look()
        await until(lambda: process.sink.offer(decision(2)), "room")
        process.link.close()
        assert await hub.close()

    run(play)


def test_the_last_words_of_a_process_are_recorded(tmp_path: Path) -> None:
    """A process that dies right after it sent its rows: they are in the channel, and so in the audit."""

    async def play() -> None:
        config = config_in(tmp_path)
        hub, process = hub_in(config), Process(config)
        await joined(process, hub)
        assert process.sink.offer(decision(0))
        process.sink._send()
        process.link.close()
        assert await hub.close()
        assert rows(config, "SELECT id FROM decisions") == [("id-000000",)]

    run(play)


def test_a_line_that_breaks_between_two_that_live_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that the hub cannot act on ends the line, not the hub; nothing else would ever join them again."""
    monkeypatch.setattr("egress.server.link._ASK_SECONDS", 0.02)

    async def play() -> None:
        config = config_in(tmp_path)
        hub, process, other = hub_in(config), Process(config), Process(config)
        await joined(process, hub)
        await joined(other, hub)
        line = process.link._line
        assert line is not None
        line.say(Word.READY, 0)
        await until(lambda: process.asked > 1, "its asking")
        assert not process.sink.offer(decision(0))
        assert other.sink.offer(decision(1))
        assert other.asked == 0
        process.join(hub)
        await until(lambda: process.sink.offer(decision(2)), "a hub")
        asked = process.asked
        await asyncio.sleep(0.1)
        assert process.asked <= asked + 1
        for one in (process, other):
            assert await one.sink.flush(5)
            one.link.close()
        assert await hub.close()
        assert rows(config, "SELECT count(*) FROM decisions") == [(2,)]

    run(play)


# names


def test_a_name_is_asked_for_once_and_kept_for_its_time(tmp_path: Path) -> None:
    """Whoever waits, one question; then none while the answer lives; then one again."""

    async def play() -> None:
        config, names = config_in(tmp_path), Names(lambda _: Answer(HERE, ttl=0.3))
        hub, process = hub_in(config, names), Process(config)
        await joined(process, hub)
        assert process.names.known("a.test") is None
        answers = await asyncio.gather(*(process.names.resolve("a.test") for _ in range(20)))
        assert {answer.addresses for answer in answers} == {HERE}
        known = process.names.known("a.test")
        assert known is not None
        assert known.addresses == HERE
        assert names.asked == ["a.test"]
        await asyncio.sleep(0.1)
        # What is told of it elsewhere must not live for longer than it does here.
        assert (await process.names.resolve("a.test")).ttl < known.ttl - 0.05
        await asyncio.sleep(0.25)
        assert process.names.known("a.test") is None
        await process.names.resolve("a.test")
        assert names.asked == ["a.test", "a.test"]
        process.link.close()
        await hub.close()

    run(play)


def test_names_are_told_apart_by_the_servers_of_their_policy(tmp_path: Path) -> None:
    """On the way to the hub, there, and in what is remembered here."""
    servers = (("192.0.2.53", 53),)

    async def play() -> None:
        config, names = config_in(tmp_path), Names(lambda _: Answer(HERE, ttl=60.0))
        hub, process = hub_in(config, names), Process(config)
        await joined(process, hub)
        await process.names.resolve("a.test", servers)
        assert process.names.known("a.test") is None
        assert process.names.known("a.test", servers) is not None
        await asyncio.gather(process.names.resolve("a.test"), process.names.resolve("a.test", servers))
        assert (names.asked, names.servers) == (["a.test", "a.test"], [servers, ()])
        process.link.close()
        await hub.close()

    run(play)


def test_a_pin_needs_no_hub(tmp_path: Path) -> None:
    """Its addresses are known without waiting."""

    async def play() -> None:
        process = Process(config_in(tmp_path), pins={"pinned.test": HERE})
        known = process.names.known("pinned.test")
        assert known is not None
        assert known.addresses == (await process.names.resolve("pinned.test")).addresses == HERE

    run(play)


def test_a_failure_is_told(tmp_path: Path) -> None:
    """Why there is no address, in the hub's words; also where the resolver itself fails."""

    def answer(name: str) -> Answer:
        if name == "broken.test":
            raise RuntimeError(name)
        return Answer((), "the name does not exist", ttl=1.0)

    async def play() -> None:
        config = config_in(tmp_path)
        hub, process = hub_in(config, Names(answer)), Process(config)
        await joined(process, hub)
        assert (await process.names.resolve("gone.test")).error == "the name does not exist"
        assert (await process.names.resolve("broken.test")).error == "the resolver failed"
        process.link.close()
        await hub.close()

    run(play)


def test_every_question_ends(tmp_path: Path) -> None:
    """No hub, a hub that hangs, a hub that dies while it is asked: an error each, in bounded time."""

    async def play() -> None:
        config = config_in(tmp_path)
        process = Process(config, name_seconds=0.1)
        assert (await process.names.resolve("a.test")).error
        hub = hub_in(config, Names(lambda _: None))
        await joined(process, hub)
        assert "in time" in (await process.names.resolve("a.test")).error
        patient = Process(config, name_seconds=60)
        patient.join(hub)
        question = asyncio.ensure_future(patient.names.resolve("b.test"))
        await asyncio.sleep(0.01)
        Kill(hub)
        assert (await asyncio.wait_for(question, 5)).error

    run(play)


def test_what_is_remembered_is_bounded(tmp_path: Path) -> None:
    """A sandbox that asks for ever new names of a wildcard displaces others."""

    async def play() -> None:
        process = Process(config_in(tmp_path))
        for number in range(5000):
            process.names.answered((f"n{number}.test", ()), ["192.0.2.1"], "", 60.0)
        assert process.names.known("n4999.test")
        assert process.names.known("n0.test") is None
        assert len(process.names._cache) == 4096

    run(play)


def test_the_hub_answers_so_many_questions_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused at once."""
    monkeypatch.setattr("egress.server.hub._LOOKUPS_AT_MOST", 3)

    async def play() -> None:
        config = config_in(tmp_path)
        hub, process = hub_in(config, Names(lambda _: None)), Process(config, name_seconds=1)
        await joined(process, hub)
        waiting = [asyncio.ensure_future(process.names.resolve(f"n{number}.test")) for number in range(3)]
        await asyncio.sleep(0.02)
        assert "too many" in (await process.names.resolve("one-more.test")).error
        await asyncio.gather(*waiting)
        process.link.close()
        await hub.close()

    run(play)


# leases


def test_units_of_a_process_that_dies_are_free_again(tmp_path: Path) -> None:
    """All of the limit in one process; it dies; another has it."""

    async def play() -> None:
        config = config_in(tmp_path, connections=10)
        hub, one, other = hub_in(config), Process(config), Process(config)
        await joined(one, hub)
        other.join(hub, "worker 2")
        assert [await one.slots.take() for _ in range(11)] == [True] * 10 + [False]
        assert not await other.slots.take()
        one.link.close()
        await until(lambda: hub.pools.free("connections") == 10, "what was held")
        assert await other.slots.take()
        other.link.close()
        await hub.close()

    run(play)


def test_a_new_hub_learns_what_is_held(tmp_path: Path) -> None:
    """The limit holds across the death of the hub."""

    async def play() -> None:
        config = config_in(tmp_path, connections=10)
        hub, process = hub_in(config), Process(config)
        await joined(process, hub)
        assert [await process.slots.take() for _ in range(8)] == [True] * 8
        Kill(hub)
        hub = hub_in(config)
        await joined(process, hub)
        assert [await process.slots.take() for _ in range(3)] == [True, True, False]
        process.link.close()
        await hub.close()

    run(play)


# strict durability


def test_a_decision_is_on_the_disk_before_its_request_goes_on(tmp_path: Path) -> None:
    """However long the flush interval is; who waits at the same time, in two processes, waits for few commits."""

    async def play() -> None:
        config = strict_in(tmp_path)
        hub, one, two = hub_in(config), Process(config, window=500), Process(config, window=500)
        await joined(one, hub)
        two.join(hub, "worker 2")
        await until(lambda: not two.sink._problem, "a hub that records")

        async def ask(process: Process, number: int) -> None:
            assert process.sink.offer(decision(number))
            assert await process.sink.commit(10)
            assert rows(config, f"SELECT id FROM decisions WHERE id = 'id-{number:06d}'")  # noqa: S608

        await asyncio.gather(*(ask((one, two)[number % 2], number) for number in range(100)))
        ((batches,),) = rows(config, "SELECT count(*) FROM batches")
        assert isinstance(batches, int)
        assert batches < 30
        assert await one.sink.commit(1), "nothing is left to wait for"
        for process in (one, two):
            process.link.close()
        assert await hub.close()

    run(play)


def test_without_a_hub_a_commit_ends_in_time_and_is_false(tmp_path: Path) -> None:
    """Also where the hub goes while somebody waits; the next hub records the row."""

    async def play() -> None:
        config = strict_in(tmp_path)
        hub, process = hub_in(config), Process(config)
        await joined(process, hub)
        assert process.sink.offer(decision(1))
        process.link.close()
        assert not await process.sink.commit(0.05)
        await joined(process, hub)
        assert await process.sink.commit(10)
        process.link.close()
        assert await hub.close()
        assert rows(config, "SELECT id FROM decisions") == [("id-000001",)]

    run(play)


def test_outcomes_hurry_nobody(tmp_path: Path) -> None:
    """No request waits for them, so they wait for the flush, and cost no commit of their own."""

    async def play() -> None:
        config = strict_in(tmp_path)
        hub, process = hub_in(config), Process(config)
        await joined(process, hub)
        assert process.sink.offer(outcome(1))
        assert not await process.sink.commit(0.1)
        process.link.close()
        assert await hub.close()

    run(play)


def test_what_a_process_notes_is_an_event(tmp_path: Path) -> None:
    """As what the supervisor notes."""

    async def play() -> None:
        config = config_in(tmp_path)
        hub, process = hub_in(config), Process(config)
        await joined(process, hub)
        assert process.sink.offer(NoteEvent(id="n", time_us=1, kind="cut", detail="2 connections cut"))
        assert await process.sink.flush(5)
        process.link.close()
        assert await hub.close()
        assert rows(config, "SELECT id, kind, detail FROM events") == [("n", "cut", "2 connections cut")]

    run(play)
