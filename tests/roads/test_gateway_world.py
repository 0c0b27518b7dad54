"""What works from inside a sandbox behind a gateway, and what ends at once without a packet on the internet."""

from __future__ import annotations

import errno
import re
import socket
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from rig.gateway_world import ADMIN, EXPLICIT
from rig.internet import (
    ATTACKER,
    ATTACKER6,
    COMMIT,
    DATABASE,
    ORIGIN,
    ORIGIN6,
    RESOLVER,
    RESOLVER6,
    SERVER,
    connect,
    ended,
    tool,
)
from rig.netns import GATEWAY, GATEWAY6, NEIGHBOUR, NEIGHBOUR6, Server, own_name
from rig.packets import Packet
from rig.roads_out import echo_request, raw, tcp, udp

if TYPE_CHECKING:
    from rig.gateway_world import GatewayWorld

pytestmark = pytest.mark.e2e

FAMILIES = pytest.mark.parametrize("family", ["-4", "-6"])
REFUSED = {"EHOSTUNREACH", "EACCES", "ECONNREFUSED", "EPERM", "ENOPROTOOPT", "EPROTO"}
FETCH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"
# The first bytes of a QUIC version 1 Initial packet (RFC 9000, section 17.2.2), as long as one must be.
ALERT = bytes.fromhex("15030300020232")  # decode_error
INITIAL = bytes.fromhex("c300000001088394c8f03e5157080000449e") + bytes(1182)


def curl(behind: GatewayWorld, family: str, url: str, *more: str) -> str:
    """What curl prints, inside the sandbox; which CA it trusts is up to the name."""
    ca = behind.authority.ca_file if "tunnel" in url else behind.ca
    done = tool(behind.network.sandbox, "curl", family, "-sS", "-m", "10", "--cacert", str(ca), *more, url)
    return done.stdout or done.stderr


def dig(behind: GatewayWorld, name: str, kind: str = "A", *more: str) -> str:
    """What dig prints, inside the sandbox."""
    return tool(behind.network.sandbox, "dig", "+tries=1", "+timeout=5", *more, name, kind).stdout


def address_of(behind: GatewayWorld, name: str, family: str) -> str:
    """Where the sandbox is told that a name is."""
    return dig(behind, name, "A" if family == "-4" else "AAAA", "+short").strip()


@FAMILIES
@pytest.mark.parametrize("url", ["http://site.test/", "https://site.test/", "https://tunnel.test/"])
def test_an_allowed_name_works_and_the_capture_sees_it(behind: GatewayWorld, family: str, url: str) -> None:
    """Plain, looked into, unopened: to the origin and to our name server, and to nobody else. The capture's control."""
    with behind.watched() as packets:
        assert curl(behind, family, url) == "ok allowed"
        seen = packets()
    port = 80 if url.startswith("http:") else 443
    assert {packet for packet in seen if packet.opens} <= {Packet("tcp", at, port, True) for at in (ORIGIN, ORIGIN6)}  # noqa: FBT003
    assert {(packet.host, packet.port) for packet in seen} <= {(ORIGIN, port), (ORIGIN6, port), (SERVER, 53)}
    assert any(packet.opens for packet in seen)


@FAMILIES
def test_raw_tcp_by_name(behind: GatewayWorld, family: str) -> None:
    """The address that our DNS gave out says which name is meant, and nothing in the bytes need."""
    address = address_of(behind, "db.test", family)
    assert address.startswith(("198.1", "fd65:"))
    with connect(behind.network.sandbox, address, DATABASE) as carrier:
        carrier.sendall(b"\x00\xff no protocol at all")
        assert carrier.recv(100) == b"\x00\xff no protocol at all"


