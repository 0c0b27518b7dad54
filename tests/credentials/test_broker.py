"""The broker: one question at a time, ahead of the end, failures apart, nothing stale, nothing that hangs."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from broker_stage import EPOCH, Stage, run, settle, value, vault, wanted

from egress.config.secret_sources import EnvSource, FileSource, OAuth2Source, StoreSource
from egress.credentials import Secret
from egress.credentials.broker import RENEWED_AFTER
from egress.credentials.providers import Fetched
from egress.credentials.wanted import Failed, Held
from egress.errors import CredentialError

if TYPE_CHECKING:
    from egress.credentials.providers import Means

DOWN = CredentialError("secret `github`: vault.test cannot be reached", hint="look at it")


@dataclass(frozen=True)
class Record:
    """A record of the store."""

    value: Secret
    hosts: tuple[str, ...]
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


def test_a_hundred_who_wait_make_one_fetch() -> None:
    """Single flight: all get the value of the one question."""

    async def play() -> None:
        stage = Stage(value(), hold=True)
        waiting = [asyncio.ensure_future(stage.broker.get(wanted())) for _ in range(100)]
        await settle()
        assert stage.source.asked == 1
        stage.source.gate.set()
        answers = await asyncio.gather(*waiting)
        assert stage.source.asked == 1
        assert {answer.usable.secret.reveal() for answer in answers if isinstance(answer, Held)} == {"one"}
        assert len(answers) == 100

    run(play)


def test_one_who_gives_up_takes_nothing_from_the_others() -> None:
    """A request that is cut while it waits does not end the fetch."""

    async def play() -> None:
        stage = Stage(value(), hold=True)
        first, second = (asyncio.ensure_future(stage.broker.get(wanted())) for _ in range(2))
        await settle()
        first.cancel()
        await settle()
        stage.source.gate.set()
        assert isinstance(await second, Held)
        assert stage.source.asked == 1

    run(play)


def test_another_source_is_another_fetch() -> None:
    """The name alone does not make two sources one, as after a reload."""

    async def play() -> None:
        stage = Stage(value("one"), value("two"))
        assert await stage.text(wanted(source=vault("a"))) == "one"
        assert await stage.text(wanted(source=vault("b"))) == "two"
        assert stage.source.asked == 2

    run(play)


@pytest.mark.parametrize(("chosen", "after"), [(0.0, 75.0), (0.5, 82.5), (1.0, 90.0)])
def test_a_value_in_use_is_fetched_anew_ahead_of_its_end(chosen: float, after: float) -> None:
    """Not before the moment that chance gave, and then in the background: nobody waits for it."""

    async def play() -> None:
        stage = Stage(value("one", refresh_seconds=100), value("two", refresh_seconds=100))
        stage.chosen = chosen
        assert await stage.text() == "one"
        stage.clock.seconds = after - 0.5
        stage.broker.renew_due()
        await settle()
        assert stage.source.asked == 1
        stage.clock.seconds = after
        stage.broker.renew_due()
        await settle()
        assert stage.source.asked == 2
        assert await stage.text() == "two"

    run(play)


def test_the_moment_is_drawn_anew_each_time_and_within_bounds() -> None:
    """Many proxies that were started together do not ask together for ever."""

    async def play() -> None:
        stage = Stage(value(refresh_seconds=10))
        for _ in range(3):
            await stage.text()
            stage.clock.seconds += 11
        assert stage.chances == [RENEWED_AFTER] * 3
        assert 0.5 < RENEWED_AFTER[0] < RENEWED_AFTER[1] < 1

    run(play)


def test_a_value_that_nobody_used_is_left_to_end() -> None:
    """Within its last period nobody asked: the source is not asked either, and the value is dropped."""

    async def play() -> None:
        stage = Stage(value("one", refresh_seconds=10, expires=EPOCH + 1000))
        await stage.text()
        stage.clock.seconds = 20
        stage.broker.renew_due()
        await settle()
        assert stage.source.asked == 1
        stage.clock.seconds = 1000
        stage.broker.renew_due()
        assert not [secret.reveal() for secret in stage.broker.values()]

    run(play)


def test_a_value_past_its_moment_is_given_and_fetched_anew_behind() -> None:
    """Who asks then gets what is still valid at once."""

    async def play() -> None:
        stage = Stage(value("one", refresh_seconds=10, expires=EPOCH + 1000), value("two"))
        await stage.text()
        stage.clock.seconds = 500
        stage.source.gate.clear()
        answer = await stage.broker.get(wanted())
        assert isinstance(answer, Held)
        assert answer.usable.secret.reveal() == "one"
        await settle()
        assert stage.source.asked == 2
        stage.source.gate.set()
        await settle()
        assert await stage.text() == "two"

    run(play)


def test_a_stale_value_serves_while_it_is_valid_and_not_a_moment_longer() -> None:
    """The source is down: what it gave is used up to its end, less what a request takes on its way."""

    async def play() -> None:
        stage = Stage(value("one", expires=EPOCH + 100), DOWN)
        await stage.text()
        stage.clock.seconds = 89
        assert await stage.text() == "one"
        await settle()
        assert stage.source.asked == 2
        assert await stage.text() == "one"
        stage.clock.seconds = 91
        answer = await stage.broker.get(wanted())
        assert isinstance(answer, Failed)
        assert stage.broker.known(wanted()) is None

    run(play)


def test_a_clock_that_is_set_back_does_not_lengthen_a_life() -> None:
    """The end is worked out once, when the value comes; after that only time that passes counts."""

    async def play() -> None:
        stage = Stage(value("one", expires=EPOCH + 100), DOWN)
        await stage.text()
        stage.broker.services = type(stage.broker.services)(
            lambda: EPOCH - 10_000, stage.broker.services.call, stage.broker.services.stored
        )
        stage.clock.seconds = 101
        assert await stage.text() is None

    run(play)


def test_a_value_without_an_end_serves_for_the_brokers_own_period() -> None:
    """Then its source is asked again; with that down there is none."""

    async def play() -> None:
        stage = Stage(value("one"), DOWN, period_seconds=50)
        await stage.text()
        stage.clock.seconds = 49
        assert await stage.text() == "one"
        stage.clock.seconds = 50
        assert await stage.text() is None

    run(play)


def test_a_failure_is_remembered_and_the_source_left_alone_for_longer_each_time() -> None:
    """Each wait is about twice the one before, up to a limit; meanwhile the answer is the failure, at once."""

    async def play() -> None:
        stage = Stage(DOWN)
        stage.chosen = 1.0
        waits = []
        for asked in range(1, 9):
            answer = await stage.broker.get(wanted())
            assert isinstance(answer, Failed)
            assert stage.source.asked == asked
            waits.append(answer.retry_seconds)
            again = await stage.broker.get(wanted())
            assert isinstance(again, Failed)
            assert (again.message, again.hint) == (DOWN.message, DOWN.hint)
            assert stage.source.asked == asked
            stage.clock.seconds += answer.retry_seconds
        assert waits == pytest.approx([0.9, 1.8, 3.6, 7.2, 14.4, 27, 27, 27])

    run(play)


def test_a_success_ends_the_failures() -> None:
    """The next failure waits no longer than a first one."""

    async def play() -> None:
        stage = Stage(DOWN, DOWN, value("one", refresh_seconds=10), DOWN)
        for _ in range(3):
            await stage.broker.get(wanted())
            stage.clock.seconds += 5
        stage.clock.seconds += 20
        answer = await stage.broker.get(wanted())
        assert isinstance(answer, Failed)
        assert answer.retry_seconds < 1

    run(play)


def test_a_fetch_that_hangs_ends(caplog: pytest.LogCaptureFixture) -> None:
    """INVARIANT fail-closed: all who wait are told so, in time, and the next one asks again."""

    async def play() -> None:
        stage = Stage(None, value("late"), fetch_seconds=0.05)
        answers = await asyncio.gather(*[stage.broker.get(wanted()) for _ in range(5)])
        assert all(isinstance(answer, Failed) for answer in answers)
        await asyncio.sleep(0.05)
        await settle()
        stage.clock.seconds = 60
        assert await stage.text() == "late"

    run(play)
    assert "did not answer in 0.05 seconds" in caplog.text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (value("two lines\ncanary-value"), "holds a line break"),
        (value(""), "is empty"),
        (value("x" * 70_000), "is larger than 64 KiB"),
        (value("canary-value", expires=EPOCH - 1), "has expired"),
        (RuntimeError("canary-value"), "RuntimeError"),
    ],
)
def test_what_cannot_be_used_is_told_without_the_value(
    given: Fetched | Exception, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """INVARIANT secret-confinement: the log, the audit and the answer name the secret alone."""

    async def play() -> None:
        stage = Stage(given)
        answer = await stage.broker.get(wanted())
        assert isinstance(answer, Failed)
        assert "`github`" in answer.message
        assert told in answer.message
        assert "canary" not in f"{answer}{stage.notes}{caplog.text}"
        assert stage.notes == [("credential-fetch", "secret `github` (vault): failed")]

    run(play)


def test_each_fetch_is_noted_with_the_hosts_that_were_asked() -> None:
    """As the proxy's own: what for, from where, and whether it came."""

    async def play() -> None:
        async def ask(means: Means) -> None:
            await means.call("POST", "https://login.test/token?canary")
            await means.call("GET", "https://vault.test/v1")

        stage = Stage(value("canary-value"))
        stage.source.work = ask
        await stage.text()
        assert stage.notes == [("credential-fetch", "secret `github` (vault): fetched, asked login.test, vault.test")]

    run(play)


