"""`egress status`: what it prints of what the proxy tells. What the proxy tells: tests/server/test_reloading.py."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from egress.cli.main import app
from egress.server import control_client

if TYPE_CHECKING:
    from pathlib import Path


def scope(name: str, mode: str | None) -> dict[str, object]:
    """A scope as the proxy tells it."""
    return {"scope": name, "rules": 1, "default": "deny", "mode": mode}


def listener(kind: str, address: str, **more: str) -> dict[str, object]:
    """A listener as the proxy tells it."""
    return {"kind": kind, "address": address, "destination": None, "mode": None, **more}


def answer(*scopes: dict[str, object]) -> dict[str, object]:
    """What a proxy that is ready tells."""
    return {
        "ready": True,
        "reasons": [],
        "checks": {"hub": True},
        "policy": {
            "last_good": None,
            "problems": [],
            "generation": 1,
            "digest": "f" * 64,
            "loaded": 1_800_000_000.0,
            "watched": True,
            "scopes": list(scopes),
            "reporting": [scope["scope"] for scope in scopes if scope["mode"] == "report"],
            "sandboxes": None,
            "files": ["/etc/egress/policy.yaml"],
        },
        "listening": "127.0.0.1:3128",
        "listeners": [listener("proxy", "127.0.0.1:3128")],
        "version": "0.1.0",
        "uptime": 5.0,
        "reload": None,
        "processes": [],
        "connections": 0,
        "open": 0,
        "counters": {"since": None},
    }


REPORTING = (
    (("enforce", "enforce"), ""),
    ((None, None), ""),
    (("enforce", "report"), "REPORT MODE: what scope team would refuse PASSES, recorded as would-deny"),
    (("report", "report"), "REPORT MODE: what scope org and scope team would refuse PASSES, recorded as would-deny"),
)


@pytest.mark.parametrize(("modes", "line"), REPORTING)
def test_report_mode_is_said_first(
    modes: tuple[str | None, str | None], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks how the proxy is must not have to read the lines of its scopes to see that it refuses nothing."""
    told = answer(scope("org", modes[0]), scope("team", modes[1]))
    monkeypatch.setattr(control_client, "ask", lambda *_args, **_options: told)
    lines = CliRunner().invoke(app, ["status", "--state-dir", str(tmp_path)]).stdout.splitlines()
    assert lines[0] == "ready"
    assert [one for one in lines if "REPORT" in one] == ([line] if line else [])
    assert not line or lines[1] == line


def test_every_listener_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By kind, with the destination of a forward and the mode of the one for redirected connections."""
    listeners = [
        listener("proxy", "127.0.0.1:3128"),
        listener("forward", "127.0.0.1:5432", destination="db.example:5432"),
        listener("transparent", "127.0.0.1:3129", mode="redirect"),
        listener("identity", "127.0.0.1:8170"),
        listener("dns", "127.0.0.1:53"),
        listener("admin", "unix:/run/admin.sock"),
    ]
    told = answer() | {"listeners": listeners}
    monkeypatch.setattr(control_client, "ask", lambda *_args, **_options: told)
    lines = CliRunner().invoke(app, ["status", "--state-dir", str(tmp_path)]).stdout.splitlines()
    assert lines[2:7] == [
        "forward      127.0.0.1:5432 to db.example:5432",
        "transparent  127.0.0.1:3129, mode redirect",
        "identity     127.0.0.1:8170",
        "dns          127.0.0.1:53",
        "admin        unix:/run/admin.sock",
    ]
    told = json.loads(CliRunner().invoke(app, ["status", "--json", "--state-dir", str(tmp_path)]).stdout)
    assert told["listeners"] == listeners


READY = (
    ({}, 0, "ready\n"),
    ({"ready": False, "reasons": ["the hub is\x1b gone"]}, 1, "the hub is\\x1b gone\n"),
)


@pytest.mark.parametrize(("told", "code", "printed"), READY)
def test_a_probe_gets_one_word_or_the_reasons(
    told: dict[str, object],
    code: int,
    printed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By its exit status, and in words that a terminal may have."""
    monkeypatch.setattr(control_client, "ask", lambda *_args, **_options: {**answer(), **told})
    found = CliRunner().invoke(app, ["status", "--ready", "--state-dir", str(tmp_path)])
    assert (found.exit_code, found.stdout) == (code, printed)


def test_a_probe_may_have_it_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `/readyz` says, and no more."""
    monkeypatch.setattr(control_client, "ask", lambda *_args, **_options: answer())
    found = CliRunner().invoke(app, ["status", "--ready", "--json", "--state-dir", str(tmp_path)])
    assert json.loads(found.stdout) == {"ready": True, "checks": {"hub": True}, "reasons": []}
