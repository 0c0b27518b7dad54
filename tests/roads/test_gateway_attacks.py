"""What a sandbox behind a gateway may try: names that move, names that are forged, other sandboxes' addresses."""

from __future__ import annotations

import re
import socket
import ssl
import struct
from contextlib import ExitStack
from typing import TYPE_CHECKING

import dns.message
import pytest
from rig.gateway_world import NAMES_AT_MOST
from rig.internet import ATTACKER, ATTACKER6, DATABASE, ORIGIN, ORIGIN6, SERVER, connect, ended, tool
from rig.ledger import wait_until
from rig.netns import GATEWAY6, NEIGHBOUR, NEIGHBOUR6, Server, own_name
from rig.roads_out import SILENCE, tcp, udp
from rig.wire import Wire

from egress.confine.gateway_status import status

if TYPE_CHECKING:
    from rig.gateway_world import GatewayWorld
    from rig.netns import Machine
    from rig.packets import Packet

pytestmark = pytest.mark.e2e

QUESTION = dns.message.make_query("theirs.test", "A").to_wire()
# Nobody was given these; they are of the ranges that names get their addresses from.
NEVER_GIVEN = ["198.19.250.7", "fd65:6772:6573:7300::dead:beef"]
INSIDE = [
    pytest.param("127.0.0.1", id="loopback"),
    pytest.param("::1", id="loopback, IPv6"),
    pytest.param(NEIGHBOUR, id="the neighbour"),
    pytest.param(NEIGHBOUR6, id="the neighbour, IPv6"),
    pytest.param("::ffff:10.66.2.2", id="the neighbour, mapped"),
    pytest.param("169.254.169.254", id="metadata"),
    pytest.param("198.51.100.1", id="the gateway's other side"),
    pytest.param("198.18.0.1", id="an address that stands for a name"),
]


def question(packet: Packet) -> bool:
    """What is asked of our name server for a name that is allowed."""
    return (packet.protocol, packet.host, packet.port) == ("udp", SERVER, 53)


def address_of(machine: Machine, name: str, kind: str = "A") -> str:
    """Where a sandbox is told that a name is."""
    return tool(machine, "dig", "+short", "+tries=1", name, kind).stdout.strip()


def http(machine: Machine, address: str, host: str, port: int = 80) -> bytes:
    """What comes for a plain request for `host` at an address."""
    with connect(machine, address, port) as carrier:
        carrier.sendall(b"GET / HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % host.encode())
        return ended(carrier)


def https(behind: GatewayWorld, address: str, sni: str | None, host: str) -> bytes:
    """What comes for a request inside TLS, from whoever shows a certificate; b"" if TLS fails."""
    context = ssl.create_default_context(cafile=behind.ca)
    context.load_verify_locations(behind.authority.ca_file)
    context.check_hostname = False
    with connect(behind.network.sandbox, address, 443) as carrier:
        try:
            with Wire(context.wrap_socket(carrier, server_hostname=sni)) as inside:
                return inside.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host.encode()).reply().whole
        except (ssl.SSLError, ConnectionError):
            return b""


@pytest.mark.parametrize("where", INSIDE)
def test_a_name_that_moves_inside_is_not_followed(behind: GatewayWorld, where: str) -> None:
    """Between the question and the connection its owner says something else: nobody in there sees a connection."""
    network = behind.network
    address = address_of(network.sandbox, "moving.test")
    record = f"{'AAAA' if ':' in where else 'A'} {where}"
    with ExitStack() as stack:
        baits = [stack.enter_context(Server(machine, 80, own_name)) for machine in (network.neighbour, network.gateway)]
        stack.enter_context(behind.names.answering("moving.test", (record,)))
        with behind.nothing_leaves(but=question):
            told = http(network.sandbox, address, "moving.test")
            assert re.search(rb"address-(not-public|is-proxy)", told), told
            # What it is told anew is no address of theirs, either.
            assert address_of(network.sandbox, "moving.test") == address
        assert all(bait.seen == [] for bait in baits)


