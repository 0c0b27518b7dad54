"""A request whose secret has to be fetched waits for it, carries it, and is refused where there is none in time."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from rig.ledger import wait_until
from rig.modes import HOST, Mode, Site, carried
from rig.proxy import LOOPBACK, SECRET, port_of

from egress.config import Limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.origins import Origins
    from rig.proxy import Proxy

OVER_TLS = carried("mode", (Mode.TLS1,), (Mode.TLS2,))
QUICK = Limits(audit_seconds=0.2, connect_seconds=2, resolve_seconds=1, secret_seconds=0.4)


@dataclass
class Vault:
    """A program that prints a value, as slowly as it is told, and leaves a mark each time that it is started."""

    folder: Path

    def program(self, text: str = SECRET, *, seconds: float = 0, status: int = 0) -> None:
        """What it does from now on."""
        path = self.folder / "fetch"
        lines = [
            "#!/bin/sh",
            f"echo x >> {self.folder}/asked",
            f"sleep {seconds}",
            f"printf %s '{text}'",
            f"exit {status}",
        ]
        # Renamed over: a program that is running cannot be written.
        (self.folder / "new").write_text("\n".join(lines))
        (self.folder / "new").chmod(0o700)
        (self.folder / "new").rename(path)

    @property
    def asked(self) -> int:
        """How often it was started."""
        marks = self.folder / "asked"
        return len(marks.read_text().splitlines()) if marks.exists() else 0


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """A program that prints the value at once."""
    folder = tmp_path / "vault"
    folder.mkdir()
    found = Vault(folder)
    found.program()
    return found


def policy(port: int, vault: Vault, more: str = "", hosts: str = "") -> str:
    """Allows the site over TLS with the secret; on /plain without."""
    return f"""
version: 1
secrets:
  canary: {{command: ["{vault.folder}/fetch"], hosts: ["{hosts or f"{HOST}:{port}"}"]{more}}}
rules:
  - {{allow: "{HOST}:{port}", paths: [/plain], {LOOPBACK}}}
  - {{allow: "{HOST}:{port}", inject: {{X-Api-Key: "Key ${{canary}}"}}, {LOOPBACK}}}
