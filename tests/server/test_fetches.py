"""Secrets' values from the hub: one fetch for all processes, every question ends, nothing is used beyond its time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from joined import Kill, Process, config_in, hub_in, rows, until

from egress.config.plain_sources import from_plain, to_plain
from egress.config.secret_sources import (
    AwsSource,
    AzureIdentity,
    AzureSource,
    CommandSource,
    EnvSource,
    FileSource,
    GithubAppSource,
    GoogleSource,
    KeyringSource,
    OAuth2Source,
    StoreSource,
    VaultAppRole,
    VaultKubernetes,
    VaultSource,
    VaultToken,
)
from egress.credentials import Secret
from egress.credentials.binding import Binding
from egress.credentials.providers import Fetched
from egress.credentials.wanted import Wanted
from egress.errors import CredentialError
from egress.policy import Host, parse_host

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from egress.config.secret_sources import FetchedSource
    from egress.credentials.providers import Means
    from egress.server.hub import Hub

CANARY = "canary-0123456789-never-seen"
SOURCE = VaultSource("https://vault.test", "app", VaultToken(EnvSource("VAULT_TOKEN")))


def run(work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run on a loop of its own."""

    async def bounded() -> None:
        async with asyncio.timeout(30):
            await work()

    asyncio.run(bounded())


def wanted(source: FetchedSource = SOURCE, **leaves: str) -> Wanted:
    """The secret that is asked for."""
    return Wanted("github", source, {name: Secret(name, value) for name, value in leaves.items()})


@dataclass
class Source:
    """In place of every provider: gives what it is told to; None never comes."""

    gives: Fetched | Exception | None = field(default_factory=lambda: Fetched(Secret("x", CANARY)))
    asked: list[object] = field(default_factory=list)

    async def fetch(self, name: str, source: object, means: Means) -> Fetched:
        """What it was told to give."""
        del name
        token = means.leaf(EnvSource("VAULT_TOKEN")).reveal() if source == SOURCE else None
        self.asked.append((source, token))
        await asyncio.sleep(0.02)
        if self.gives is None:
            await asyncio.Event().wait()
        if isinstance(self.gives, Exception):
            raise self.gives
        assert self.gives is not None
        return self.gives


def fetching(hub: Hub, source: Source) -> Hub:
    """The hub, with that in place of its providers."""
    hub.fetches.broker.provider = lambda _: source.fetch
    return hub


def text(process: Process, one: Wanted) -> str | None:
    """What the process has."""
    usable = process.secrets.known(one)
    return None if usable is None else usable.secret.reveal()


@pytest.mark.parametrize(
    "source",
    [
        StoreSource("kept"),
        CommandSource(("op", "read"), 5.0, 60.0),
        KeyringSource("service", "user"),
        SOURCE,
        VaultSource("https://v.test", "a", VaultAppRole("id", StoreSource("x"), "mount"), field="f", namespace="n"),
        VaultSource("https://v.test", "a", VaultKubernetes("role")),
        AzureSource(AzureIdentity(), resource="https://storage.azure.com"),
        OAuth2Source("https://t.test", "me", EnvSource("A"), scopes=("a", "b"), body_auth=True, extra=(("k", "v"),)),
        GithubAppSource("1", "2", EnvSource("KEY"), ("repo",), (("contents", "read"),)),
        GoogleSource(key=EnvSource("KEY")),
        AwsSource("AKIA", EnvSource("KEY"), duration_seconds=900),
    ],
    ids=lambda source: type(source).__name__,
)
def test_every_source_travels_and_stays_what_it_is(source: FetchedSource) -> None:
    """As plain values, which a message may hold."""
    import marshal

    assert from_plain(marshal.loads(marshal.dumps(to_plain(source)))) == source  # noqa: S302 - written here


def test_nothing_else_is_made_from_a_message() -> None:
    """A name that is no source's, too many fields, a value that is none."""
    for plain in (
        (),
        ("Path", "/etc"),
        ("StoreSource", "a", "b"),
        ("StoreSource", b"x"),
        ("StoreSource", ("exec", "x")),
    ):
        with pytest.raises(ValueError, match=r"source|plain"):
            from_plain(plain)