def test_tools_that_know_of_no_proxy(behind: GatewayWorld) -> None:
    """Git and Python resolve, connect and trust on their own."""
    sandbox, trust = behind.network.sandbox, f"http.sslCAInfo={behind.ca}"
    listed = tool(sandbox, "git", "-c", trust, "ls-remote", "https://site.test/repository.git", "refs/heads/main")
    assert listed.stdout == f"{COMMIT}\trefs/heads/main\n", listed.stderr
    assert tool(sandbox, sys.executable, "-c", FETCH, "http://site.test/").stdout == "ok allowed\n"


def test_the_explicit_proxy_works_beside_it(behind: GatewayWorld) -> None:
    """By the port that was opened for it."""
    proxy = ("--proxy", f"http://{GATEWAY}:{EXPLICIT}")
    assert curl(behind, "-4", "https://site.test/", *proxy) == "ok allowed"
    with behind.nothing_leaves():
        assert "403" in curl(behind, "-4", "https://denied.test/", *proxy)


@FAMILIES
def test_a_name_that_no_rule_allows_does_not_exist(behind: GatewayWorld, family: str) -> None:
    """For curl and git; and where the client knows an address, it gets the page."""
    with behind.nothing_leaves():
        assert "Could not resolve" in curl(behind, family, "https://denied.test/")
        pinned = ATTACKER if family == "-4" else f"[{ATTACKER6}]"
        for scheme, port in (("http", 80), ("https", 443)):
            where = ("--resolve", f"denied.test:{port}:{pinned}")
            assert '"host-not-allowed"' in curl(behind, family, f"{scheme}://denied.test/", *where)
        listed = tool(behind.network.sandbox, "git", "ls-remote", "https://denied.test/repository.git")
        assert listed.returncode == 128


ADDRESSES = [ATTACKER, ATTACKER6, ORIGIN, ORIGIN6, NEIGHBOUR, NEIGHBOUR6, "169.254.169.254", "10.0.0.1"]
SAID = {80: b"GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n", 22: b"SSH-2.0-test\r\n", 443: b"\x16\x03\x01\x00\x05"}


def test_an_address_is_not_to_be_had_on_any_port(behind: GatewayWorld) -> None:
    """The origin's own no more than others: what is allowed is its name. All of it ends, and nothing leaves."""
    asked = [
        (host, port, said) for host in ADDRESSES for port in (22, 80, 443, 853, DATABASE) for said in (True, False)
    ]
    with behind.nothing_leaves(), Server(behind.network.neighbour, 80, own_name) as beside, ExitStack() as stack:
        carriers = [stack.enter_context(connect(behind.network.sandbox, host, port)) for host, port, _ in asked]
        for carrier, (_, port, speaks) in zip(carriers, asked, strict=True):
            carrier.sendall(SAID.get(port, b"\x00\x01") if speaks else b"")
        answers = dict(zip(asked, map(ended, carriers), strict=True))
    pages = {at: answer.split()[3] for at, answer in answers.items() if answer.startswith(b"HTTP/1.1 4")}
    assert pages == {(host, 80, True): b"host-not-allowed" for host in ADDRESSES}
    assert {answer for at, answer in answers.items() if at not in pages} <= {b"", ALERT}
    assert beside.seen == []


@FAMILIES
def test_an_allowed_name_is_not_to_be_had_on_other_ports(behind: GatewayWorld, family: str) -> None:
    """DNS over TLS, another HTTP, raw TCP: the address that was given out leads to the ports of the name's rules."""
    site, database = address_of(behind, "site.test", family), address_of(behind, "db.test", family)
    with behind.nothing_leaves():
        for host, port in ((site, 853), (site, 8080), (site, DATABASE), (database, 443), (database, 80)):
            with connect(behind.network.sandbox, host, port) as carrier:
                carrier.sendall(b"GET / HTTP/1.1\r\nHost: site.test\r\n\r\n" if port in {80, 8080} else SAID[443])
                answer = ended(carrier)
            assert answer in (b"", ALERT) or answer.startswith(b"HTTP/1.1 403 "), answer


