"""Sandboxes that are registered while the proxy runs: its processes and commands as real processes."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING

from rig.ledger import wait_until
from rig.modes import HOST
from rig.process import BIN

if TYPE_CHECKING:
    from rig.wire import Reply
    from station import Station

PATIENCE = 15.0


def egress(station: Station, *words: str) -> str:
    """Standard output of a command about this station's proxy, which must succeed."""
    done = subprocess.run(
        [str(BIN / "egress"), "sandbox", *words, "--state-dir", str(station.state)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=station.folder,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def added(station: Station, name: str, *words: str) -> str:
    """The field that a client of a new sandbox sends."""
    token = json.loads(egress(station, "add", name, "--json", *words))["token"]
    return f"Proxy-Authorization: Basic {base64.b64encode(f'{name}:{token}'.encode()).decode()}"


def ask(station: Station, *fields: str, method: str = "GET") -> Reply:
    """A plain request with these fields, on a connection of its own."""
    target = f"http://{HOST}:{station.port}/"
    rows = [f"{method} {target} HTTP/1.1", f"Host: {HOST}:{station.port}", *fields, "", ""]
    with station.wire() as wire:
        return wire.send("\r\n".join(rows).encode()).reply(method)


def test_a_sandbox_is_known_from_add_to_rm_in_every_process(station: Station) -> None:
    """And nobody else any more; its connection is cut as it goes."""
    with station.running("--workers", "2"):
        assert ask(station).status == 200
        field = added(station, "ci-7")
        for _ in range(8):
            assert (ask(station, field).status, ask(station).status) == (200, 407)
        (own,) = json.loads(egress(station, "list", "--json"))["sandboxes"]
        assert (own["name"], own["registered"], own["ttl"]) == ("ci-7", True, None)
        with station.wire() as wire:
            head = f"CONNECT {HOST}:{station.port} HTTP/1.1\r\nHost: {HOST}:{station.port}\r\n{field}\r\n\r\n"
            assert wire.send(head.encode()).reply("CONNECT").status == 200
            assert egress(station, "rm", "ci-7") == "removed ci-7; 1 connection cut\n"
            assert wire.rest() == b""
        for _ in range(8):
            assert {ask(station, field).reason, ask(station).reason} == {"sandbox-unknown"}


def test_a_sessions_policy_narrows_and_its_time_ends(station: Station) -> None:
    """By itself, in every process."""
    (station.folder / "session.yaml").write_text(
        "version: 1\ndefault: deny\nrules:\n  - {allow: '**', methods: [GET]}\n"
    )
    with station.running():
        other = added(station, "other")
        field = added(station, "ci-7", "--policy", "session.yaml", "--ttl", "6s")
        assert ask(station, field).reason in {None, "address-not-public", "port-not-allowed"}
        assert ask(station, field, method="DELETE").status == 403
        wait_until(
            lambda: ask(station, field).status in {403, 407} and "ci-7" not in listed(station), "the end", PATIENCE
        )
        assert ask(station, field).status == 407
        assert ask(station, other).status == 200


def listed(station: Station) -> list[str]:
    """The names of all sandboxes."""
    return [own["name"] for own in json.loads(egress(station, "list", "--json"))["sandboxes"]]


def test_a_restart_and_a_reload_keep_who_is_registered(station: Station) -> None:
    """Also with files that do not load any more, which keep nobody from being removed."""
    with station.running() as process:
        field = added(station, "ci-7", "--ttl", "1h")
        process.popen.send_signal(signal.SIGHUP)
        assert ask(station, field).status == 200
        process.popen.send_signal(signal.SIGTERM)
        process.ended()
    with station.running():
        assert (ask(station, field).status, ask(station).status) == (200, 407)
        station.policy.write_text("version: 1\nrules: [")
        assert ask(station, added(station, "late")).status == 200
        egress(station, "rm", "ci-7")
        assert ask(station, field).status == 407
        assert listed(station) == ["late"]
