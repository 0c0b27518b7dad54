"""`egress doctor` on the proxy's host: each finding occurs when there is a reason for it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from egress import __version__
from egress.certs import BUNDLE_NAME, Authority, write_bundle
from egress.cli.main import app
from egress.config import Limits, ServerConfig, ServerOverrides, load_server_config
from egress.confine import doctor_host
from egress.confine.doctor import Finding, State
from egress.confine.doctor_clients import CLIENTS, Clients
from egress.confine.doctor_host import Host
from egress.confine.doctor_kernel import checks as kernel_checks
from egress.confine.doctor_kernel import confining, network_rules, user_namespaces
from egress.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SCOPE = {"scope": "org", "mode": None}
TOLD: dict[str, Any] = {
    "ready": True,
    "reasons": [],
    "listening": "127.0.0.1:3128",
    "version": __version__,
    "pid": os.getpid(),
    "policy": {"generation": 3, "last_good": None, "files": [], "scopes": [SCOPE], "reporting": []},
}


@pytest.fixture
def config(tmp_path: Path) -> ServerConfig:
    """The configuration of a proxy that has a state folder."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    return load_server_config(None, ServerOverrides(state_dir=state), {})


@pytest.fixture
def telling(config: ServerConfig, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Host]:
    """A host whose proxy tells this; without anything, there is none."""

    def host(**told: object) -> Host:
        def ask(*_: object, **__: object) -> Mapping[str, Any]:
            if not told:
                raise StateError("no proxy runs", hint="start one")
            return {**TOLD, **told}

        monkeypatch.setattr(doctor_host, "ask", ask)
        return Host(config)

    return host


def test_a_proxy_that_runs_well(telling: Callable[..., Host]) -> None:
    """Each check of it is content."""
    host = telling(ready=True)
    looks = (host.proxy_running, host.proxy_ready, host.proxy_version, host.policy)
    assert [look().state for look in looks] == [State.OK] * 4


def test_no_proxy_is_one_problem(telling: Callable[..., Host]) -> None:
    """With what to do; what would be asked of it is skipped."""
    host = telling()
    assert host.proxy_running() == Finding(State.PROBLEM, "no proxy runs", "start one")
    looks = (host.proxy_ready, host.proxy_version, host.policy, host.proxy_privileges)
    assert [look().state for look in looks] == [State.SKIPPED] * 4


def test_what_the_proxy_tells_becomes_a_finding(telling: Callable[..., Host], tmp_path: Path) -> None:
    """Not ready, another version, no answer, the last good policy, files that are gone or open, and the report mode."""
    open_file = tmp_path / "policy.yaml"
    open_file.write_text("")
    open_file.chmod(0o666)
    policy = TOLD["policy"]
    cases = (
        ({"ready": False, "reasons": ["the audit cannot be written"]}, Host.proxy_ready, State.PROBLEM, "the audit"),
        ({"version": "0.0.1"}, Host.proxy_version, State.WARNING, "0.0.1 runs"),
        ({"policy": {**policy, "last_good": "kept"}}, Host.policy, State.PROBLEM, "kept"),
        ({"policy": {**policy, "files": ["/nowhere.yaml"]}}, Host.policy, State.WARNING, "/nowhere.yaml"),
        ({"policy": {**policy, "files": [str(open_file)]}}, Host.policy, State.PROBLEM, "everybody can write"),
        ({"policy": {**policy, "reporting": ["team"]}}, Host.policy, State.WARNING, "scope team"),
    )
    for told, look, state, words in cases:
        found = look(telling(**told))
        assert (found.state, words in found.told, bool(found.fix)) == (state, True, True), found