def test_many_processes_wait_for_one_fetch(tmp_path: Path) -> None:
    """All get the value, with what the asking process alone knew; the audit has one event, and no value."""

    async def play() -> None:
        config, source = config_in(tmp_path), Source()
        hub = fetching(hub_in(config), source)
        processes = [Process(config) for _ in range(3)]
        for process in processes:
            process.join(hub)
        one = wanted(VAULT_TOKEN="from-env")
        await asyncio.gather(*(process.secrets.fetch(one) for process in processes for _ in range(20)))
        assert [text(process, one) for process in processes] == [CANARY] * 3
        assert source.asked == [(SOURCE, "from-env")]
        assert {secret.reveal() for secret in hub.fetches.values()} == {CANARY, "from-env"}
        assert [secret.reveal() for secret in processes[0].secrets.values()] == [CANARY]
        for process in processes:
            process.link.close()
        assert await hub.close()
        assert rows(config, "SELECT kind, detail FROM events") == [
            ("credential-fetch", "secret `github` (vault): fetched")
        ]

    run(play)
    for file in tmp_path.iterdir():
        assert CANARY.encode() not in file.read_bytes()


def test_what_is_expected_is_fetched_before_it_is_asked_for(tmp_path: Path) -> None:
    """At the start, and once there is a hub again."""

    async def play() -> None:
        config, source = config_in(tmp_path), Source()
        process, one = Process(config), wanted(VAULT_TOKEN="t")
        process.secrets.expect([one])
        hub = fetching(hub_in(config), source)
        process.join(hub)
        await until(lambda: text(process, one) == CANARY, "the value")
        process.secrets.expect([])
        assert text(process, one) is None
        process.link.close()
        await hub.close()

    run(play)


def test_with_the_hub_gone_what_is_valid_goes_on_and_then_ends(tmp_path: Path) -> None:
    """A request that waits when the hub dies is told at once; a value serves up to its time, and not longer."""

    async def play() -> None:
        config = config_in(tmp_path)
        source = Source(Fetched(Secret("x", CANARY), refresh_seconds=0.6))
        hub, process = fetching(hub_in(config), source), Process(config)
        process.join(hub)
        one, other = wanted(VAULT_TOKEN="t"), wanted(StoreSource("other"))
        await process.secrets.fetch(one)
        source.gives = None
        waiting = asyncio.ensure_future(process.secrets.fetch(other))
        await until(lambda: len(source.asked) > 1, "the question")
        Kill(hub)
        await waiting
        assert text(process, other) is None
        assert text(process, one) == CANARY
        await process.secrets.fetch(other)
        await until(lambda: text(process, one) is None, "its end")
        await process.secrets.fetch(one)
        assert text(process, one) is None
        process.link.close()
        await hub.fetches.close()

    run(play)


def test_a_value_that_has_ended_is_dropped_though_nobody_asks(tmp_path: Path) -> None:
    """It stays in the memory of no process."""

    async def play() -> None:
        config = config_in(tmp_path)
        hub, process = (
            fetching(hub_in(config), Source(Fetched(Secret("x", CANARY), refresh_seconds=0.3))),
            Process(config),
        )
        process.join(hub)
        await process.secrets.fetch(wanted(VAULT_TOKEN="t"))
        assert list(process.secrets.values())
        await until(lambda: not list(process.secrets.values()), "the value to be dropped")
        await until(lambda: {secret.name for secret in hub.fetches.values()} == {"VAULT_TOKEN"}, "the hub's too")
        process.link.close()
        await hub.close()

    run(play)


def test_a_hub_that_hangs_is_not_waited_for_for_long(tmp_path: Path) -> None:
    """INVARIANT fail-closed: the question ends without a value."""

    async def play() -> None:
        config = config_in(tmp_path)
        hub, process = fetching(hub_in(config), Source(None)), Process(config, secret_seconds=0.05)
        process.join(hub)
        await process.secrets.fetch(wanted(VAULT_TOKEN="t"))
        assert text(process, wanted()) is None
        process.link.close()
        await hub.close()

    run(play)


