"""What a sandbox behind a gateway can do while the proxy is dead, or while somebody has removed the rules."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from rig.gateway_world import UP
from rig.internet import ATTACKER, ATTACKER6, DATABASE, ORIGIN, connect, ended, tool
from rig.packets import Packet
from rig.roads_out import SILENCE, tcp, udp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rig.gateway_world import GatewayWorld

pytestmark = pytest.mark.e2e

ROADS = [(ATTACKER, 443), (ATTACKER6, 443), (ATTACKER, 53), (ATTACKER6, 53), (ORIGIN, 80)]


def status(behind: GatewayWorld) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of `egress gateway status`."""
    done = behind.network.gateway.egress("gateway", "status", "--json", apart=True)
    return done.returncode, json.loads(done.stdout)


def address_of(behind: GatewayWorld, name: str) -> str:
    """Where the sandbox is told that a name is."""
    return tool(behind.network.sandbox, "dig", "+short", "+tries=1", "+timeout=5", name).stdout.strip()


def curl(behind: GatewayWorld) -> str:
    """What an allowed request brings."""
    done = tool(behind.network.sandbox, "curl", "-sS", "-m", "10", "--cacert", str(behind.ca), "https://site.test/")
    return done.stdout or done.stderr


def ruleset(behind: GatewayWorld) -> str:
    """All rules of the gateway, without what they counted."""
    return behind.network.gateway.run(["nft", "-s", "list", "ruleset"]).stdout


@pytest.fixture
def whole(behind: GatewayWorld) -> Iterator[GatewayWorld]:
    """The world, which works before the test, and after it again."""
    rules = ruleset(behind)
    assert curl(behind) == "ok allowed"
    try:
        yield behind
    finally:
        behind.network.forward(1)
        if ruleset(behind) != rules:
            behind.gateway(*UP)
        if behind.proxy.popen.poll() is not None:
            behind.start()
    assert curl(behind) == "ok allowed"


def test_a_killed_proxy_leaves_nothing_open(whole: GatewayWorld) -> None:
    """What was under way ends, new connections and questions are refused, and with a new one all is as it was."""
    before = {name: address_of(whole, name) for name in ("site.test", "db.test")}
    with connect(whole.network.sandbox, before["db.test"], DATABASE) as carrier:
        carrier.sendall(b"one")
        assert carrier.recv(100) == b"one"
        whole.kill()
        assert ended(carrier) == b""
    with whole.nothing_leaves():
        for host, port in [*ROADS, (before["site.test"], 443), (before["db.test"], DATABASE)]:
            assert tcp(whole.network.sandbox, host, port) == "ECONNREFUSED"
            assert udp(whole.network.sandbox, host, port) in {"ECONNREFUSED", "EHOSTUNREACH", "EACCES"}
        assert "Could not resolve" in curl(whole)
    code, told = status(whole)
    assert (code, told["state"], told["ready"]) == (1, "in-force", False)
    whole.start()
    assert {name: address_of(whole, name) for name in before} == before
    assert curl(whole) == "ok allowed"


@pytest.mark.parametrize(
    ("removal", "state"),
    [
        ("flush ruleset", "absent"),
        ("flush chain inet egress redirected", "drifted"),
    ],
)
def test_removed_rules_are_told_and_without_forwarding_nothing_passes(
    whole: GatewayWorld, removal: str, state: str
) -> None:
    """`status` fails until `up` has set them again; the proxy dials itself, so that the host need not forward."""
    whole.network.forward(0)
    whole.network.gateway.nft(removal)
    code, told = status(whole)
    assert (code, told["state"]) == (1, state)
    with whole.nothing_leaves():
        for host, port in ROADS:
            assert not tcp(whole.network.sandbox, host, port, patience=0.1).startswith("ok")
            assert udp(whole.network.sandbox, host, port, patience=0.1) != "datagram"
    whole.gateway(*UP)
    assert status(whole)[0] == 0
    assert curl(whole) == "ok allowed"


def test_on_a_host_that_forwards_the_rules_are_what_holds(whole: GatewayWorld) -> None:
    """The control of all the others: without the rules the same packets are on the internet, and are seen there."""
    whole.network.gateway.nft("flush ruleset")
    with whole.watched() as packets:
        assert tcp(whole.network.sandbox, ATTACKER, 443, patience=0.3) == SILENCE
        assert udp(whole.network.sandbox, ATTACKER, 443) == "datagram"
        assert tcp(whole.network.sandbox, ATTACKER6, 80, patience=0.3) == SILENCE
        assert udp(whole.network.sandbox, ATTACKER6, 53, patience=0.3) == "ECONNREFUSED"
        seen = packets()
    opened = {packet for packet in seen if packet.opens}
    assert opened == {Packet("tcp", ATTACKER, 443, opens=True), Packet("tcp", ATTACKER6, 80, opens=True)}
    assert {packet for packet in seen if packet.protocol == "udp"} == {
        Packet("udp", ATTACKER, 443),
        Packet("udp", ATTACKER6, 53),
    }
