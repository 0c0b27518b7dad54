"""What a sandbox behind the gateway reaches: the proxy and its resolver, whether the host forwards or not."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import replace

import pytest
from rig.netns import ELSEWHERE, ELSEWHERE6, GATEWAY, GATEWAY6, NEIGHBOUR, NEIGHBOUR6, Network, Server, own_name
from rig.roads_out import PATIENCE, SILENCE, echo_request, raw, tcp, took, udp

from egress.confine.gateway import Gateway, Ipv6, Subnet, parse_pair, parse_source
from egress.confine.gateway_up import up

pytestmark = pytest.mark.e2e

LANS = Gateway(Subnet(interfaces=("lan0", "lan1")), dns_port=5300)
BOTH = pytest.mark.parametrize("host", [ELSEWHERE, ELSEWHERE6])
# Refused by ICMP "administratively prohibited", which sockets tell differently for the two families.
PROHIBITED = {ELSEWHERE: "EHOSTUNREACH", ELSEWHERE6: "EACCES", GATEWAY: "EHOSTUNREACH", GATEWAY6: "EACCES"}


@pytest.fixture(params=[1, 0], ids=["forwarding", "not forwarding"])
def forwards(request: pytest.FixtureRequest, network: Network) -> int:
    """Whether the gateway forwards: no rule may rest on that."""
    network.forward(request.param)
    return int(request.param)


def confine(network: Network, gateway: Gateway) -> None:
    """Put rules in force on the gateway."""
    network.gateway.call(lambda: up(gateway))


@BOTH
def test_without_rules_the_roads_are_open(network: Network, host: str) -> None:
    """Else the tests below would find closed what was never open."""
    with Server(network.internet, 443, own_name), network.watched() as wire:
        assert tcp(network.sandbox, host, 443) == f"{host} 443"
        assert udp(network.sandbox, host, 443) == "datagram"
        assert wire.packets()


@BOTH
@pytest.mark.usefixtures("proxy", "forwards")
def test_tcp_to_any_port_comes_to_the_proxy(network: Network, host: str) -> None:
    """It learns where the connection wanted to go, and the internet sees nothing."""
    confine(network, LANS)
    with network.watched() as wire:
        for port in (1, 22, 80, 443, 3128, 3129, 5300, 8443, 65_535):
            assert tcp(network.sandbox, host, port) == f"{host} {port}"
            assert tcp(network.neighbour, host, port) == f"{host} {port}"
        assert wire.packets() == []


@BOTH
@pytest.mark.usefixtures("proxy", "resolver", "forwards")
def test_udp_is_refused_at_once(network: Network, host: str) -> None:
    """HTTP/3 above all: a client that gets an error falls back to TCP, one that gets none waits."""
    confine(network, LANS)
    with Server(network.internet, 443, own_name) as outside, network.watched() as wire:
        for port in (443, 1, 123, 853, 3129, 5300, 8443, 65_535):
            told, seconds = took(lambda port=port: udp(network.sandbox, host, port))
            assert told == PROHIBITED[host]
            assert seconds < PATIENCE / 10
        assert outside.seen == []
        assert wire.packets() == []


@BOTH
@pytest.mark.usefixtures("proxy", "resolver", "forwards")
def test_other_protocols_are_refused(network: Network, host: str) -> None:
    """ICMP, tunnels, GRE, ESP, SCTP, UDP-Lite and what nobody knows."""
    confine(network, LANS)
    ping = socket.IPPROTO_ICMPV6 if ":" in host else socket.IPPROTO_ICMP
    with network.watched() as wire:
        assert raw(network.sandbox, host, ping, echo_request(host)) == PROHIBITED[host]
        for protocol in (47, 50, 132, 136):
            assert raw(network.sandbox, host, protocol, bytes(32)) == PROHIBITED[host]
        # Of these the kernel wants a checksum before it answers; without one they are dropped.
        for protocol in (2, 4, 41, 253):
            told = raw(network.sandbox, host, protocol, bytes(32), patience=0.2)
            assert told in {PROHIBITED[host], SILENCE}
        assert wire.packets() == []


@BOTH
@pytest.mark.usefixtures("proxy", "forwards")
def test_questions_come_to_the_resolver_whoever_was_asked(network: Network, resolver: Server, host: str) -> None:
    """A server elsewhere, and the gateway: by UDP and TCP."""
    confine(network, LANS)
    own = GATEWAY6 if ":" in host else GATEWAY
    with network.watched() as wire:
        for asked in (host, own):
            assert udp(network.sandbox, asked, 53) == "datagram"
            assert tcp(network.sandbox, asked, 53) == "resolver"
        assert len(resolver.seen) == 4
        assert wire.packets() == []


@BOTH
@pytest.mark.usefixtures("proxy", "forwards")
def test_without_a_resolver_questions_are_refused(network: Network, host: str) -> None:
    """TCP as well: the proxy's port for redirected connections is no resolver."""
    confine(network, replace(LANS, dns_port=None))
    with network.watched() as wire:
        for asked in (host, GATEWAY6 if ":" in host else GATEWAY):
            assert udp(network.sandbox, asked, 53) == PROHIBITED[asked]
            assert tcp(network.sandbox, asked, 53) == "ECONNREFUSED"
        assert wire.packets() == []