def test_a_new_value_reaches_every_process(tmp_path: Path) -> None:
    """Each asks again when the hub said, and drops the old value then at the latest."""

    async def play() -> None:
        config = config_in(tmp_path)
        source = Source(Fetched(Secret("x", "first-value"), refresh_seconds=1.2))
        hub = fetching(hub_in(config), source)
        processes = [Process(config) for _ in range(2)]
        one = wanted(VAULT_TOKEN="t")
        for process in processes:
            process.join(hub)
            await process.secrets.fetch(one)
        source.gives = Fetched(Secret("x", "second-value"))
        seen: set[str | None] = set()
        while seen != {"second-value"}:
            await asyncio.gather(*(process.secrets.fetch(one) for process in processes))
            seen = {text(process, one) for process in processes}
            assert seen <= {"first-value", "second-value"}
            await asyncio.sleep(0.01)
        for process in processes:
            process.link.close()
        assert len(source.asked) == 2
        await hub.close()

    run(play)


def test_a_failure_is_told_and_not_asked_for_again_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Requests that come meanwhile are refused here; the warning is the hub's, once, without a value."""

    async def play() -> None:
        config = config_in(tmp_path)
        source = Source(CredentialError("secret `github`: vault.test refuses us", hint="look at it"))
        hub, process = fetching(hub_in(config), source), Process(config)
        process.join(hub)
        for _ in range(5):
            await process.secrets.fetch(wanted(VAULT_TOKEN=CANARY))
        assert text(process, wanted()) is None
        assert len(source.asked) == 1
        process.link.close()
        await hub.close()

    run(play)
    assert caplog.text.count("secret `github`: vault.test refuses us; look at it") == 1
    assert CANARY not in caplog.text


def test_what_is_larger_than_a_message_is_refused(tmp_path: Path) -> None:
    """On the way there and back: nothing is cut, and the line stays."""

    async def play() -> None:
        config = config_in(tmp_path)
        huge = tuple(f"host-{number}.test" for number in range(10_000))
        source = Source(Fetched(Secret("x", CANARY), binding=Binding(huge)))
        hub, process = fetching(hub_in(config), source), Process(config)
        process.join(hub)
        await process.secrets.fetch(wanted(VAULT_TOKEN="x" * 100_000))
        assert source.asked == []
        await process.secrets.fetch(wanted(VAULT_TOKEN="t"))
        assert len(source.asked) == 1
        assert text(process, wanted()) is None
        source.gives = Fetched(Secret("x", "y" * 65_536))
        other = wanted(StoreSource("other"))
        await process.secrets.fetch(other)
        assert text(process, other) == "y" * 65_536
        process.link.close()
        await hub.close()

    run(play)


@pytest.mark.parametrize(
    ("request_of", "held"),
    [
        (("api.test", 443, "GET", "/repos/a"), True),
        (("api.test", 443, "DELETE", "/repos/a"), False),
        (("api.test", 443, "GET", "/other"), False),
        (("api.test", 443, "GET", "/repos/../other"), False),
        (("api.test", 443, None, None), False),
        (("api.test", 8443, "GET", "/repos/a"), False),
        (("elsewhere.test", 443, "GET", "/repos/a"), False),
    ],
)
def test_a_binding_travels_with_its_value(tmp_path: Path, request_of: tuple[Any, ...], held: bool) -> None:  # noqa: FBT001
    """Hosts, methods and paths, as our own store has them."""

    async def play() -> None:
        config = config_in(tmp_path)
        source = Source(Fetched(Secret("x", CANARY), binding=Binding(("api.test",), ("GET",), ("/repos/**",))))
        hub, process = fetching(hub_in(config), source), Process(config)
        process.join(hub)
        one = wanted(StoreSource("kept"))
        await process.secrets.fetch(one)
        usable = process.secrets.known(one)
        assert usable is not None
        assert usable.binding is not None
        host, port, method, path = request_of
        named = parse_host(host)
        assert isinstance(named, Host)
        assert usable.binding.holds(named, port, method, path) is held
        process.link.close()
        await hub.close()

    run(play)


def test_files_stay_where_the_hub_reads_them() -> None:
    """A path is sent, not what is behind it."""
    from pathlib import Path

    assert wanted(GithubAppSource("1", "2", FileSource(Path("/run/key")))).leaves == {}