@pytest.mark.parametrize(
    "host", [ATTACKER, ATTACKER6, ORIGIN, ORIGIN6, RESOLVER, RESOLVER6, NEIGHBOUR, NEIGHBOUR6, "2001:db8:64::2"]
)
def test_what_is_not_tcp_is_refused_at_once(behind: GatewayWorld, host: str) -> None:
    """QUIC, NTP, DNS over QUIC, echo requests and other protocols: an error, not silence."""
    sandbox = behind.network.sandbox
    with behind.nothing_leaves():
        for port in (443, 123, 853, 4500):
            assert udp(sandbox, host, port) in REFUSED
        echo = 58 if ":" in host else 1
        for protocol, payload in ((echo, echo_request(host)), (132, bytes(32)), (47, bytes(32)), (50, bytes(32))):
            assert raw(sandbox, host, protocol, payload) in REFUSED
    assert behind.quic.seen == []


@FAMILIES
def test_a_quic_initial_is_refused_so_that_clients_fall_back(behind: GatewayWorld, family: str) -> None:
    """Also for a name that is allowed, at the address that was given out for it."""
    there = address_of(behind, "site.test", family)
    kind = socket.AF_INET6 if ":" in there else socket.AF_INET, socket.SOCK_DGRAM
    with behind.nothing_leaves(), behind.network.sandbox.socket(*kind) as sock:
        sock.settimeout(5)
        sock.connect((there, 443))
        sock.send(INITIAL)
        with pytest.raises(OSError) as told:  # noqa: PT011 -- the number is looked at
            sock.recv(1)
    assert errno.errorcode[told.value.errno or 0] in REFUSED
    assert behind.quic.seen == []


@pytest.mark.parametrize("server", [RESOLVER, RESOLVER6, SERVER, GATEWAY, GATEWAY6])
@pytest.mark.parametrize("how", ["+notcp", "+tcp"])
def test_whichever_resolver_is_asked_ours_answers(behind: GatewayWorld, server: str, how: str) -> None:
    """Over UDP and TCP: what is allowed has an address of ours, and of the rest no question leaves."""
    told = dig(behind, "site.test", "A", f"@{server}", how, "+short").strip()
    assert told == address_of(behind, "site.test", "-4")
    with behind.nothing_leaves():
        for kind in ("A", "AAAA", "TXT", "HTTPS", "NULL", "MX"):
            denied = dig(behind, f"{kind}.secret.evil.test", kind, f"@{server}", how)
            assert re.search(r"status: (NXDOMAIN|REFUSED)", denied), denied
        assert "Transfer failed" in dig(behind, "site.test", "AXFR", f"@{server}")
    assert all(not name.endswith("evil.test") for name, _ in behind.names.questions)


@pytest.mark.parametrize("own", [GATEWAY, GATEWAY6, "198.51.100.1", "2001:db8:64::1", "10.66.2.1"])
def test_the_gateways_other_ports_are_closed(behind: GatewayWorld, own: str) -> None:
    """Its ssh, the admin's port, the transparent one and the resolver's; by whichever of its addresses."""
    gateway, sandbox = behind.network.gateway, behind.network.sandbox
    with behind.nothing_leaves(), Server(gateway, 22, own_name) as ssh:
        for port in (22, ADMIN, 3129, 5301):
            assert tcp(sandbox, own, port) == "ECONNREFUSED"
            assert udp(sandbox, own, port) in REFUSED
        assert ssh.seen == []
    assert tool(gateway, "curl", "-sS", f"http://{GATEWAY}:{ADMIN}/healthz").returncode == 0


def test_the_control_socket_is_for_its_owner(behind: GatewayWorld) -> None:
    """A sandbox that sees the folder reaches nothing in it as another user."""
    asking = "import os, socket, sys; os.setuid(1001); socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    control = behind.folder / "state" / "control.sock"
    assert control.is_socket()
    told = tool(behind.network.sandbox, sys.executable, "-c", asking, str(control))
    assert "PermissionError" in told.stderr