@BOTH
@pytest.mark.usefixtures("forwards")
def test_without_the_proxy_nothing_passes(network: Network, host: str) -> None:
    """A proxy that is restarted or was killed closes the road; one that comes back opens it, with no rule touched."""
    confine(network, LANS)
    with Server(network.internet, 443, own_name) as outside, network.watched() as wire:
        assert tcp(network.sandbox, host, 443) == "ECONNREFUSED"
        assert udp(network.sandbox, host, 53) == "ECONNREFUSED"
        with Server(network.gateway, 3129, lambda _: b"proxy"):
            assert tcp(network.sandbox, host, 443) == "proxy"
        assert tcp(network.sandbox, host, 443) == "ECONNREFUSED"
        assert outside.seen == []
        assert wire.packets() == []


@pytest.mark.usefixtures("proxy", "resolver", "forwards")
@pytest.mark.parametrize("own", [GATEWAY, GATEWAY6])
def test_the_gateways_own_ports_are_refused(network: Network, own: str) -> None:
    """Its ssh, the proxy's admin port, and the port of redirected connections, which nobody may address."""
    confine(network, replace(LANS, confined=replace(LANS.confined, open_ports=(3128,))))  # type: ignore[type-var]
    with Server(network.gateway, 22, own_name) as ssh, Server(network.gateway, 3128, lambda _: b"explicit"):
        assert tcp(network.sandbox, own, 22) == "ECONNREFUSED"
        assert udp(network.sandbox, own, 22) == PROHIBITED[own]
        assert tcp(network.sandbox, own, 3129) == "ECONNREFUSED"
        assert tcp(network.sandbox, own, 9) == "ECONNREFUSED"
        assert tcp(network.sandbox, "198.51.100.1" if own == GATEWAY else "2001:db8:64::1", 22) == "ECONNREFUSED"
        assert ssh.seen == []
        assert tcp(network.sandbox, own, 3128) == "explicit"
        assert udp(network.sandbox, own, 3128) == PROHIBITED[own]
        own_is_free = tcp(network.internet, "198.51.100.1" if own == GATEWAY else "2001:db8:64::1", 22)
        assert own_is_free.endswith(" 22")


@pytest.mark.usefixtures("proxy", "resolver", "forwards")
@pytest.mark.parametrize("peer", [NEIGHBOUR, NEIGHBOUR6])
def test_sandboxes_do_not_reach_each_other(network: Network, peer: str) -> None:
    """TCP comes to the proxy, which judges it; the rest is refused."""
    confine(network, LANS)
    with Server(network.neighbour, 443, own_name) as other:
        assert tcp(network.sandbox, peer, 443) == f"{peer} 443"
        assert udp(network.sandbox, peer, 443) in PROHIBITED.values()
        assert other.seen == []


@pytest.mark.usefixtures("proxy")
def test_the_internet_does_not_reach_a_sandbox(network: Network) -> None:
    """Nothing is forwarded inwards either: an answer would be a way out."""
    confine(network, LANS)
    with Server(network.sandbox, 443, own_name) as inside:
        assert tcp(network.internet, "10.66.1.2", 443) == "ECONNREFUSED"
        assert inside.seen == []


@BOTH
def test_a_connection_that_was_open_before_ends(network: Network, host: str) -> None:
    """Rules for new connections only would leave a road to whoever was there first."""
    with Server(network.internet, 443, lambda carrier: carrier.recv(100)) as outside:
        sock = network.sandbox.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        with sock:
            sock.settimeout(5)
            sock.connect((host, 443))
            confine(network, LANS)
            with network.watched() as wire:
                sock.send(b"late")
                with pytest.raises(ConnectionResetError):
                    sock.recv(100)
                assert wire.packets() == []
            assert outside.seen == []


@pytest.mark.parametrize("own", [GATEWAY, GATEWAY6])
@pytest.mark.parametrize(
    "confined",
    [Subnet(interfaces=("lan0",)), Subnet(sources=(parse_source("10.66.1.0/24"), parse_source("fd66:1::/64")))],
    ids=["interface", "sources"],
)
def test_a_connection_to_the_gateway_from_before_does_not_go_on(network: Network, own: str, confined: Subnet) -> None:
    """Nor if the gateway is the first to speak in it, which makes it look like one that the gateway began."""
    with network.gateway.listener(own, 22) as listening, network.sandbox.socket(listening.family) as sock:
        # The neighbours may not know one another yet.
        sock.settimeout(10)
        sock.connect((own, 22))
        accepted, _ = listening.accept()
        with accepted:
            for end in (sock, accepted):
                end.settimeout(0.5)
            confine(network, Gateway(confined))
            accepted.send(b"first")
            with pytest.raises(OSError):  # noqa: PT011 -- refused, or silence
                sock.recv(100)
            with contextlib.suppress(ConnectionError):
                sock.send(b"late")
            with pytest.raises(OSError):  # noqa: PT011 -- likewise
                accepted.recv(100)