def test_a_name_that_moves_to_an_attacker_finds_no_certificate_there(behind: GatewayWorld) -> None:
    """The address counts for nothing, the name does, and the attacker cannot show that it has it."""
    address = address_of(behind.network.sandbox, "moving.test")
    mark = behind.origins.mark()
    with behind.names.answering("moving.test", (f"A {ATTACKER}", f"AAAA {ATTACKER6}")):
        assert b"upstream-tls" in https(behind, address, "moving.test", "moving.test")
    seen = behind.origins.since(mark)
    assert {connection.role for connection in seen} == {"evil"}
    assert all(bytes(connection.received) == b"" for connection in seen)


@pytest.mark.parametrize("address", [ATTACKER, ATTACKER6, ORIGIN, ORIGIN6])
def test_an_allowed_name_leads_to_that_name_wherever_the_client_went(behind: GatewayWorld, address: str) -> None:
    """A forged SNI or Host at an attacker's address: the attacker is not even spoken to."""
    mark = behind.origins.mark()
    assert b"ok allowed" in https(behind, address, "site.test", "site.test")
    assert b"ok allowed" in http(behind.network.sandbox, address, "site.test")
    assert {connection.role for connection in behind.origins.since(mark)} == {"allowed"}


FORGED = [
    pytest.param("denied.test", "denied.test", id="both of another name"),
    pytest.param("denied.test", "site.test", id="SNI of another name"),
    pytest.param("site.test", "denied.test", id="Host of another name"),
    pytest.param("site.test", "tunnel.test", id="Host of an allowed name"),
    pytest.param("moving.test", "moving.test", id="both of an allowed name"),
    pytest.param("moving.test", "site.test", id="SNI of an allowed name"),
    pytest.param(None, "denied.test", id="no SNI"),
    pytest.param("site.test", ATTACKER, id="Host is an address"),
]


@pytest.mark.parametrize(("sni", "host"), FORGED)
@pytest.mark.parametrize("kind", ["A", "AAAA"])
def test_a_given_address_is_for_its_one_name(behind: GatewayWorld, sni: str | None, host: str, kind: str) -> None:
    """Whatever is said inside, and also what would be allowed elsewhere."""
    address = address_of(behind.network.sandbox, "site.test", kind)
    with behind.nothing_leaves(but=question):
        assert b"ok " not in https(behind, address, sni, host)
        if host != "site.test":
            assert b"name-mismatch" in http(behind.network.sandbox, address, host)


@pytest.mark.parametrize("address", NEVER_GIVEN)
def test_an_address_that_was_never_given_leads_nowhere(behind: GatewayWorld, address: str) -> None:
    """Not even for an allowed name."""
    with behind.nothing_leaves():
        assert b"name-not-resolved" in http(behind.network.sandbox, address, "site.test")
        assert b"ok " not in https(behind, address, "site.test", "site.test")
        with connect(behind.network.sandbox, address, DATABASE) as carrier:
            assert ended(carrier) == b""


def test_each_sandbox_has_its_own_rules_at_the_same_address(behind: GatewayWorld) -> None:
    """An address that the other one was given means the same name: who connects decides what is allowed."""
    sandbox, neighbour = behind.network.sandbox, behind.network.neighbour
    agents, theirs = address_of(sandbox, "site.test"), address_of(neighbour, "theirs.test")
    assert b"ok allowed" in http(neighbour, theirs, "theirs.test")
    with behind.nothing_leaves():
        assert b"host-not-allowed" in http(neighbour, agents, "site.test")
        assert b"host-not-allowed" in http(sandbox, theirs, "theirs.test")
        assert b"host-not-allowed" in http(neighbour, ATTACKER, "site.test")
        assert address_of(neighbour, "site.test") == address_of(sandbox, "theirs.test") == ""
        # Whose name an address is, only those are told who may ask for it.
        assert tool(neighbour, "dig", "+short", "-x", agents).stdout.strip() == ""


@pytest.mark.parametrize("source", [NEIGHBOUR, NEIGHBOUR6])
def test_another_sandboxs_address_is_not_for_the_taking(behind: GatewayWorld, source: str) -> None:
    """What comes in with it is dropped, and counted: else its question would leave, and be answered to the other."""
    sandbox, six = behind.network.sandbox, ":" in source
    there = address_of(behind.network.neighbour, "theirs.test", "AAAA" if six else "A")
    before = spoofed(behind)
    sandbox.ip("address", "add", f"{source}/{128 if six else 32}", "dev", "lo")
    try:
        with behind.nothing_leaves():
            assert udp(sandbox, there, 53, source=source, said=QUESTION, patience=0.3) == SILENCE
            assert tcp(sandbox, there, 80, source=source, patience=0.3) == SILENCE
    finally:
        sandbox.ip("address", "del", f"{source}/{128 if six else 32}", "dev", "lo")
    assert spoofed(behind) > before + 1