def test_a_proxy_with_powers_is_warned_of(telling: Callable[..., Host], monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel says of its process."""
    for uid, effective, state in ((0, 0, State.WARNING), (3128, 4096, State.WARNING), (3128, 0, State.OK)):
        text = f"Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{effective:016x}\n"
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_text", lambda _, text=text: text)
            assert telling(ready=True).proxy_privileges().state is state


def test_the_state_folder(config: ServerConfig) -> None:
    """Missing, open to others, with a part that is open or another's."""
    host = Host(config)
    assert host.state_folder().state is State.OK
    folder = config.state_dir
    folder.chmod(0o770)
    assert "chmod go-w" in host.state_folder().fix
    folder.chmod(0o700)
    (folder / "secrets.db").write_text("")
    (folder / "secrets.db").chmod(0o640)
    assert "chmod go-rwx" in host.state_folder().fix
    (folder / "secrets.db").chmod(0o600)
    os.chown(folder / "secrets.db", 3128, -1)
    assert "chown" in host.state_folder().fix
    shutil.rmtree(folder)
    assert host.state_folder().state is State.PROBLEM


def test_the_ca(config: ServerConfig) -> None:
    """None, a good one, one that ends soon."""
    assert Host(config).ca().state is State.PROBLEM
    authority = Authority.load_or_create(config.ca_dir)
    assert Host(config).ca().state is State.OK
    ends = authority.certificate.not_valid_after_utc - timedelta(days=3)
    assert Host(config, clock=ends.timestamp).ca().state is State.WARNING


def test_the_audit(config: ServerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not yet, damaged, another's, read-only, good."""
    path = config.audit.path
    assert Host(config).audit().state is State.SKIPPED
    path.write_text("this is no database, and never was one")
    assert Host(config).audit().state is State.PROBLEM
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE decisions (id TEXT)")
    database.close()
    assert Host(config).audit().state is State.OK
    os.chown(path, 3128, -1)
    assert "another user" in Host(config).audit().told
    os.chown(path, os.getuid(), -1)
    read_only = os.statvfs_result((4096, 4096, 1, 1, 1, 1, 1, 1, os.ST_RDONLY, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: read_only)
    assert "read-only" in Host(config).audit().told


@pytest.mark.parametrize(("free", "state"), [(10**10, State.OK), (5 * 10**8, State.WARNING), (10**7, State.PROBLEM)])
def test_disk_space(config: ServerConfig, monkeypatch: pytest.MonkeyPatch, free: int, state: State) -> None:
    """Little, and hardly any."""
    usage = shutil._ntuple_diskusage(2 * free, free, free)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert Host(config).disk_space().state is state


def test_open_files(config: ServerConfig, telling: Callable[..., Host]) -> None:
    """Two descriptors for each connection, of the proxy that runs, or of this process."""
    telling()
    many = replace(config, limits=replace(Limits(), connections=10**9))
    few = replace(config, limits=replace(Limits(), connections=1))
    assert [Host(each).open_files().state for each in (many, few)] == [State.WARNING, State.OK]


def test_the_clock(config: ServerConfig) -> None:
    """Behind what was written is wrong whatever the truth is."""
    assert Host(config).system_clock().state is State.NOTE
    config.audit.path.write_text("")
    assert Host(config).system_clock().state is State.OK
    early = datetime(2001, 1, 1, tzinfo=UTC).timestamp()
    assert Host(config, clock=lambda: early).system_clock().state is State.PROBLEM


# the kernel


def nft(folder: Path, answer: str, status: int) -> str:
    """A program that answers as `nft` would."""
    path = folder / "nft"
    path.write_text(f"#!/bin/sh\ncat <<'EOF'\n{answer}\nEOF\nexit {status}\n")
    path.chmod(0o755)
    return str(path)


RULES: tuple[tuple[str, int, bool, State], ...] = (
    ("table inet egress {\n chain out { type filter hook output priority 0; policy drop;\n }\n}", 0, True, State.OK),
    ("table inet egress {\n chain out {\n  reject with tcp reset\n }\n}", 0, False, State.OK),
    ("table inet egress {\n chain out { policy accept; }\n}", 0, False, State.PROBLEM),
    ("table inet egress {\n # drop\n}", 0, False, State.PROBLEM),
    ("", 1, False, State.NOTE),
    ("", 1, True, State.PROBLEM),
)


@pytest.mark.parametrize(("answer", "status", "gateway", "state"), RULES)
def test_network_rules(tmp_path: Path, answer: str, status: int, gateway: bool, state: State) -> None:  # noqa: FBT001
    """There, gone, or emptied; needed only where that was said."""
    assert network_rules(gateway=gateway, program=nft(tmp_path, answer, status), user=0).state is state


def test_only_root_can_look_at_the_rules(tmp_path: Path) -> None:
    """Anybody else is told so."""
    assert network_rules(gateway=True, program=nft(tmp_path, "", 0), user=1000).state is State.SKIPPED
    assert len(kernel_checks(gateway=False)) == 3


def test_namespaces_that_cannot_be_made_are_warned_of(tmp_path: Path) -> None:
    """With what the kernel said."""
    refusing = tmp_path / "python"
    refusing.write_text("#!/bin/sh\necho 'PermissionError: not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    found = user_namespaces(str(refusing))
    assert (found.state, "PermissionError" in found.told) == (State.WARNING, True)
    assert user_namespaces("/bin/true").state is State.OK


def test_a_machine_that_cannot_confine_is_warned_of(tmp_path: Path) -> None:
    """What failed is told; and so is a machine whose system calls are not known."""
    refusing = tmp_path / "python"
    refusing.write_text("#!/bin/sh\necho 'mount on /: Operation not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    found = confining(str(refusing), "x86_64")
    assert (found.state, "mount on /: Operation" in found.told) == (State.WARNING, True)
    assert confining("/bin/true", "x86_64").state is State.OK
    unknown = confining("/bin/true", "vax")
    assert (unknown.state, "vax" in unknown.told) == (State.WARNING, True)


def test_what_confines_is_tried_for_real() -> None:
    """The same as `egress exec` needs: where namespaces and mounts can be made, it says so."""
    possible = not subprocess.run(["unshare", "-nmpf", "true"], check=False, capture_output=True).returncode
    assert confining().state is (State.OK if possible else State.WARNING)


# clients


@pytest.fixture
def trusting(config: ServerConfig) -> Clients:
    """Clients that are given the bundle, and nothing else; Python is this one."""
    authority = Authority.load_or_create(config.ca_dir)
    write_bundle(config.state_dir / BUNDLE_NAME, authority.certificate_pem)
    programs = config.state_dir / "bin"
    programs.mkdir()
    (programs / "python3").symlink_to(sys.executable)
    env = {"PATH": os.environ["PATH"], "HOME": str(config.state_dir), "HTTPS_PROXY": "http://127.0.0.1:1"}
    return Clients(config.state_dir, config.ca_dir, env, f"{programs}:{os.environ['PATH']}")


def look(clients: Clients, name: str) -> Finding:
    """The finding on one client."""
    return {check.id: check.look for check in clients.checks()}[f"client-{name}"]()


@pytest.mark.parametrize("name", ["curl", "python", "git"])
def test_a_client_that_trusts_the_ca_is_known_by_its_request(trusting: Clients, name: str) -> None:
    """A real client, a real handshake, whatever proxy this shell names."""
    found = look(trusting, name)
    assert found.state is State.OK, found


@pytest.mark.parametrize("name", ["curl", "python", "git"])
def test_a_client_that_does_not_is_told_with_its_own_words(trusting: Clients, name: str) -> None:
    """The bundle has the public roots, and not this CA."""
    write_bundle(
        trusting.state_dir / BUNDLE_NAME, Authority.load_or_create(trusting.state_dir / "other").certificate_pem
    )
    found = look(trusting, name)
    assert (found.state, "certif" in found.told.lower()) == (State.WARNING, True), found
    assert found.fix


def test_without_a_bundle_a_ca_or_the_client_it_is_said(trusting: Clients, tmp_path: Path) -> None:
    """Each in its own way."""
    assert look(replace(trusting, path=str(tmp_path)), "curl").state is State.SKIPPED
    assert look(replace(trusting, ca_dir=tmp_path / "none"), "curl").state is State.SKIPPED
    (trusting.state_dir / BUNDLE_NAME).unlink()
    assert look(trusting, "curl").state is State.PROBLEM


def test_without_a_folder_for_temporary_files_nothing_is_claimed(
    trusting: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose root is read-only."""

    def none() -> str:
        raise FileNotFoundError("none")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert look(trusting, "curl").state is State.SKIPPED


def test_a_client_that_hangs_is_left(trusting: Clients, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It proves nothing."""
    monkeypatch.setattr("egress.confine.doctor_clients._SECONDS", 0.2)
    slow = tmp_path / "curl"
    slow.write_text("#!/bin/sh\nexec sleep 20\n")
    slow.chmod(0o755)
    began = time.monotonic()
    assert look(replace(trusting, path=f"{tmp_path}:{os.environ['PATH']}"), "curl").state is State.SKIPPED
    assert time.monotonic() - began < 10
    assert len(trusting.checks()) == len(CLIENTS)


def test_the_command_looks_at_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a proxy that is a problem, and says what to do."""
    monkeypatch.setattr(Clients, "checks", lambda _: [])
    result = CliRunner().invoke(app, ["doctor", "--state-dir", str(tmp_path / "none")])
    assert result.exit_code == 1
    assert "proxy-running" in result.output
    assert "start one with `egress run`" in result.output
