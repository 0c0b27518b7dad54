"""What a confined user of this host reaches, and what everybody else goes on reaching.

The sandbox's machine stands for a sidecar's network namespace: the proxy is a user of it, the agent another one.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from rig.netns import ELSEWHERE, ELSEWHERE6, GATEWAY, Network, Server, Wire, original_destination, own_name
from rig.roads_out import SILENCE, tcp, udp
from rig.user_roads import Road, ask_as

from egress.confine.gateway import Gateway, Ipv6, ThisHost
from egress.confine.gateway_status import status
from egress.confine.gateway_up import up
from egress.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

AGENT, OTHER, PROXY = 1001, 1002, 3128
FORMS = pytest.mark.parametrize(
    "confined",
    [ThisHost(uids=(AGENT,), closed_ports=(9464,)), ThisHost(except_uids=(PROXY, 0), closed_ports=(9464,))],
    ids=["one user", "everybody but the proxy"],
)
LOOPBACK = {ip_address("127.0.0.1").packed, ip_address("::1").packed}
REFUSED = {"EPERM", "EHOSTUNREACH", "EACCES"}


def ask(network: Network, uid: int, *roads: Road) -> list[str]:
    """Try roads as a user of the sandbox's machine."""
    return ask_as(network.sandbox, uid, *roads)


def confine(network: Network, gateway: Gateway) -> None:
    """Put rules in force on the sandbox's own machine."""
    network.sandbox.call(lambda: up(gateway))


@pytest.fixture
def host(network: Network) -> Iterator[Network]:
    """The network, with the proxy's stand-in on the sandbox's machine, and a world that answers."""
    with Server(network.internet, 443, own_name), Server(network.internet, 53, own_name):
        yield network
    network.sandbox.nft("flush ruleset")


@pytest.fixture
def local(host: Network) -> Iterator[Server]:
    """The proxy's transparent port on the sandbox's machine."""
    with Server(host.sandbox, 3129, original_destination) as server:
        yield server


@FORMS
def test_tcp_of_the_confined_comes_to_the_proxy(host: Network, local: Server, confined: ThisHost) -> None:
    """Any port, both families; nothing reaches the internet."""
    del local
    wanted = [("tcp", there, port) for there in (ELSEWHERE, ELSEWHERE6) for port in (22, 443, 3129, 9464)]
    confine(host, Gateway(confined))
    with host.watched() as wire:
        assert ask(host, AGENT, *wanted) == [f"{there} {port}" for _, there, port in wanted]
        assert wire.packets() == []


@FORMS
@pytest.mark.usefixtures("local")
def test_the_rest_of_the_confined_is_refused_at_once(host: Network, confined: ThisHost) -> None:
    """HTTP/3, questions without a resolver, and addresses of this host that are not loopback."""
    confine(host, Gateway(confined))
    for there in (ELSEWHERE, ELSEWHERE6):
        with host.watched() as wire:
            told = ask(host, AGENT, ("udp", there, 443), ("udp", there, 53), ("tcp", there, 53))
            assert set(told[:2]) <= REFUSED
            assert told[2] == "ECONNREFUSED"
            assert wire.packets() == []
    own = ask(host, AGENT, ("tcp", "10.66.1.2", 3129), ("udp", "10.66.1.2", 443), ("tcp", "fd66:1::2", 3129))
    assert own[0] == own[2] == "ECONNREFUSED"
    assert own[1] in REFUSED


def test_raw_sockets_of_the_confined_are_refused(host: Network) -> None:
    """Root is confined where only the proxy's user is free, and its raw sockets with it."""
    confine(host, Gateway(ThisHost(except_uids=(PROXY,))))
    with host.watched() as wire:
        roads = [("raw", there, protocol) for there in (ELSEWHERE, ELSEWHERE6) for protocol in (1, 47, 132, 253)]
        assert set(ask(host, 0, *roads)) <= REFUSED
        assert wire.packets() == []


