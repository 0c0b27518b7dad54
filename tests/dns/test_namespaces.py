"""From inside a sandbox's network namespace, with dig: what is denied sends nothing to any name server."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rig.ledger import wait_until
from rig.process import Process

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
GATEWAY, SANDBOX = "dns-gateway", "dns-sandbox"
HERE, THERE = "10.77.53.1", "10.77.53.2"
RECORDS = {
    "api.example.com A": ["93.184.216.34"],
    "txt.example.com A": ["93.184.216.35"],
    "txt.example.com TXT": ['"told"'],
    "evil.test A": ["93.184.216.36"],
    "evil.test TXT": ['"secret"'],
}
POLICY = """version: 1
rules:
  - allow: api.example.com
  - {allow: txt.example.com, protocol: [https, dns]}
"""


def ip(*words: str) -> None:
    """Run one command of iproute2."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


def clear() -> None:
    """Remove what a test left behind, or an earlier run."""
    for name in (GATEWAY, SANDBOX):
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


class World:
    """Two namespaces with one link, an upstream behind the proxy, and the proxy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        (folder / "policy.yaml").write_text(POLICY)

    def command(self, port: int, *more: str) -> list[str]:
        """The proxy, which knows the sandbox by its address."""
        config = self.folder / "egress.yaml"
        config.write_text(
            f"dns: {{listen: '{HERE}:53', servers: ['127.0.0.1:{port}']}}\nsandboxes: {{agent: {{source: {THERE}}}}}\n"
        )
        start = "from egress.cli.main import main; main()"
        return [
            *("ip", "netns", "exec", GATEWAY, sys.executable, "-c", start, "run", "--policy"),
            *(str(self.folder / "policy.yaml"), "--config", str(config), "--state-dir", str(self.state)),
            *("--listen", f"{HERE}:3128", *more),
        ]

    def running(self, port: int, *more: str) -> Process:
        """The proxy as a process."""
        env = {"PYTHONPATH": str(ROOT)}
        return Process(
            self.command(port, *more), env=env, cwd=self.folder, listens=r"listening on http://([\d.]+):(\d+)"
        )

    def upstream(self) -> subprocess.Popen[str]:
        """The name server, in the proxy's namespace."""
        script = str(Path(__file__).parent / "upstream_process.py")
        return subprocess.Popen(
            ["ip", "netns", "exec", GATEWAY, sys.executable, script, json.dumps(RECORDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def dig(self, *words: str) -> str:
        """What dig prints, from inside the sandbox."""
        command = ["ip", "netns", "exec", SANDBOX, "dig", f"@{HERE}", "+tries=2", "+timeout=5", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The namespaces, linked."""
    if os.geteuid() or not all(map(shutil.which, ("ip", "dig"))):
        pytest.skip("cannot run here: needs root, ip and dig")
    clear()
    try:
        ip("netns", "add", GATEWAY)
        ip("netns", "add", SANDBOX)
        ip("link", "add", "dns-gw0", "netns", GATEWAY, "type", "veth", "peer", "name", "dns-sb0", "netns", SANDBOX)
        for name, link, address in ((GATEWAY, "dns-gw0", HERE), (SANDBOX, "dns-sb0", THERE)):
            ip("-n", name, "address", "add", f"{address}/30", "dev", link)
            ip("-n", name, "link", "set", link, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield World(tmp_path)
    finally:
        clear()


def status(printed: str) -> str:
    """The code of an answer that dig printed."""
    found = re.search(r"status: (\w+)", printed)
    assert found is not None, printed
    return found[1]


def test_dig_from_inside_a_sandbox(world: World) -> None:
    """Names that are allowed stand for one address each, over restarts; of all others no question leaves."""
    with world.upstream() as upstream:
        assert upstream.stdout is not None
        port = int(upstream.stdout.readline())
        with world.running(port, "--workers", "2") as process:
            process.address()
            assert process.says(rf"dns +{HERE}:53 ")
            address = world.dig("+short", "api.example.com").strip()
            assert address.startswith("198.1")
            assert world.dig("+short", "+tcp", "api.example.com").strip() == address
            assert world.dig("+short", "-x", address).strip() == "api.example.com."
            assert world.dig("+short", "TXT", "txt.example.com").strip() == '"told"'
            assert status(world.dig("HTTPS", "api.example.com")) == "NOERROR"
            for kind in ("A", "AAAA", "TXT", "MX", "HTTPS", "NS", "SOA"):
                denied = world.dig(kind, "evil.test")
                assert (status(denied), "EDE: 15 (Blocked)" in denied) == ("NXDOMAIN", True)
            for kind in ("TXT", "ANY", "NULL"):
                assert status(world.dig("+notcp", kind, "api.example.com")) == "REFUSED"
            assert status(world.dig("use-application-dns.net")) == "NXDOMAIN"
            assert status(world.dig("TXT", "data.data.evil.test")) == "NXDOMAIN"
            process.popen.terminate()
            assert process.ended() == 0
        with world.running(port) as process:
            process.address()
            assert world.dig("+short", "api.example.com").strip() == address
            (world.folder / "policy.yaml").write_text(POLICY.replace("api.example.com", "other.example.com"))
            wait_until(lambda: status(world.dig("api.example.com")) == "NXDOMAIN", "the reload", 15)
            process.popen.terminate()
            assert process.ended() == 0
        asked, _ = upstream.communicate("")
    names = {name for name, _, _ in json.loads(asked)}
    assert names == {"api.example.com.", "txt.example.com."}
    assert {(name, kind) for name, kind, _ in json.loads(asked) if kind not in {"A", "AAAA"}} == {
        ("txt.example.com.", "TXT")
    }
    database = sqlite3.connect(f"file:{world.state / 'audit.db'}?mode=ro", uri=True)
    try:
        rows = database.execute("SELECT DISTINCT sandbox, protocol, verdict FROM decisions ORDER BY verdict").fetchall()
        (total,) = database.execute("SELECT sum(count) FROM decisions WHERE host = 'evil.test'").fetchone()
    finally:
        database.close()
    assert rows == [("agent", "dns", "allow"), ("agent", "dns", "deny")]
    assert total == 7