def spoofed(behind: GatewayWorld) -> int:
    """How many packets the gateway has dropped for their source."""
    found = behind.network.gateway.call(lambda: status("egress", None))
    return found.counts["lan0"]["spoofed"].packets


def test_a_tunnel_in_the_names_of_an_allowed_wildcard_runs_dry(behind: GatewayWorld) -> None:
    """Each label carries data to whoever serves the domain; after so many names nothing is asked any more."""
    labels = [f"{number:02}{'d' * 58}.{'e' * 60}.wild.test" for number in range(NAMES_AT_MOST + 15)]
    batch = behind.folder / "names"
    batch.write_text("".join(f"{label} A\n" for label in labels))
    told = tool(behind.network.sandbox, "dig", "+tries=1", "-f", str(batch)).stdout
    assert len(re.findall("status: NOERROR", told)) == NAMES_AT_MOST
    assert len(re.findall("status: REFUSED", told)) == 15
    asked = {name for name, _ in behind.names.questions if name.endswith("wild.test")}
    assert len(asked) == NAMES_AT_MOST
    with behind.nothing_leaves():
        assert "limit-requests" in tool(behind.network.sandbox, "dig", "one.more.wild.test").stdout


def test_the_link_local_router_is_no_way_out(behind: GatewayWorld) -> None:
    """Its own ports, and itself as the next hop: the same rules as by its other addresses."""
    network = behind.network
    (router,) = re.findall(r"inet6 (fe80::\S+)/64", network.gateway.ip("-6", "address", "show", "dev", "lan0"))
    beyond = f"{router}%{network.sandbox.call(lambda: socket.if_nametoindex('eth0'))}"
    network.sandbox.ip("-6", "route", "add", "2600:3c01::/32", "via", router, "dev", "eth0")
    try:
        with behind.nothing_leaves(), Server(network.gateway, 22, own_name) as ssh:
            for port in (22, 3129, 9180):
                # Refused, but kernels send no reset between link-local addresses.
                assert tcp(network.sandbox, beyond, port, patience=0.2) in {SILENCE, "ECONNREFUSED"}
            assert udp(network.sandbox, beyond, 443) == "EACCES"
            assert udp(network.sandbox, ATTACKER6, 443) == "EACCES"
            assert b"host-not-allowed" in http(network.sandbox, ATTACKER6, "denied.test")
            assert ssh.seen == []
    finally:
        network.sandbox.ip("-6", "route", "del", "2600:3c01::/32")


def advertise(machine: Machine, interface: str) -> None:
    """Say to all on a link that this machine is a router to everywhere (RFC 4861, section 4.2)."""
    with machine.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
        index = machine.call(lambda: socket.if_nametoindex(interface))
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        sock.sendto(struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), ("ff02::1", 0, 0, index))


def routes(machine: Machine) -> str:
    """What routers that were heard have brought."""
    return machine.ip("-6", "route", "show", "proto", "ra")


def test_a_sandbox_is_no_router_for_the_gateway(behind: GatewayWorld) -> None:
    """Its router advertisements are not heard, or the proxy's own connections would go through it."""
    network = behind.network
    network.gateway.set("ipv6.conf.lan0.accept_ra", 2)
    network.sandbox.set("ipv6.conf.eth0.accept_ra", 2)
    try:
        advertise(network.gateway, "lan0")
        wait_until(lambda: "default" in routes(network.sandbox), "the route of an advertisement that is heard", 5)
        advertise(network.sandbox, "eth0")
        # An answer to what was sent later says that the gateway has dealt with it.
        assert udp(network.sandbox, GATEWAY6, 443) == "EACCES"
        assert routes(network.gateway) == ""
    finally:
        network.sandbox.ip("-6", "route", "flush", "proto", "ra")
        network.gateway.set("ipv6.conf.lan0.accept_ra", 0)
