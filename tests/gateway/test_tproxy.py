"""With TPROXY the proxy gets the connection as it was sent; everything else is closed as with REDIRECT."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rig.netns import ELSEWHERE, ELSEWHERE6, GATEWAY, Network, Server, own_name
from rig.roads_out import SILENCE, tcp, udp

from egress.confine.gateway import Gateway, Ipv6, Subnet
from egress.confine.gateway_status import State, status
from egress.confine.gateway_up import down, up

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

LAN = Gateway(Subnet(interfaces=("lan0",), tproxy=True), dns_port=5300)


@pytest.fixture
def transparent(network: Network) -> Iterator[Server]:
    """The proxy's transparent port, as TPROXY needs it."""
    with Server(network.gateway, 3129, own_name, transparent=True) as server:
        yield server


@pytest.fixture(params=[1, 0], ids=["forwarding", "not forwarding"])
def confined(request: pytest.FixtureRequest, network: Network) -> Network:
    """The network with the rules in force."""
    network.forward(request.param)
    network.gateway.call(lambda: up(LAN))
    return network


@pytest.mark.usefixtures("transparent", "resolver")
def test_tcp_comes_to_the_proxy_and_nothing_else_passes(confined: Network) -> None:
    """The socket's own name is where the connection wanted to go."""
    with confined.watched() as wire:
        for host, refused in ((ELSEWHERE, "EHOSTUNREACH"), (ELSEWHERE6, "EACCES")):
            assert [tcp(confined.sandbox, host, port) for port in (22, 443)] == [f"{host} 22", f"{host} 443"]
            assert udp(confined.sandbox, host, 443) == refused
            assert udp(confined.sandbox, host, 53) == "datagram"
            assert tcp(confined.sandbox, host, 53) == "resolver"
        assert tcp(confined.sandbox, GATEWAY, 3129) == "ECONNREFUSED"
        assert tcp(confined.sandbox, GATEWAY, 22) == "ECONNREFUSED"
        assert wire.packets() == []


def test_without_the_proxy_nothing_passes(confined: Network) -> None:
    """Refused at once, by the rules themselves."""
    with Server(confined.internet, 443, own_name) as outside, confined.watched() as wire:
        for host in (ELSEWHERE, ELSEWHERE6):
            assert tcp(confined.sandbox, host, 443) == "ECONNREFUSED"
        assert outside.seen == []
        assert wire.packets() == []


@pytest.mark.usefixtures("transparent")
def test_without_its_route_it_is_closed_and_status_says_so(confined: Network) -> None:
    """A route that somebody removed leads nowhere, not outside."""
    confined.gateway.ip("rule", "del", "fwmark", "0x6567ff78")
    with confined.watched() as wire:
        assert tcp(confined.sandbox, ELSEWHERE, 443, patience=0.5) in {SILENCE, "ECONNREFUSED"}
        assert wire.packets() == []
    found = confined.gateway.call(lambda: status("egress", None))
    assert found.state is State.DRIFTED
    assert "ip -4 rule add fwmark 0x6567ff78" in found.differences[0]


def test_its_routes_come_and_go_with_the_rules(network: Network) -> None:
    """Setting twice leaves one; `down`, and rules without TPROXY, leave none."""
    gateway = network.gateway

    def routes() -> list[int]:
        return [gateway.ip(family, "rule", "show").count("fwmark") for family in ("-4", "-6")]

    for _ in range(2):
        gateway.call(lambda: up(LAN))
        assert routes() == [1, 1]
    gateway.call(lambda: up(replace(LAN, ipv6=Ipv6.REJECT)))
    assert routes() == [1, 0]
    gateway.call(lambda: up(Gateway(Subnet(interfaces=("lan0",)))))
    assert routes() == [0, 0]
    gateway.call(lambda: up(LAN))
    gateway.call(lambda: down("egress", leave_closed=False))
    assert routes() == [0, 0]
    assert gateway.ip("route", "show", "table", "all").count("table 170") == 0
