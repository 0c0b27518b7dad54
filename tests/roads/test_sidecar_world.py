"""A proxy beside its agent in one network namespace: two users, and rules for the agent's."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rig.internet import (
    ATTACKER,
    ATTACKER6,
    DATABASE,
    ORIGIN,
    ORIGIN6,
    RESOLVER,
    RESOLVER6,
    SERVER,
    Internet,
    end_proxy,
    start_proxy,
    tool,
)
from rig.netns import GATEWAY, GATEWAY6, SANDBOX, SANDBOX6, Server, own_name
from rig.packets import Packet
from rig.user_roads import ask_as

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

AGENT, PROXY, ADMIN = 1001, 3128, 9180
UP = ("up", "--this-host", "--uid", str(AGENT), "--dns-port", "5300", "--closed-port", str(ADMIN))
POLICY = f"""\
version: 1
default: deny
rules:
  - {{name: a site that is looked into, allow: site.test}}
  - {{name: one that is not opened, allow: "tunnel.test:443", tls: tunnel}}
  - {{name: a database, allow: "db.test:{DATABASE}", protocol: tcp}}
"""
CONFIG = f"""\
listen: 127.0.0.1:3128
admin: 127.0.0.1:{ADMIN}
transparent: {{listen: ["127.0.0.1:3129", "[::1]:3129"]}}
dns: {{listen: ["127.0.0.1:5300", "[::1]:5300"], servers: [{SERVER}]}}
limits: {{head_seconds: 1, drain_seconds: 1}}
audit: {{flush_interval: 0.02}}
upstream: {{ca: [roots/test-ca.pem]}}
policy: [policy.yaml]
state_dir: state
"""
# The interpreter may stand where only root can read.
_READS = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
AS_PROXY = ("setpriv", f"--reuid={PROXY}", f"--regid={PROXY}", "--clear-groups", *_READS)
AS_AGENT = ("setpriv", f"--reuid={AGENT}", f"--regid={AGENT}", "--clear-groups")
FAMILIES = pytest.mark.parametrize("family", ["-4", "-6"])
REFUSED = {"EPERM", "EHOSTUNREACH", "EACCES", "ECONNREFUSED"}


class Sidecar(Internet):
    """The sandbox's machine is the pod: the proxy is a user of it, the agent another."""

    def prepare(self) -> None:
        """The proxy as its user, then the rules, by root."""
        for name, text in (("policy.yaml", POLICY), ("egress.yaml", CONFIG)):
            (self.folder / name).write_text(text)
        (self.folder / "state").mkdir(mode=0o700)
        os.chown(self.folder / "state", PROXY, PROXY)
        self.proxy = start_proxy(self.network.sandbox, self.folder, before=AS_PROXY)
        self._stack.callback(lambda: end_proxy(self.proxy))
        self.proxy.says(r"admin +http")
        self.ca = Path(shutil.copy(self.folder / "state" / "ca" / "ca.pem", self.folder))
        self.confine()

    def confine(self) -> None:
        """Set the rules."""
        done = self.network.sandbox.egress("gateway", *UP, apart=True)
        assert done.returncode == 0, done.stderr

    def agent(self, *command: str) -> str:
        """What a program of the agent prints."""
        done = tool(self.network.sandbox, *AS_AGENT, *command)
        return done.stdout or done.stderr

    def curl(self, family: str, url: str, *more: str) -> str:
        """What curl prints; which CA it trusts is up to the name."""
        ca = self.authority.ca_file if "tunnel" in url else self.ca
        return self.agent("curl", family, "-sS", "-m", "10", "--cacert", str(ca), *more, url)

    def ask(self, *roads: tuple[str, str, int]) -> list[str]:
        """What comes of roads that the agent tries."""
        return ask_as(self.network.sandbox, AGENT, *roads)


@pytest.fixture(scope="module")
def pod() -> Iterator[Sidecar]:
    """The pod, in a folder that its users reach."""
    with tempfile.TemporaryDirectory(prefix="egress-sidecar-") as folder:
        Path(folder).chmod(0o755)
        with Sidecar(Path(folder)) as made:
            yield made


@FAMILIES
@pytest.mark.parametrize("url", ["http://site.test/", "https://site.test/", "https://tunnel.test/"])
def test_the_agents_curl_works_and_the_capture_sees_the_proxy(pod: Sidecar, family: str, url: str) -> None:
    """It knows of no proxy, and what leaves is the proxy's: to the origin and to its name server."""
    port = 80 if url.startswith("http:") else 443
    with pod.watched() as packets:
        assert pod.curl(family, url) == "ok allowed"
        seen = packets()
    assert any(packet.opens for packet in seen)
    assert {(packet.host, packet.port) for packet in seen} <= {(ORIGIN, port), (ORIGIN6, port), (SERVER, 53)}