@FORMS
@pytest.mark.usefixtures("local")
def test_the_others_are_free(host: Network, confined: ThisHost) -> None:
    """The proxy above all: what it sends must not come back to it."""
    confine(host, Gateway(confined, dns_port=5300))
    free = (PROXY, OTHER) if confined.uids else (PROXY, 0)
    for uid in free:
        told = ask(host, uid, ("tcp", ELSEWHERE, 443), ("udp", ELSEWHERE, 53), ("tcp", ELSEWHERE6, 443))
        assert told == [f"{ELSEWHERE} 443", "datagram", f"{ELSEWHERE6} 443"]


CLOSING = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
sock = socket.socket(socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_000_000)
sock.connect((sys.argv[2], 444))
sock.sendall(bytes(200_000))
sock.close()
"""


@FORMS
@pytest.mark.usefixtures("local")
def test_what_the_proxy_has_still_to_send_when_it_closes_arrives(host: Network, confined: ThisHost) -> None:
    """A connection that was closed has no socket any more, and so no user; its last bytes must not be lost."""
    closed = threading.Event()

    def whole(carrier: socket.socket) -> bytes:
        # More than a window holds is there to be sent, and the program that wrote it has ended.
        assert closed.wait(20)
        return str(sum(map(len, iter(lambda: carrier.recv(65_536), b"")))).encode()

    confine(host, Gateway(confined))
    for there in (ELSEWHERE, ELSEWHERE6):
        closed.clear()
        with Server(host.internet, 444, whole) as sink:
            done = host.sandbox.run([sys.executable, "-c", CLOSING, str(PROXY), there])
            assert done.returncode == 0, done.stderr
            closed.set()
            deadline = time.monotonic() + 10
            while not sink.seen and time.monotonic() < deadline:
                time.sleep(0.05)
            assert sink.seen == [b"200000"]


@FORMS
@pytest.mark.usefixtures("local")
def test_loopback_is_open_but_for_the_proxys_own_ports(host: Network, confined: ThisHost) -> None:
    """Local services go on; the admin's port and the one for redirected connections do not take the agent."""
    confine(host, Gateway(confined))
    with Server(host.sandbox, 8000, lambda _: b"local"), Server(host.sandbox, 9464, lambda _: b"admin") as admin:
        for there in ("127.0.0.1", "::1"):
            roads = [("tcp", there, 8000), ("udp", there, 8000), ("tcp", there, 9464), ("tcp", there, 3129)]
            assert ask(host, AGENT, *roads) == ["local", "datagram", "ECONNREFUSED", "ECONNREFUSED"]
        assert admin.seen == []
        assert ask(host, PROXY, ("tcp", "127.0.0.1", 9464)) == ["admin"]


BOUND = """
import contextlib, os, socket, sys
os.setuid(int(sys.argv[1]))
for host in sys.argv[2:]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(family, kind) as sock, contextlib.suppress(OSError):
            sock.settimeout(0.2)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
            sock.connect((host, 443))
            sock.send(b"bound")
"""


def to(packet: bytes) -> bytes:
    """The address that a packet is for."""
    return packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]


@FORMS
@pytest.mark.usefixtures("local")
def test_what_is_for_loopback_leaves_by_no_other_interface(host: Network, confined: ThisHost) -> None:
    """A socket that is bound to one has it sent there, where the next hop may take 127.0.0.1 for its own."""
    asking = [sys.executable, "-c", BOUND, str(AGENT), "127.0.0.1", "::1", ELSEWHERE, ELSEWHERE6]
    with contextlib.closing(host.sandbox.socket(kind=socket.SOCK_DGRAM)) as sender:
        wire = Wire(host.gateway, "lan0", lambda mark: sender.sendto(mark, (GATEWAY, 9)))
        with contextlib.closing(wire):
            confine(host, Gateway(confined))
            assert host.sandbox.run(asking).returncode == 0
            assert {at for packet in wire.packets() if (at := to(packet)) in LOOPBACK} == set()


@FORMS
@pytest.mark.usefixtures("local")
def test_questions_come_to_the_resolver(host: Network, confined: ThisHost) -> None:
    """Also those to a resolver on loopback, which would carry them out."""
    confine(host, Gateway(confined, dns_port=5300))
    asked = [(road, there, 53) for there in (ELSEWHERE, ELSEWHERE6, "127.0.0.53", "::1") for road in ("udp", "tcp")]
    with Server(host.sandbox, 5300, lambda _: b"resolver"), Server(host.sandbox, 53, lambda _: b"stub") as stub:
        with host.watched() as wire:
            assert ask(host, AGENT, *asked) == ["datagram", "resolver"] * 4
            assert wire.packets() == []
        assert stub.seen == []
    confine(host, Gateway(confined))
    with Server(host.sandbox, 53, lambda _: b"stub") as stub:
        told = ask(host, AGENT, *asked)
        assert "silence" not in told
        assert stub.seen == []


