"""The rows of questions: the first at once, its repeats counted, and their sum is what was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.audit import OutcomeEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolving import Bench

RULES = 'rules: [{allow: "*.wild.example"}, {allow: api.example.com, annotate: {team: a}}]'


def counts(own: Bench) -> dict[tuple[str | None, str | None, str], list[int]]:
    """The counts of rows by name, type and verdict."""
    found: dict[tuple[str | None, str | None, str], list[int]] = {}
    for row in own.ledger.decisions:
        found.setdefault((row.host, row.method, row.verdict), []).append(row.count)
    return found


def test_repeats_within_a_minute_are_one_row(bench: Callable[..., Bench]) -> None:
    """By sandbox, name, type and verdict; a minute later the next is a row again."""

    async def play(own: Bench) -> None:
        for _ in range(5):
            await own.ask("api.example.com")
            await own.ask("API.example.com")
            await own.ask("api.example.com", "AAAA")
            await own.ask("evil.test")
        assert counts(own) == {
            ("api.example.com", "A", "allow"): [1],
            ("api.example.com", "AAAA", "allow"): [1],
            ("evil.test", "A", "deny"): [1],
        }
        own.clock.now += 60
        await own.ask("evil.test")
        assert counts(own) == {
            ("api.example.com", "A", "allow"): [1, 9],
            ("api.example.com", "AAAA", "allow"): [1, 4],
            ("evil.test", "A", "deny"): [1, 4, 1],
        }

    bench(RULES).run(play)


def test_a_count_speaks_of_one_policy(bench: Callable[..., Bench]) -> None:
    """What is asked again after a reload has a row of its own, by the policy that judged it."""

    async def play(own: Bench) -> None:
        for rules in (RULES, RULES.replace("team: a", "team: b")):
            own.gate.swap(own.generation(rules))
            for _ in range(3):
                await own.ask("api.example.com")

    made = bench(RULES)
    made.run(play)
    found = [(row.policy_hash, row.labels, row.count) for row in made.ledger.decisions]
    first, second = found[0][0], found[1][0]
    assert first != second
    assert found[:2] == [(first, '{"team": "a"}', 1), (second, '{"team": "b"}', 1)]
    assert sorted(found[2:]) == sorted([(first, '{"team": "a"}', 2), (second, '{"team": "b"}', 2)])


def test_a_row_tells_all(bench: Callable[..., Bench]) -> None:
    """Who asked, for what, by which rule, what was told; and nothing of it stays open."""

    async def play(own: Bench) -> None:
        await own.ask("api.example.com", "AAAA")
        (row,) = own.ledger.decisions
        assert (row.protocol, row.method, row.host, row.port, row.path) == (
            "dns",
            "AAAA",
            "api.example.com",
            53,
            None,
        )
        assert (row.verdict, row.line, row.labels) == ("allow", 2, '{"team": "a"}')
        assert row.address is not None
        assert row.address.startswith("fd65:")
        assert row.client == "10.8.1.2:40000"
        assert own.ledger.outcome(row).error is None

    bench(RULES).run(play)


def test_what_did_not_resolve_is_told_with_its_outcome(bench: Callable[..., Bench]) -> None:
    """The policy allowed it, and there was nothing."""

    async def play(own: Bench) -> None:
        await own.ask("nobody.wild.example")
        (row,) = own.ledger.decisions
        assert row.verdict == "allow"
        assert own.ledger.outcome(row).error == "name-not-resolved: the name does not exist"

    bench(RULES).run(play)


def test_what_is_left_is_recorded_at_the_end(bench: Callable[..., Bench]) -> None:
    """INVARIANT nothing-dropped-silently: the counts of all rows are the questions."""

    async def play(own: Bench) -> None:
        for number in range(30):
            for _ in range(3):
                await own.ask(f"host{number}.wild.example")

    made = bench(RULES)
    made.run(play)
    assert sum(row.count for row in made.ledger.decisions) == 90
    ended = {event.id for event in made.ledger.events if isinstance(event, OutcomeEvent)}
    assert ended == {row.id for row in made.ledger.decisions}


def test_a_flood_of_denied_names_is_counted_as_every_other(bench: Callable[..., Bench]) -> None:
    """Ever new names fill neither the disk nor our memory, and their sum stays right."""

    async def play(own: Bench) -> None:
        for number in range(2_300):
            await own.ask(f"no{number}.test")
        assert len(own.ledger.decisions) == 2_000
        assert own.gate.recorder.floods is not None
        own.gate.recorder.floods.close()

    made = bench(RULES)
    made.run(play)
    assert sum(row.count for row in made.ledger.decisions) == 2_300
    assert len(made.ledger.decisions) < 2_150


def test_repeats_that_cannot_be_recorded_stay_and_are_no_licence(bench: Callable[..., Bench]) -> None:
    """INVARIANT fail-closed: once its minute is over, a repeat needs a row of its own."""

    async def play(own: Bench) -> None:
        for _ in range(3):
            await own.ask("api.example.com")
        own.ledger.accepts = lambda _: False
        assert (await own.told("api.example.com")).startswith("NOERROR")
        own.clock.now += 60
        assert await own.told("api.example.com") == "SERVFAIL"
        own.ledger.accepts = lambda _: True
        assert (await own.told("api.example.com")).startswith("NOERROR")
        assert counts(own) == {("api.example.com", "A", "allow"): [1, 3, 1]}

    bench(RULES).run(play)