@FAMILIES
def test_what_is_denied_is_told_and_leaves_no_packet(pod: Sidecar, family: str) -> None:
    """By name, by address, and with a name at an attacker's address."""
    attacker = ATTACKER if family == "-4" else f"[{ATTACKER6}]"
    with pod.nothing_leaves():
        assert "Could not resolve" in pod.curl(family, "https://denied.test/")
        for scheme, port in (("http", 80), ("https", 443)):
            where = ("--resolve", f"denied.test:{port}:{attacker}")
            assert '"host-not-allowed"' in pod.curl(family, f"{scheme}://denied.test/", *where)
        assert "reason:address-not-allowed" in pod.curl(family, f"http://{attacker}/")


def test_everything_of_the_agents_that_is_not_tcp_is_refused_at_once(pod: Sidecar) -> None:
    """QUIC, NTP and their like over both families; also to the name server that the proxy asks, on another port."""
    roads = [("udp", host, port) for host in (ATTACKER, ATTACKER6, ORIGIN, ORIGIN6, SERVER) for port in (443, 123, 853)]
    with pod.nothing_leaves():
        told = pod.ask(*roads)
        assert set(told) <= REFUSED


@pytest.mark.parametrize("server", [RESOLVER, RESOLVER6, SERVER, "127.0.0.1", "::1"])
@pytest.mark.parametrize("how", ["+notcp", "+tcp"])
def test_whichever_resolver_the_agent_asks_ours_answers(pod: Sidecar, server: str, how: str) -> None:
    """Over UDP and TCP, on loopback as well; of what no rule allows no question leaves."""
    told = pod.agent("dig", f"@{server}", "+tries=2", how, "+short", "site.test").strip()
    assert told.startswith("198.1")
    with pod.nothing_leaves():
        denied = pod.agent("dig", f"@{server}", "+tries=2", how, "data.evil.test", "TXT")
        assert re.search(r"status: (NXDOMAIN|REFUSED)", denied), denied


def test_the_proxys_own_ports_do_not_take_the_agent(pod: Sidecar) -> None:
    """The admin's and the transparent one, by every address; the explicit proxy does."""
    hosts = ("127.0.0.1", "127.0.0.2", "::1", SANDBOX, SANDBOX6)
    told = pod.ask(*(("tcp", host, port) for host in hosts for port in (ADMIN, 3129)))
    assert set(told) == {"ECONNREFUSED"}
    assert "503" not in pod.agent("curl", "-sS", "-m", "5", f"http://127.0.0.1:{ADMIN}/healthz")
    health = ("curl", "-sS", "-m", "5", f"http://127.0.0.1:{ADMIN}/healthz")
    assert tool(pod.network.sandbox, *health).returncode == 0
    assert pod.curl("-4", "https://site.test/", "--proxy", "http://127.0.0.1:3128") == "ok allowed"


def test_the_proxys_folder_is_closed_to_the_agent(pod: Sidecar) -> None:
    """The control socket, the CA's key and the audit."""
    control = pod.folder / "state" / "control.sock"
    assert control.is_socket()
    asking = f"import os, socket, sys; os.setuid({AGENT}); socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    assert "PermissionError" in tool(pod.network.sandbox, sys.executable, "-c", asking, str(control)).stderr
    assert "Permission denied" in pod.agent("ls", str(pod.folder / "state"))


def test_the_gateway_beyond_and_its_services_are_no_way_out(pod: Sidecar) -> None:
    """The next hop is an address as any other."""
    with Server(pod.network.gateway, 22, own_name) as ssh, pod.nothing_leaves():
        told = pod.ask(("tcp", GATEWAY, 22), ("tcp", GATEWAY6, 22), ("udp", GATEWAY, 22), ("udp", GATEWAY6, 22))
        assert told[:2] == ["ECONNRESET"] * 2 or set(told[:2]) <= {"", "ECONNRESET"}
        assert set(told[2:]) <= REFUSED
        assert ssh.seen == []


def test_without_the_rules_the_same_packets_are_seen(pod: Sidecar) -> None:
    """The control: what was counted as none is what the agent sends."""
    sandbox = pod.network.sandbox
    sandbox.nft("flush ruleset")
    try:
        with pod.watched() as packets:
            assert pod.ask(("udp", ATTACKER, 443), ("udp", ATTACKER6, 443)) == ["datagram"] * 2
            assert set(packets()) == {Packet("udp", ATTACKER, 443), Packet("udp", ATTACKER6, 443)}
    finally:
        pod.confine()
    assert set(pod.ask(("udp", ATTACKER, 443), ("udp", ATTACKER6, 443))) <= REFUSED