"""


@pytest.fixture
def made(start: Callable[..., Proxy], origin: Origins, vault: Vault) -> Callable[..., Site]:
    """Makes a proxy with that policy."""

    def make(more: str = "", **rest: object) -> Site:
        port = port_of(origin)
        return Site(start(policy(port, vault, more), HOST, **rest), origin, port)

    return make


@OVER_TLS
def test_a_request_waits_for_its_secret_and_carries_it(mode: Mode, made: Callable[..., Site], vault: Vault) -> None:
    """The first one waits, the next ones do not: one fetch. The row names the secret, and nothing holds its value."""
    vault.program(seconds=0.3)
    site = made()
    with site.serving(mode):
        for _ in range(3):
            assert site.exchange(mode).status == 200
    assert site.received.count(SECRET.encode()) == 3
    assert vault.asked == 1
    assert {row.secrets for row in site.proxy.ledger.wait(3)} == {("canary",)}
    assert SECRET not in repr(site.proxy.ledger.events)


@carried("mode", (Mode.TLS1,))
def test_requests_that_wait_together_wait_for_one_fetch(mode: Mode, made: Callable[..., Site], vault: Vault) -> None:
    """Whoever came first, all of them carry it."""
    vault.program(seconds=0.5)
    site = made()
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(site.exchange(mode).status)) for _ in range(8)]
    with site.serving(mode):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert statuses == [200] * 8
    assert vault.asked == 1


@OVER_TLS
@pytest.mark.parametrize(
    "broken",
    [{"status": 3}, {"text": ""}, {"text": "two\nlines"}, {"seconds": 5}],
    ids=["fails", "empty", "bad", "hangs"],
)
def test_a_request_whose_secret_cannot_be_had_is_refused(
    mode: Mode,
    broken: dict[str, float],
    made: Callable[..., Site],
    vault: Vault,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """INVARIANT fail-closed: in time, with its reason; nothing is sent, and what needs no secret goes on."""
    vault.program(**broken)  # type: ignore[arg-type]
    site = made(", timeout: 1s", limits=QUICK)
    started = time.monotonic()
    with site.serving(mode):
        reply = site.exchange(mode)
        assert time.monotonic() - started < 8
        assert (reply.status, reply.reason) == (503, "credential-unavailable")
        assert not site.received
        assert site.exchange(mode, "/plain").status == 200
    rows = site.proxy.ledger.wait(2)
    assert [(row.verdict, row.reason, row.secrets) for row in rows] == [
        ("deny", "credential-unavailable", ()),
        ("allow", "rule-allow", ()),
    ]
    wait_until(lambda: "secret `canary`" in caplog.text, "a warning")
    assert SECRET not in caplog.text + reply.whole.decode("latin-1")


@carried("mode", (Mode.TLS1,))
def test_a_new_value_is_used_without_a_restart(mode: Mode, made: Callable[..., Site], vault: Vault) -> None:
    """Once its time is over; a request is never sent with the old one after that."""
    vault.program("first-value")
    site = made(", keep: 1s")
    with site.serving(mode):
        assert site.exchange(mode).status == 200
        vault.program("second-value")
        time.sleep(1.1)
        assert site.exchange(mode).status == 200
    assert site.received.count(b"first-value") == 1
    assert site.received.count(b"second-value") == 1


@carried("mode", (Mode.TLS1,))
def test_a_value_that_cannot_be_renewed_is_not_used_after_its_time(
    mode: Mode, made: Callable[..., Site], vault: Vault
) -> None:
    """Stale is refused."""
    site = made(", keep: 1s")
    with site.serving(mode):
        assert site.exchange(mode).status == 200
        vault.program(status=1)
        time.sleep(1.1)
        assert site.exchange(mode).reason == "credential-unavailable"
    assert site.received.count(SECRET.encode()) == 1


@carried("mode", (Mode.TLS1,))
def test_a_secret_for_another_host_is_not_even_fetched(
    mode: Mode, start: Callable[..., Proxy], origin: Origins, vault: Vault
) -> None:
    """A sandbox cannot have fetched what its request may not carry: over http, or to a host that is not bound."""
    port = port_of(origin)
    text = policy(port, vault, hosts=f"{HOST}:1").replace(
        f'"{HOST}:{port}", inject', f'"{HOST}", ports: [1, {port}], inject'
    )
    site = Site(start(text, HOST), origin, port)
    with site.serving(mode):
        assert site.exchange(mode).status == 200
    assert SECRET.encode() not in site.received
    assert site.exchange(Mode.PLAIN).reason == "credential-insecure"
    assert vault.asked == 0


@carried("mode", (Mode.TLS1,))
def test_a_reload_asks_a_new_source(mode: Mode, made: Callable[..., Site], vault: Vault) -> None:
    """The same name with another definition is another value, at once; it is fetched before it is asked for."""
    site = made()
    with site.serving(mode):
        assert site.exchange(mode).status == 200
        other = policy(site.port, vault).replace(f'["{vault.folder}/fetch"]', "[echo, other-value]")
        site.proxy.reload(other)
        assert site.exchange(mode).status == 200
    assert b"other-value" in site.received
    assert site.received.count(SECRET.encode()) == 1


def test_a_program_gets_little_of_our_environment_and_leaves_nothing_behind(
    made: Callable[..., Site], vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is, who runs it and which language: no variable of ours that may hold a secret."""
    monkeypatch.setenv("CLOUD_TOKEN", "never-theirs")
    (vault.folder / "fetch").write_text(
        f"#!/bin/sh\nenv > {vault.folder}/env\nsleep 30 & echo $! > {vault.folder}/child\nwait"
    )
    (vault.folder / "fetch").chmod(0o700)
    site = made(", timeout: 1s", limits=QUICK)
    assert site.exchange(Mode.TLS1).reason == "credential-unavailable"
    child = int((vault.folder / "child").read_text())

    def gone() -> bool:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return True
        with open(f"/proc/{child}/stat") as stat:  # noqa: PTH123 - it may go while it is read
            return stat.read().rpartition(")")[2].split()[0] == "Z"

    wait_until(gone, "the program's child to be killed")
    assert "never-theirs" not in (vault.folder / "env").read_text()
