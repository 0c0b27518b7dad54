"""Real clients of SOCKS5 and of forwards, and the examples of the guide, against a real `egress run` on loopback."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from documents import ROOT, blocks, prose
from harness.authority import TestAuthority
from harness.origins import Origins, answer_ok
from rig.process import Process
from rig.proxy import LOOPBACK, origin_on, port_of
from rig.wire import Wire

from egress.config import ServerOverrides, load_server_config
from egress.config.roads_model import TransparentModel
from egress.gate.build import load_generation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

GUIDE = ROOT / "docs" / "guides" / "roads.md"
NAME = "api.example.com"
TOKEN = "0123456789abcdef0123456789abcdef"


@dataclass
class Place:
    """A running proxy: its listener, its forward's, an origin behind it, and its folder."""

    listener: str
    forward: str
    origin: Origins
    folder: Path

    @property
    def ca(self) -> str:
        """Our CA."""
        return str(self.folder / "state" / "ca" / "ca.pem")

    def curl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run curl, which reads no settings of its user's."""
        command = ("curl", "-q", "-sS", "--cacert", self.ca, *words)
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "TOKEN": TOKEN}
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30, env=env)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One, whose policy allows the guide's host at the origin's port."""
    folder = tmp_path_factory.mktemp("clients")
    authority = TestAuthority(folder / "roots")
    origins = origin_on(authority)
    try:
        with _proxy(folder, authority, port_of(origins)) as process:
            forward = process.says(r"forward      (\S+) to raw.test")[1]
            yield Place("{}:{}".format(*process.address()), forward, origins, folder)
    finally:
        origins.close()


@contextmanager
def _proxy(folder: Path, authority: TestAuthority, port: int) -> Iterator[Process]:
    (folder / "state").mkdir(mode=0o700)
    (folder / "policy.yaml").write_text(
        "version: 1\nrules:\n"
        f'  - {{allow: "{NAME}:{port}", {LOOPBACK}}}\n'
        f'  - {{allow: ["raw.test:{port}", "127.0.0.1:{port}"], protocol: tcp, addresses: [127.0.0.0/8]}}\n'
    )
    (folder / "egress.yaml").write_text(
        f"listen: 127.0.0.1:0\nforwards: {{127.0.0.1:0: 'raw.test:{port}'}}\npolicy: [policy.yaml]\nstate_dir: state\n"
        f"limits: {{drain_seconds: 1}}\n"
        f"resolve: {{{NAME}: 127.0.0.1, raw.test: 127.0.0.1}}\nupstream: {{ca: [{authority.ca_file}]}}\n"
    )
    command = (sys.executable, "-c", "from egress.cli.main import main; main()", "run", "--config", "egress.yaml")
    env = {"PYTHONPATH": str(ROOT)}
    with Process(command, env=env, cwd=folder, listens=r"listening on http://(\S+):(\d+)") as process:
        process.address()
        yield process
        process.popen.terminate()
        assert process.ended() == 0
        assert "Traceback" not in process.printed


def test_curl_reads_the_codes_of_socks(place: Place) -> None:
    """Names by the proxy, addresses by itself; what is not allowed is told as that."""
    port = port_of(place.origin)
    with place.origin.behaving(answer_ok):
        names = place.curl("--socks5-hostname", place.listener, f"https://{NAME}:{port}/")
        assert names.returncode == 0, names.stderr
        resolved = place.curl(
            "--socks5", place.listener, "--resolve", f"raw.test:{port}:127.0.0.1", f"http://raw.test:{port}/"
        )
        assert resolved.returncode == 0, resolved.stderr
    for host in ("other.test", "[2001:db8::1]", "192.0.2.1"):
        refused = place.curl("--socks5-hostname", place.listener, f"https://{host}:{port}/")
        assert refused.returncode == 97, refused.stderr
        assert "(2)" in refused.stderr
    assert place.curl("--socks4", place.listener, f"https://192.0.2.1:{port}/").returncode == 97


def test_python_reaches_a_raw_server_through_a_forward(place: Place) -> None:
    """A plain socket, which knows of no proxy."""
    address, _, port = place.forward.rpartition(":")
    with place.origin.behaving(answer_ok), socket.create_connection((address, int(port)), 5) as client:
        assert Wire(client).send(b"GET / HTTP/1.1\r\nHost: raw.test\r\n\r\n").reply().status == 200


def test_the_guides_lines_with_curl_are_true(place: Place) -> None:
    """Each that goes through SOCKS, with the test's ports and files."""
    lines = [line for block in blocks(GUIDE, "sh") for line in block.text.splitlines() if "socks" in line]
    assert len(lines) == 2
    for line in lines:
        told = line.replace("127.0.0.1:3128", place.listener).replace(f"{NAME}/", f"{NAME}:{port_of(place.origin)}/")
        words = shlex.split(told.replace("--cacert ca.pem", ""))
        with place.origin.behaving(answer_ok):
            done = place.curl(*words[1:])
        assert done.returncode == 0, done.stderr


def test_the_guides_configuration_and_policy_load_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whole, without a warning, and each key of theirs is told of."""
    config, policy = [block.text for block in blocks(GUIDE, "yaml")]
    (tmp_path / "egress.yaml").write_text(f"state_dir: state\npolicy: [policy.yaml]\n{config}")
    (tmp_path / "policy.yaml").write_text(policy)
    (tmp_path / "state").mkdir(mode=0o700)
    server = load_server_config(tmp_path / "egress.yaml", ServerOverrides(), {})
    load_generation(server, {})
    assert caplog.messages == []
    assert (len(server.forwards), server.transparent is not None) == (3, True)
    assert {key for key in TransparentModel.model_fields if f"{key}:" not in config} == set()
    assert "`limits: head_seconds`" in prose(GUIDE)


def test_the_guides_rules_for_nftables_are_some() -> None:
    """Nft reads them; it only checks."""
    if os.geteuid() or shutil.which("nft") is None:
        pytest.skip("cannot run here: needs root and nft")
    (rules,) = [block.text for block in blocks(GUIDE, "nft")]
    assert re.search(r"redirect to :3129", rules)
    command = ["unshare", "--net", "nft", "--check", "--file", "-"]
    done = subprocess.run(command, input=rules, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