def test_a_failure_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Asked again and again, a source that stays down does not fill the log."""

    async def play() -> None:
        stage = Stage(DOWN)
        for _ in range(5):
            await stage.broker.get(wanted())
            stage.clock.seconds += 60

    with caplog.at_level(logging.WARNING):
        run(play)
    assert caplog.text.count("cannot be reached") == 1


def test_sources_are_bounded() -> None:
    """The one that nobody has asked for for longest gives way; where all are being fetched, one more is refused."""

    async def play() -> None:
        stage = Stage(value(), sources=2)
        for number in range(3):
            stage.clock.seconds = number
            await stage.text(wanted(source=vault(str(number))))
        assert stage.broker.known(wanted(source=vault("0"))) is None
        assert stage.broker.known(wanted(source=vault("2"))) is not None
        stage = Stage(value(), hold=True, sources=2)
        under_way = [asyncio.ensure_future(stage.broker.get(wanted(source=vault(str(each))))) for each in range(2)]
        await settle()
        assert isinstance(await stage.broker.get(wanted(source=vault("2"))), Failed)
        stage.source.gate.set()
        await asyncio.gather(*under_way)

    run(play)


def test_those_who_wait_are_bounded() -> None:
    """One more is told at once that there is no value."""

    async def play() -> None:
        stage = Stage(value(), hold=True, waiting=2)
        waiting = [asyncio.ensure_future(stage.broker.get(wanted())) for _ in range(2)]
        await settle()
        assert isinstance(await stage.broker.get(wanted()), Failed)
        stage.source.gate.set()
        assert all(isinstance(answer, Held) for answer in await asyncio.gather(*waiting))

    run(play)


def test_closing_ends_what_is_being_fetched() -> None:
    """Nothing goes on behind it."""

    async def play() -> None:
        stage = Stage(None, hold=True)
        waiting = asyncio.ensure_future(stage.broker.get(wanted()))
        await settle()
        await stage.broker.close()
        assert isinstance(await waiting, Failed)

    run(play)


# leaves


def oauth2(leaf: EnvSource | FileSource | StoreSource) -> OAuth2Source:
    """A source that signs in with what can be used once."""
    return OAuth2Source("https://login.test/token", "me", refresh_token=leaf)


def test_leaves_are_read_where_they_are(tmp_path: Path) -> None:
    """Variables as the asking process has them, files and our own store here; each fetch anew."""
    (tmp_path / "key").write_text("-----BEGIN KEY-----\nabc\n-----END KEY-----\n")
    found: list[str] = []
    leaves = (EnvSource("TOKEN"), FileSource(tmp_path / "key"), StoreSource("kept"))

    async def play() -> None:
        async def read(means: Means) -> None:
            found.extend(means.leaf(leaf).reveal() for leaf in leaves)

        stage = Stage(value())
        stage.source.work = read
        stage.records["kept"] = Record(Secret("kept", "from-store"), ("login.test",))
        await stage.text(wanted(TOKEN="from-env"))

    run(play)
    assert found == ["from-env", "-----BEGIN KEY-----\nabc\n-----END KEY-----", "from-store"]


@pytest.mark.parametrize("leaf", [EnvSource("TOKEN"), FileSource(Path("/nowhere/x")), StoreSource("no")])
def test_a_leaf_that_is_not_there_fails_the_fetch(leaf: EnvSource | FileSource | StoreSource) -> None:
    """With a sentence that names it."""

    async def play() -> None:
        async def read(means: Means) -> None:
            means.leaf(leaf)

        stage = Stage(value())
        stage.source.work = read
        answer = await stage.broker.get(wanted())
        assert isinstance(answer, Failed)
        assert any(name in answer.message for name in ("`TOKEN`", "/nowhere/x", "`no`"))

    run(play)


def test_what_a_source_gave_in_place_of_a_leaf_is_used_from_then_on(tmp_path: Path) -> None:
    """A refresh token serves once; a leaf that somebody has changed since is used as it is."""
    file = tmp_path / "token"
    file.write_text("first")
    source = oauth2(FileSource(file))
    used: list[str] = []

    async def play() -> None:
        async def read(means: Means) -> None:
            used.append(means.leaf(FileSource(file)).reveal())

        stage = Stage(
            Fetched(Secret("x", "a"), refresh_seconds=10, renewed=Secret("x", "second")),
            Fetched(Secret("x", "b"), refresh_seconds=10, renewed=Secret("x", "third")),
            value("c", refresh_seconds=10),
        )
        stage.source.work = read
        for _ in range(2):
            await stage.text(wanted(source=source))
            stage.clock.seconds += 60
        file.write_text("changed")
        await stage.text(wanted(source=source))

    run(play)
    assert used == ["first", "second", "changed"]


def test_what_was_renewed_is_handed_back_to_our_own_store() -> None:
    """So that it is there after a restart; also where the value beside it cannot be used."""

    async def play() -> None:
        async def read(means: Means) -> None:
            means.leaf(StoreSource("kept"))

        stage = Stage(Fetched(Secret("x", "bad\nvalue"), renewed=Secret("x", "second")))
        stage.source.work = read
        stage.records["kept"] = Record(Secret("kept", "first"), ("login.test",))
        assert await stage.text(wanted(source=oauth2(StoreSource("kept")))) is None
        assert stage.renewed == [("kept", "second")]

    run(play)


@pytest.mark.parametrize(
    ("hosts", "url", "sent"),
    [
        (("login.test",), "https://login.test/token", True),
        (("login.test",), "https://elsewhere.test/token", False),
        (("login.test",), "https://login.test:8443/token", False),
        (("login.test:8443",), "https://login.test:8443/token", True),
        ((), "https://login.test/token", False),
    ],
)
def test_a_stored_leaf_goes_only_where_it_is_bound(hosts: tuple[str, ...], url: str, sent: bool) -> None:  # noqa: FBT001
    """INVARIANT secret-confinement: who writes a definition cannot have a stored value sent to a host of his own."""

    async def play() -> None:
        async def ask(means: Means) -> None:
            means.leaf(StoreSource("kept"))
            await means.call("POST", url)

        stage = Stage(value())
        stage.source.work = ask
        stage.records["kept"] = Record(Secret("kept", "first"), hosts)
        answer = await stage.broker.get(wanted(source=oauth2(StoreSource("kept"))))
        assert isinstance(answer, Held if sent else Failed)
        assert bool(stage.calls) is sent

    run(play)


@pytest.mark.parametrize(
    ("hosts", "asked", "bound"),
    [
        ([("api.test",)], None, ("api.test",)),
        ([("api.test",), ("api.test",)], None, ("api.test",)),
        ([()], None, ()),
        ([("login.test",)], "https://login.test/token", None),
        ([("api.test",), ("elsewhere.test",)], None, "different hosts"),
        ([], None, None),
    ],
)
def test_what_is_made_of_stored_leaves_alone_is_bound_as_they_are(
    hosts: list[tuple[str, ...]], asked: str | None, bound: tuple[str, ...] | str | None
) -> None:
    """INVARIANT secret-confinement: such as AWS's keys; a token that a service gave for them is another value."""

    async def play() -> None:
        async def work(means: Means) -> None:
            for index in range(len(hosts)):
                means.leaf(StoreSource(f"kept-{index}"))
            if asked is not None:
                await means.call("POST", asked)

        stage = Stage(value())
        stage.source.work = work
        for index, each in enumerate(hosts):
            stage.records[f"kept-{index}"] = Record(Secret("kept", "first"), each)
        answer = await stage.broker.get(wanted())
        if isinstance(bound, str):
            assert isinstance(answer, Failed)
            assert bound in answer.message
        else:
            assert isinstance(answer, Held)
            binding = answer.usable.binding
            assert (None if binding is None else binding.hosts) == bound

    run(play)
