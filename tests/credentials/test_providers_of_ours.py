"""Programs and the keyring as sources: what they give, and what is told of what they do not give."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from broker_stage import Stage, run, wanted

from egress.config.plain_sources import FETCHED
from egress.config.secret_sources import CommandSource, KeyringSource
from egress.credentials.providers import registry
from egress.credentials.providers.command import KEPT, fetch
from egress.credentials.wanted import Failed, Held
from egress.errors import CredentialError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from egress.config.secret_sources import FetchedSource

CANARY = "canary-Zm9vYmFy-4711"


def outcome(source: FetchedSource) -> str:
    """The value, or what is told."""
    found: list[Held | Failed] = []

    async def play() -> None:
        stage = Stage()
        stage.broker.provider = registry.provider_of
        found.append(await stage.broker.get(wanted(source=source)))

    run(play)
    (answer,) = found
    return answer.usable.secret.reveal() if isinstance(answer, Held) else answer.message


def command(*argv: str, seconds: float = 10.0) -> CommandSource:
    """A program."""
    return CommandSource(argv, seconds)


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        (("echo", CANARY), CANARY),
        (("printf", "%s\r\n", CANARY), CANARY),
        (("sh", "-c", f"echo {CANARY}; echo noise >&2"), CANARY),
        # No shell: what would be one's is an argument.
        (("echo", "$HOME", ";", "`id`"), "$HOME ; `id`"),
        (("head", "-c", "65536", "/dev/zero"), "holds a line break or another control character"),
        (("sh", "-c", "yes | head -c 70000"), "printed more than 64 KiB"),
        (("yes",), "printed more than 64 KiB"),
        (("true",), "printed nothing"),
        (("sh", "-c", f"echo {CANARY}; echo {CANARY} >&2; exit 7"), "ended with status 7"),
        (("sh", "-c", "kill -9 $$"), "ended with signal 9"),
        (("/nowhere/at/all",), "cannot be started: No such file or directory"),
        (("cat",), "printed nothing"),
        (("pwd",), "/"),
    ],
)
def test_a_program_gives_what_it_prints(argv: tuple[str, ...], value: str) -> None:
    """Without one final line break; else what happened, and nothing of what was printed."""
    told = outcome(command(*argv))
    assert told == value or told.endswith(value)
    if "`github`" in told:
        assert CANARY not in told


def test_a_program_that_hangs_is_killed(tmp_path: Path) -> None:
    """With what it started; the message says how to give it longer."""
    told = outcome(command("sh", "-c", f"sleep 60 & echo $! > {tmp_path}/child; wait", seconds=0.5))
    assert told == "secret `github`: command `sh` took longer than 0.5 seconds"
    child = int((tmp_path / "child").read_text())
    from pathlib import Path as Folder

    stat = Folder(f"/proc/{child}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in {"Z", "X"}


def test_what_a_program_leaves_behind_holds_nothing_of_ours_open() -> None:
    """A process that left the group and kept its output is waited for shortly, and no pipe stays."""

    async def play() -> None:
        source = command("sh", "-c", f"setsid sleep 8 & echo {CANARY}", seconds=0.2)
        counts = []
        for _ in range(3):
            with pytest.raises(CredentialError, match="took longer"):
                await fetch("github", source, Stage())  # type: ignore[arg-type]
            await asyncio.sleep(0.05)
            counts.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208 -- a folder that changes while it is read
        assert len(set(counts)) == 1

    run(play)


def test_a_program_gets_few_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are listed, where there are any."""
    monkeypatch.setenv("CLOUD_TOKEN", CANARY)
    monkeypatch.setenv("HOME", "/home/of-proxy")
    told = outcome(command("sh", "-c", "env | cut -d= -f1 | sort | tr '\\n' ' ' | sed 's/ $//'"))
    # A shell sets these itself.
    assert set(told.split()) - {"PWD", "OLDPWD", "SHLVL", "_"} <= KEPT
    assert "HOME" in told


# the keyring


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str, str], str | None]], None]:
    """Puts a library in the place of the optional one."""

    def install(get_password: Callable[[str, str], str | None]) -> None:
        module = ModuleType("keyring")
        module.get_password = get_password  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "keyring", module)

    return install


SOURCE = KeyringSource("service", "user")


def test_the_keyring_gives_its_entry(keyring: Callable[[Callable[[str, str], str | None]], None]) -> None:
    """Of that service and user."""
    keyring(lambda service, user: f"{service}-{user}-value")
    assert outcome(SOURCE) == "service-user-value"


def test_a_keyring_without_the_entry_or_that_fails_is_told(
    keyring: Callable[[Callable[[str, str], str | None]], None],
) -> None:
    """Without the library's own words, which may hold anything."""

    def broken(_service: str, _user: str) -> str:
        raise RuntimeError(CANARY)

    keyring(lambda _service, _user: None)
    assert outcome(SOURCE) == "secret `github`: the keyring's entry of `service` and `user` is not there"
    keyring(broken)
    assert outcome(SOURCE).endswith("cannot be read (RuntimeError)")


def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an optional part."""
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert outcome(SOURCE) == "secret `github`: `keyring` needs a library that is not installed"


def test_a_keyring_that_never_answers_holds_nothing_up(
    keyring: Callable[[Callable[[str, str], str | None]], None],
) -> None:
    """It may wait for a person: the fetch ends, and the next one is not piled on it."""
    asked = threading.Event()
    free = threading.Event()

    def hang(_service: str, _user: str) -> str:
        asked.set()
        free.wait(20)
        return CANARY

    async def play() -> None:
        stage = Stage(fetch_seconds=0.1)
        stage.broker.provider = registry.provider_of
        assert isinstance(await stage.broker.get(wanted(source=SOURCE)), Failed)
        await asyncio.sleep(0.1)
        assert asked.is_set()
        stage.clock.seconds = 60
        again = await stage.broker.get(wanted(source=SOURCE))
        assert isinstance(again, Failed)
        assert again.message.endswith("has not answered another question yet")
        free.set()
        await stage.broker.close()

    keyring(hang)
    try:
        run(play)
    finally:
        free.set()


def test_every_source_has_a_provider() -> None:
    """By the word of a policy file."""
    assert set(registry._MODULES) == set(FETCHED.values())