@FORMS
@pytest.mark.usefixtures("local")
def test_a_resolver_behind_another_rewriting_is_not_reached(host: Network, confined: ThisHost) -> None:
    """As in a container whose engine turns port 53 of loopback into another one, before the rules look at ports."""
    host.sandbox.nft(
        "table ip engine {\nchain c {\ntype nat hook output priority -100\n"
        "ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:40053\n}\n}\n"
    )
    confine(host, Gateway(confined))
    with Server(host.sandbox, 40_053, own_name) as engine:
        assert ask(host, PROXY, ("udp", "127.0.0.11", 53)) == ["datagram"]
        assert set(ask(host, AGENT, ("udp", "127.0.0.11", 53))) <= REFUSED
        assert len(engine.seen) == 1


@FORMS
def test_without_the_proxy_nothing_passes(host: Network, confined: ThisHost) -> None:
    """At once, for both families, and open again when the proxy is there again."""
    confine(host, Gateway(confined))
    roads = [("tcp", ELSEWHERE, 443), ("tcp", ELSEWHERE6, 443)]
    with host.watched() as wire:
        assert ask(host, AGENT, *roads) == ["ECONNREFUSED"] * 2
        with Server(host.sandbox, 3129, lambda _: b"proxy"):
            assert ask(host, AGENT, *roads) == ["proxy"] * 2
        assert ask(host, AGENT, *roads) == ["ECONNREFUSED"] * 2
        assert wire.packets() == []


@FORMS
@pytest.mark.usefixtures("local")
def test_refused_ipv6_leaves_loopback(host: Network, confined: ThisHost) -> None:
    """Refused by rule; IPv4 and the loopback of both families go on."""
    confine(host, Gateway(confined, ipv6=Ipv6.REJECT))
    with Server(host.sandbox, 8000, lambda _: b"local"):
        told = ask(host, AGENT, ("tcp", ELSEWHERE6, 443), ("tcp", "::1", 8000), ("tcp", ELSEWHERE, 443))
        assert told == ["ECONNREFUSED", "local", f"{ELSEWHERE} 443"]


def test_where_everybody_is_confined_nothing_is_forwarded(network: Network) -> None:
    """As of a container that the agent started, which is no user of this host. The refusal is not sent either."""
    gateway = Gateway(ThisHost(except_uids=(PROXY, 0)))
    network.gateway.call(lambda: up(gateway))
    with Server(network.internet, 443, own_name) as outside, network.watched() as wire:
        assert tcp(network.sandbox, ELSEWHERE, 443, patience=0.3) in {"ECONNREFUSED", SILENCE}
        assert udp(network.sandbox, ELSEWHERE6, 443, patience=0.3) in {"EACCES", SILENCE}
        assert outside.seen == []
        assert wire.packets() == []


@pytest.mark.usefixtures("local")
def test_a_confined_proxy_is_refused(host: Network) -> None:
    """Its own connections would come back to it, for ever. The stand-in listens as root."""
    for confined in (ThisHost(uids=(AGENT, 0)), ThisHost(except_uids=(PROXY,))):
        with pytest.raises(GatewayError, match="runs as user 0, which is confined"):
            confine(host, Gateway(confined))
    assert "egress" not in host.sandbox.run(["nft", "list", "tables"]).stdout


def test_a_sandbox_that_takes_the_proxys_place_is_told(host: Network) -> None:
    """While the proxy is gone, its port is anybody's: what sits there gets nobody out, and `status` names it."""
    confine(host, Gateway(ThisHost(uids=(AGENT, 0))))
    with Server(host.sandbox, 3129, original_destination):
        found = host.sandbox.call(lambda: status("egress", None))
    assert not found.ready
    assert "port 3129 runs as user 0, which is confined" in found.silent[0]
