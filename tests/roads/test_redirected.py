"""Connections that the kernel redirects: REDIRECT and TPROXY, IPv4 and IPv6, to a real `egress run --transparent`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import ssl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness.authority import TestAuthority
from harness.origins import Origins, answer_ok
from rig.ledger import wait_until
from rig.process import Process
from rig.wire import Wire
from roads.network import (
    BELIEVED4,
    BELIEVED6,
    GATEWAY4,
    GATEWAY6,
    OUTSIDE4,
    OUTSIDE6,
    PORT,
    REDIRECT,
    SERVER4,
    SERVER6,
    TPROXY,
    Network,
    UnableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.origins import Stream

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
DATABASE = 5432
POLICY = f"""
version: 1
rules:
  - {{name: the site, allow: site.test, protocol: [http, https]}}
  - {{name: the database, allow: ["{SERVER4}:{DATABASE}", "[{SERVER6}]:{DATABASE}"], protocol: tcp}}
"""
BELIEVED = [pytest.param(BELIEVED4, id="IPv4"), pytest.param(BELIEVED6, id="IPv6")]


@dataclass
class Roads:
    """A network, the server in it, and the proxy at its gateway."""

    network: Network
    origins: Origins
    folder: Path

    @property
    def ca(self) -> Path:
        """Our CA."""
        return self.folder / "state" / "ca" / "ca.pem"

    def connect(self, address: str, port: int) -> Wire:
        """A client, on its way there."""
        return Wire(self.network.client.connect(address, port))

    def rows(self) -> list[dict[str, object]]:
        """The audit's rows, newest first."""
        with contextlib.closing(sqlite3.connect(f"file:{self.folder}/state/audit.db?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute("SELECT * FROM requests ORDER BY seq DESC")]

    def expect(self, **expected: object) -> None:
        """The newest row, as soon as it says this."""

        def told() -> bool:
            rows = self.rows()
            return bool(rows) and {key: rows[0][key] for key in expected} == expected

        wait_until(told, f"{expected} in {json.dumps(self.rows()[:2], default=str)}", 8)


@pytest.fixture(scope="module", params=["redirect", "tproxy"])
def roads(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roads]:
    """Everything, for each way of redirecting."""
    folder = tmp_path_factory.mktemp("roads")
    authority = TestAuthority(folder / "roots")
    try:
        network = Network(REDIRECT if request.param == "redirect" else TPROXY)
    except UnableError as error:
        pytest.skip(f"cannot run here: {error}")
    with network:
        origins = Origins(
            network.server,  # type: ignore[arg-type] -- it has the one method that is used
            authority,
            allowed=frozenset({SERVER4, SERVER6}),
            addresses=(SERVER4, SERVER6),
            ports=(80, 443, DATABASE),
        )
        try:
            with _proxy(network, folder, request.param, authority):
                yield Roads(network, origins, folder)
        finally:
            origins.close()


@contextlib.contextmanager
def _proxy(network: Network, folder: Path, mode: str, authority: TestAuthority) -> Iterator[Process]:
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "state").mkdir(mode=0o700)
    listens = f'["0.0.0.0:{PORT}", "[::]:{PORT}"]'
    (folder / "egress.yaml").write_text(
        f"listen: 127.0.0.1:0\ntransparent: {{listen: {listens}, mode: {mode}}}\n"
        "limits: {head_seconds: 2, drain_seconds: 1}\n"
        f"audit: {{flush_interval: 0.02}}\nresolve: {{site.test: [{SERVER4}, '{SERVER6}']}}\n"
        f"upstream: {{ca: [{authority.ca_file}]}}\npolicy: [policy.yaml]\nstate_dir: state\n"
    )
    start = (sys.executable, "-c", "from egress.cli.main import main; main()")
    command = network.gateway.command(*start, "run", "--config", str(folder / "egress.yaml"))
    with Process(
        command, env={"PYTHONPATH": str(ROOT)}, cwd=folder, listens=r"listening on http://(\S+):(\d+)"
    ) as process:
        process.says(rf"transparent  0\.0\.0\.0:{PORT}\n[\s\S]*transparent  \[::\]:{PORT}")
        yield process
        process.popen.terminate()
        assert process.ended() == 0
        assert "Traceback" not in process.printed


@pytest.mark.parametrize("address", BELIEVED)
def test_plain_http_is_carried_to_the_host_that_it_names(roads: Roads, address: str) -> None:
    """Wherever its client believes that to be."""
    with roads.origins.behaving(answer_ok), roads.connect(address, 80) as wire:
        assert wire.send(b"GET / HTTP/1.1\r\nHost: site.test\r\n\r\n").reply().status == 200
    roads.expect(verdict="allow", host="site.test", port=80, lane="http", address=SERVER4)


@pytest.mark.parametrize("address", BELIEVED)
def test_tls_is_opened_for_the_name_of_its_hello(roads: Roads, address: str) -> None:
    """Judged inside, and made anew towards the server."""
    context = ssl.create_default_context(cafile=roads.ca)
    with roads.origins.behaving(answer_ok), roads.connect(address, 443) as wire:
        inside = Wire(context.wrap_socket(wire.carrier, server_hostname="site.test"))
        with inside:
            assert inside.send(b"GET /x HTTP/1.1\r\nHost: site.test\r\n\r\n").reply().status == 200
    roads.expect(verdict="allow", host="site.test", port=443, sni="site.test", lane="http")


@pytest.mark.parametrize("address", [SERVER4, SERVER6], ids=["IPv4", "IPv6"])
def test_raw_tcp_goes_to_the_original_address(roads: Roads, address: str) -> None:
    """By a rule for it, before its client has said anything."""

    def echo(stream: Stream) -> None:
        while data := stream.receive():
            stream.send(data)

    with roads.origins.behaving(echo), roads.connect(address, DATABASE) as wire:
        assert wire.send(b"ping").exactly(4) == b"ping"
    roads.expect(verdict="allow", host=address, port=DATABASE, lane="tunnel", protocol="tcp")


@pytest.mark.parametrize("address", BELIEVED)
def test_what_no_rule_allows_is_refused_in_what_it_speaks(roads: Roads, address: str) -> None:
    """A page, a page inside TLS, a reset; the row has where it was on its way to."""
    with roads.connect(address, 80) as wire:
        assert wire.send(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").reply().reason == "host-not-allowed"
    roads.expect(verdict="deny", reason="host-not-allowed", host="other.test", port=80)
    context = ssl.create_default_context(cafile=roads.ca)
    with roads.connect(address, 443) as wire:
        inside = Wire(context.wrap_socket(wire.carrier, server_hostname="other.test"))
        with inside:
            assert inside.send(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").reply().reason == "host-not-allowed"
    with roads.connect(address, 22) as wire, pytest.raises(ConnectionResetError):
        wire.send(b"\x00\x01").carrier.recv(1)
    roads.expect(verdict="deny", reason="address-not-allowed", host=address, port=22)


STRAIGHT = [
    pytest.param(GATEWAY4, PORT, id="the listener"),
    pytest.param(GATEWAY6, PORT, id="the listener, IPv6"),
    pytest.param(GATEWAY4, 80, id="another port"),
    pytest.param(OUTSIDE4, PORT, id="its other side"),
    pytest.param(OUTSIDE6, 80, id="its other side, IPv6"),
]


@pytest.mark.parametrize(("address", "port"), STRAIGHT)
def test_a_connection_to_the_gateway_itself_leads_nowhere(roads: Roads, address: str, port: int) -> None:
    """Whatever name it carries: it was on its way to this machine."""
    with roads.connect(address, port) as wire:
        assert wire.send(b"GET / HTTP/1.1\r\nHost: site.test\r\n\r\n").reply().reason == "address-is-proxy"
    roads.expect(verdict="deny", reason="address-is-proxy", host=address, port=port)


def test_who_connects_from_the_gateway_was_not_redirected(roads: Roads) -> None:
    """No rule of the firewall brought it here."""
    with Wire(roads.network.gateway.connect("127.0.0.1", PORT)) as wire:
        assert wire.send(b"GET / HTTP/1.1\r\nHost: site.test\r\n\r\n").reply().reason == "address-is-proxy"


def test_who_says_nothing_is_refused_in_time(roads: Roads) -> None:
    """On record, with where it was on its way to."""
    with roads.connect(BELIEVED4, 443) as wire:
        assert wire.rest() == b""
    roads.expect(verdict="deny", reason="limit-time", host=BELIEVED4, port=443)


def test_curl_that_knows_of_no_proxy_passes_and_reads_its_refusal(roads: Roads) -> None:
    """A real client, with a wrong idea of where its server is."""

    def curl(name: str) -> str:
        where = ("--resolve", f"{name}:443:{BELIEVED4}")
        command = roads.network.client.command("curl", "-s", "--cacert", str(roads.ca), *where, f"https://{name}/")
        env = {"PATH": os.environ["PATH"]}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=env, timeout=30).stdout

    assert shutil.which("curl")
    with roads.origins.behaving(answer_ok):
        assert "reason" not in curl("site.test")
    assert json.loads(curl("other.test"))["reason"] == "host-not-allowed"
