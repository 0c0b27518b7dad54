"""`egress run` behind an upstream proxy, as a process: what it says, what clients get, and where no password is."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rig.modes import HOST, RAW, TUNNELLED, policy
from rig.process import Process
from rig.proxy import LOOPBACK, SECRET, port_of
from rig.services import Services, bare_repository, repositories
from rig.upstream_proxies import PASSWORD, USER, UpstreamServer, speak_http, speak_socks
from station import LISTENS

import egress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.authority import TestAuthority
    from station import Station

NOWHERE = "198.51.100.7"
TREE = Path(egress.__file__).parents[1]
MAIN = "from egress.cli.main import main; main()"


@contextmanager
def behind(station: Station, server: UpstreamServer, *more: str, text: str = "") -> Iterator[Process]:
    """The proxy, whose names lead nowhere but through the server."""
    station.policy.write_text((text or policy(station.port)).replace(LOOPBACK, "addresses: [198.51.100.0/24]"))
    tls = "" if server.tls is None else "s"
    station.config.write_text(
        "limits: {drain_seconds: 3}\n"
        "upstream:\n"
        f"  ca: [{station.roots.ca_file}]\n"
        f"  proxy: {{url: 'http{tls}://127.0.0.1:{server.port}', user: {USER}, password: {{env: PROXY_PASSWORD}}}}\n"
        f"resolve: {{{', '.join(f'{name}: {NOWHERE}' for name in (HOST, TUNNELLED, RAW))}}}\n"
    )
    command = [sys.executable, "-c", MAIN, "run", "--policy", str(station.policy), "--listen", "127.0.0.1:0"]
    command += ["--state-dir", str(station.state), "--config", str(station.config), *more]
    env = {"CANARY": SECRET, "PROXY_PASSWORD": PASSWORD, "PYTHONPATH": str(TREE)}
    with Process(command, env=env, cwd=station.folder, listens=LISTENS) as process:
        station.address = process.address()
        yield process


def curl(station: Station, url: str, *more: str) -> subprocess.CompletedProcess[str]:
    """What curl prints."""
    proxy = "http://{}:{}".format(*station.address)
    trust = station.state / "ca-bundle.pem"
    command = ["curl", "-sS", "-w", "%{http_code}", "--max-time", "20", "--proxy", proxy, "--cacert", str(trust)]
    return subprocess.run([*command, *more, url], capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_curl_gets_through_it_in_every_lane(station: Station, roots: TestAuthority, tls: bool) -> None:  # noqa: FBT001
    """Inspected, plain and in a tunnel; with user and password; the banner and the status say where it goes."""
    context = roots.server_context("127.0.0.1") if tls else None
    target = ("127.0.0.1", port_of(station.origin))
    with UpstreamServer(speak_http, target, context, signed_in=True) as server, behind(station, server) as process:
        way = f"http{'s' if tls else ''}://127.0.0.1:{server.port}"
        process.says(f"way out +{way}")
        for url in (f"https://{HOST}", f"http://{HOST}"):
            assert curl(station, f"{url}:{station.port}/").stdout == "ok allowed200", url
        tunnelled = curl(station, f"https://{TUNNELLED}:{station.port}/")
        assert tunnelled.stdout == "ok allowed200"
        assert server.asked == [(NOWHERE, station.port)] * 3
        status = subprocess.run(
            [sys.executable, "-c", MAIN, "status", "--state-dir", str(station.state)],
            capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(TREE)}, timeout=30,
        )  # fmt: skip
        assert f"way out      {way}\n" in status.stdout
        assert PASSWORD not in status.stdout
    assert PASSWORD not in process.printed
    for path in station.state.rglob("*"):
        if path.is_file():
            assert PASSWORD.encode() not in path.read_bytes(), path


def test_a_wrong_password_is_told_to_the_client_and_not_shown(station: Station) -> None:
    """502 with the reason; neither the log nor the state has the password."""
    with UpstreamServer(speak_http, signed_in=True) as server, behind(station, server) as process:
        process.says("way out")
        server.behave = lambda _, client: client.sendall(b"HTTP/1.1 407 No\r\n\r\n")
        answer = curl(station, f"http://{HOST}:{station.port}/", "-i")
        assert answer.stdout.endswith("502")
        assert "upstream-unreachable" in answer.stdout
        assert "the upstream proxy did not accept who we are" in answer.stdout
    assert PASSWORD not in process.printed


def test_git_clones_and_pushes_through_it(station: Station, tmp_path: Path) -> None:
    """A real client over TLS, inspected: several requests, megabytes up, and back down."""
    bare_repository(tmp_path / "served", "app.git")
    rule = f"allow: '{HOST}:{station.port}', methods: [GET, POST], {LOOPBACK}"
    served = Services({HOST: repositories(tmp_path / "served")})
    target = ("127.0.0.1", station.port)
    with (
        UpstreamServer(speak_http, target, signed_in=True) as server,
        behind(station, server, text=f"version: 1\ntls: inspect\nrules: [{{{rule}}}]\n"),
        station.origin.behaving(served.behave),
    ):
        url = f"https://{HOST}:{station.port}/app.git"
        git(station, tmp_path, "clone", "-q", url, "work")
        (tmp_path / "work" / "noise.bin").write_bytes(os.urandom(3 << 20))
        for words in ("checkout -q -b main", "add .", "commit -q -m noise", "push -q origin main"):
            git(station, tmp_path / "work", *words.split())
        git(station, tmp_path, "clone", "-q", url, "again")
    noise = [(tmp_path / name / "noise.bin").read_bytes() for name in ("work", "again")]
    assert noise[0] == noise[1]
    assert set(server.asked) == {(NOWHERE, station.port)}


def git(station: Station, folder: Path, *words: str) -> None:
    """Run git through the proxy; it must succeed."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(station.folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSL_CAINFO": str(station.state / "ca-bundle.pem"),
        "https_proxy": "http://{}:{}".format(*station.address),
        **dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "x"),
        **dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "x@y.test"),
    }
    done = subprocess.run(["git", *words], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_start_without_the_password_is_refused(station: Station) -> None:
    """Before anything listens."""
    with UpstreamServer(speak_socks) as server, behind_unset(station, server) as process:
        assert process.ended() == 1
    assert "variable `PROXY_PASSWORD` is not set" in process.printed


@contextmanager
def behind_unset(station: Station, server: UpstreamServer) -> Iterator[Process]:
    """The proxy without its variable."""
    url = f"socks5://127.0.0.1:{server.port}"
    station.config.write_text(f"upstream: {{proxy: {{url: '{url}', user: me, password: {{env: PROXY_PASSWORD}}}}}}\n")
    command = [sys.executable, "-c", MAIN, "run", "--policy", str(station.policy), "--listen", "127.0.0.1:0"]
    command += ["--state-dir", str(station.state), "--config", str(station.config)]
    env = {"CANARY": SECRET, "PYTHONPATH": str(TREE)}
    with Process(command, env=env, cwd=station.folder, listens=LISTENS) as process:
        yield process