@pytest.mark.usefixtures("proxy")
def test_the_gateway_itself_is_free(network: Network) -> None:
    """It reaches the internet and the sandboxes, as the proxy must."""
    confine(network, LANS)
    with Server(network.internet, 443, own_name), Server(network.sandbox, 443, own_name):
        assert tcp(network.gateway, ELSEWHERE, 443) == f"{ELSEWHERE} 443"
        assert tcp(network.gateway, "10.66.1.2", 443) == "10.66.1.2 443"


@pytest.mark.usefixtures("proxy", "resolver", "forwards")
def test_refused_ipv6_is_refused_by_rule(network: Network) -> None:
    """Also on a gateway that has addresses, a listener and a route for it; IPv4 goes on."""
    confine(network, replace(LANS, ipv6=Ipv6.REJECT))
    with network.watched() as wire:
        assert tcp(network.sandbox, ELSEWHERE6, 443) == "ECONNREFUSED"
        assert udp(network.sandbox, ELSEWHERE6, 443) == "EACCES"
        assert tcp(network.sandbox, GATEWAY6, 53) == "ECONNREFUSED"
        assert udp(network.sandbox, GATEWAY6, 5300) == "EACCES"
        assert tcp(network.sandbox, ELSEWHERE, 443) == f"{ELSEWHERE} 443"
        assert wire.packets() == []


@pytest.mark.usefixtures("proxy", "resolver", "forwards")
@pytest.mark.parametrize(
    "gateway",
    [
        LANS,
        Gateway(Subnet(pairs=(parse_pair("one=lan0:10.66.1.2"), parse_pair("two=lan1:10.66.2.2")))),
        Gateway(Subnet(interfaces=("lan0",), sources=(parse_source("10.66.1.2"),))),
    ],
    ids=["routed back", "pairs", "sources"],
)
def test_a_source_address_that_is_not_the_sandboxs_is_dropped(
    network: Network, proxy: Server, gateway: Gateway
) -> None:
    """Of another sandbox, of nobody, and of the gateway: without an answer, which would go to whoever has it."""
    spoofed = (NEIGHBOUR, "192.0.2.7", GATEWAY)
    confine(network, gateway)
    for source in spoofed:
        network.sandbox.ip("address", "add", f"{source}/32", "dev", "lo")
    try:
        with network.watched() as wire:
            for source in spoofed:
                assert udp(network.sandbox, ELSEWHERE, 53, source=source, patience=0.3) == SILENCE
            assert wire.packets() == []
    finally:
        for source in spoofed:
            network.sandbox.ip("address", "del", f"{source}/32", "dev", "lo")
    # While it has the gateway's address itself, it cannot ask anew where on the link that is.
    assert tcp(network.sandbox, ELSEWHERE, 443) == f"{ELSEWHERE} 443"
    assert len(proxy.seen) == 1


@pytest.mark.usefixtures("proxy")
def test_a_sandbox_alone_behind_its_interface_has_one_address(network: Network) -> None:
    """A pair leaves nothing else: not another address of the same net, and no IPv6 if the pair has none."""
    confine(network, Gateway(Subnet(pairs=(parse_pair("one=lan0:10.66.1.2"),))))
    network.sandbox.ip("address", "add", "10.66.1.77/24", "dev", "eth0")
    try:
        assert udp(network.sandbox, ELSEWHERE, 443, source="10.66.1.77", patience=0.3) == SILENCE
        assert udp(network.sandbox, ELSEWHERE6, 443, patience=0.3) == SILENCE
        assert tcp(network.sandbox, ELSEWHERE, 443) == f"{ELSEWHERE} 443"
    finally:
        network.sandbox.ip("address", "del", "10.66.1.77/24", "dev", "eth0")


@pytest.mark.usefixtures("proxy", "forwards")
def test_with_sources_alone_nobody_is_forwarded(network: Network) -> None:
    """Else taking an address that is not among the sources would be a way out."""
    confine(network, Gateway(Subnet(sources=(parse_source("10.66.1.0/24"),)), ipv6=Ipv6.REJECT))
    with Server(network.internet, 443, own_name) as outside, network.watched() as wire:
        assert tcp(network.sandbox, ELSEWHERE, 443) == f"{ELSEWHERE} 443"
        assert udp(network.sandbox, ELSEWHERE, 443) == "EHOSTUNREACH"
        assert udp(network.neighbour, ELSEWHERE, 443, patience=0.3) in {"EHOSTUNREACH", SILENCE}
        assert udp(network.sandbox, ELSEWHERE6, 443, patience=0.3) in {"EACCES", SILENCE}
        assert outside.seen == []
        assert wire.packets() == []
