"""Putting rules in force, looking after them, taking them back; and what is refused before anything is touched."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from rig.netns import ELSEWHERE, Network, Server, own_name
from rig.roads_out import SILENCE, tcp, udp

from egress.confine import gateway_nft
from egress.confine.gateway import Gateway, Ipv6, Subnet, ThisHost, parse_pair
from egress.confine.gateway_status import GatewayStatus, State, status
from egress.confine.gateway_up import automatic_ipv6, down, notes, up
from egress.errors import GatewayError

pytestmark = pytest.mark.e2e

LAN = Gateway(Subnet(interfaces=("lan0",)))
LAN_UP = ("up", "--interface", "lan0")
LESS = "-net_admin"


def rules(network: Network) -> str:
    """All rules of the gateway, without what they counted."""
    return network.gateway.run(["nft", "-s", "list", "ruleset"]).stdout


def look(network: Network, wanted: Gateway | None = None) -> GatewayStatus:
    """The status of the gateway's table."""
    return network.gateway.call(lambda: status("egress", wanted))


def test_twice_is_once(network: Network) -> None:
    """The same rules again are the same rules; others take their place."""
    network.gateway.call(lambda: up(LAN))
    once = rules(network)
    network.gateway.call(lambda: up(LAN))
    assert rules(network) == once
    network.gateway.call(lambda: up(replace(LAN, port=3130)))
    assert "3129" not in rules(network)


def test_down_opens_and_says_whether_there_was_anything(network: Network) -> None:
    """On a host that forwards, no rules means no borders."""
    network.gateway.call(lambda: up(LAN))
    assert network.gateway.call(lambda: down("egress", leave_closed=False))
    assert rules(network) == ""
    with Server(network.internet, 443, own_name):
        assert tcp(network.sandbox, ELSEWHERE, 443) == f"{ELSEWHERE} 443"
    assert not network.gateway.call(lambda: down("egress", leave_closed=False))


def test_left_closed_nothing_passes_even_with_a_proxy(network: Network, proxy: Server) -> None:
    """And `status` says so, and `down` opens it after all."""
    network.gateway.call(lambda: up(LAN))
    assert network.gateway.call(lambda: down("egress", leave_closed=True))
    with network.watched() as wire:
        assert tcp(network.sandbox, ELSEWHERE, 443) == "ECONNREFUSED"
        assert udp(network.sandbox, ELSEWHERE, 443) == "EHOSTUNREACH"
        assert wire.packets() == []
    assert proxy.seen == []
    found = look(network)
    assert (found.state, found.ready) == (State.CLOSED, False)
    assert network.gateway.call(lambda: down("egress", leave_closed=False))
    assert rules(network) == ""


def test_rules_in_force_and_served_are_ready(network: Network, proxy: Server) -> None:
    """What passed and what did not is counted for each interface."""
    gateway = replace(LAN, confined=Subnet(interfaces=("lan0", "lan1")))
    network.gateway.call(lambda: up(gateway))
    tcp(network.sandbox, ELSEWHERE, 443)
    udp(network.sandbox, ELSEWHERE, 443)
    found = look(network)
    assert (found.state, found.ready, found.differences, found.silent) == (State.IN_FORCE, True, (), ())
    assert found.gateway == gateway
    assert found.counts["lan0"]["redirected"].packets == len(proxy.seen) == 1
    assert found.counts["lan0"]["rejected"].packets == 1
    assert found.counts["lan1"]["redirected"].packets == 0
    assert look(network, gateway).ready


def test_a_port_that_nobody_listens_on_is_told(network: Network) -> None:
    """Closed is not ready."""
    network.gateway.call(lambda: up(replace(LAN, dns_port=5300)))
    found = look(network)
    assert (found.state, found.ready) == (State.IN_FORCE, False)
    assert len(found.silent) == 6


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("flush table inet egress", "flushed or changed"),
        ("flush chain inet egress forwarding", 'missing: forwarding: iifname "lan0"'),
        ("insert rule inet egress arriving accept", "not ours: arriving: accept"),
        ("add chain inet egress more", "not ours: more: chain more"),
        ("add table inet egress { flags dormant; }", "flags dormant"),
    ],
)
@pytest.mark.usefixtures("proxy")
def test_changed_rules_are_told_and_up_restores_them(network: Network, change: str, told: str) -> None:
    """Each by itself, with what was changed."""
    network.gateway.call(lambda: up(LAN))
    network.gateway.nft(change)
    found = look(network)
    assert (found.state, found.ready) == (State.DRIFTED, False)
    assert told in "\n".join(found.differences)
    network.gateway.call(lambda: up(LAN))
    assert look(network).ready


def test_rules_for_something_else_are_told(network: Network) -> None:
    """Whole in themselves, and not what was asked for."""
    network.gateway.call(lambda: up(LAN))
    found = look(network, replace(LAN, port=3130))
    assert found.state is State.DRIFTED
    assert any("3130" in line for line in found.differences)


def test_an_interface_that_is_gone_is_told(network: Network) -> None:
    """What comes back under another name is not confined."""
    network.gateway.ip("link", "add", "br0", "type", "bridge")
    network.gateway.call(lambda: up(Gateway(Subnet(interfaces=("br0",)), ipv6=Ipv6.REJECT)))
    network.gateway.ip("link", "del", "br0")
    assert look(network).differences == ("missing: the interface br0",)


def test_at_the_same_time_they_take_turns(network: Network) -> None:
    """A check that runs while somebody looks, or sets the rules anew, must not find half of either."""
    network.gateway.call(lambda: up(LAN))
    with ThreadPoolExecutor() as pool:
        asked = [
            pool.submit(network.gateway.egress, "gateway", *words, apart=True) for words in (("status",), LAN_UP) * 3
        ]
        told = [each.result() for each in asked]
    assert [done.stderr for done in told] == [""] * 6
    assert "NOT AS SET" not in "".join(done.stdout for done in told)


HOLDING = """
import fcntl, os, sys
os.setuid(65534)
with open("/proc/self/ns/net") as namespace:
    fcntl.flock(namespace, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_nobody_can_keep_the_rules_from_being_closed(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any user of the namespace can hold the lock, and who does so for ever is passed over."""
    monkeypatch.setattr(gateway_nft, "_TURN_SECONDS", 0.1)
    network.gateway.call(lambda: up(LAN))
    command = network.gateway.command(sys.executable, "-c", HOLDING)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert network.gateway.call(lambda: down("egress", leave_closed=True))
        assert look(network).state is State.CLOSED
        assert holder.poll() is None


def test_comparing_leaves_nothing_and_changes_nothing(network: Network) -> None:
    """The rules to compare with are asleep, and go away again."""
    network.gateway.call(lambda: up(LAN))
    before = rules(network)
    look(network)
    assert rules(network) == before


def test_a_table_of_somebody_else_is_left_alone(network: Network) -> None:
    """By `up`, `down` and `status`, whatever it is called."""
    network.gateway.nft("table inet egress {\nchain c {\n}\n}\n")
    before = rules(network)
    for act in (lambda: up(LAN), lambda: down("egress", leave_closed=False)):
        with pytest.raises(GatewayError, match="was not made by `egress gateway`"):
            network.gateway.call(act)
    assert look(network).state is State.FOREIGN
    assert rules(network) == before


def test_no_table_is_absent(network: Network) -> None:
    """Nothing is confined, and that is told."""
    assert look(network).state is State.ABSENT


@pytest.mark.parametrize(
    ("gateway", "message"),
    [
        (Gateway(Subnet(interfaces=("lan9",))), "there is no interface `lan9`"),
        (Gateway(Subnet(interfaces=("wan0",))), "`wan0` is this host's own way out"),
        (Gateway(Subnet(interfaces=("port0",)), ipv6=Ipv6.REJECT), "`port0` is a part of `br0`"),
        (Gateway(Subnet(interfaces=("br0",))), "`br0` has no IPv6 address"),
    ],
)
def test_what_the_host_is_not_like_is_refused(network: Network, gateway: Gateway, message: str) -> None:
    """Before anything is changed."""
    host = network.gateway
    for words in ("add br0 type bridge", "add port0 type veth peer name port1", "set port0 master br0"):
        host.ip("link", *words.split())
    try:
        with pytest.raises(GatewayError) as refused:
            host.call(lambda: up(gateway))
    finally:
        host.ip("link", "del", "port0")
        host.ip("link", "del", "br0")
    assert message in refused.value.message
    assert refused.value.hint
    assert rules(network) == ""


def test_a_failure_leaves_what_was_there(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction: a rule that the kernel does not take takes the others with it."""
    network.gateway.call(lambda: up(LAN))
    before = rules(network)
    broken = gateway_nft.rules_text(LAN).replace("redirect to :3129", "redirect to :banana")
    monkeypatch.setattr(gateway_nft, "rules_text", lambda _: broken)
    with pytest.raises(GatewayError, match="the kernel does not take the rules, nothing was changed"):
        network.gateway.call(lambda: up(LAN))
    assert rules(network) == before


def test_routes_that_cannot_be_set_leave_closed_rules(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules come first, so whatever fails after them fails closed."""

    def fail(_: Gateway) -> None:
        raise GatewayError("no routes")

    monkeypatch.setattr("egress.confine.gateway_up.set_routes", fail)
    with pytest.raises(GatewayError, match="no routes"):
        network.gateway.call(lambda: up(Gateway(Subnet(interfaces=("lan0",), tproxy=True))))
    with Server(network.internet, 443, own_name), network.watched() as wire:
        assert tcp(network.sandbox, ELSEWHERE, 443, patience=0.5) in {"ECONNREFUSED", SILENCE}
        assert wire.packets() == []


def test_without_nft_or_privilege_it_is_refused(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install, and what needs no root."""
    with monkeypatch.context() as patched:
        patched.setattr(gateway_nft, "_PLACES", ("/nowhere",))
        with pytest.raises(GatewayError, match="`nft` is not there; install the package nftables"):
            network.gateway.call(lambda: up(LAN))
    dropped = network.gateway.egress("gateway", "up", "--interface", "lan0", before=("setpriv", "--bounding-set", LESS))
    assert "this needs root, or the capability NET_ADMIN" in dropped.stderr
    assert dropped.returncode == 1


def test_ipv6_follows_the_interfaces(network: Network) -> None:
    """Redirected where each of them has an address for that, else refused by rule."""
    host = network.gateway
    host.ip("link", "add", "br0", "type", "bridge")
    try:
        found = [
            host.call(lambda confined=confined: automatic_ipv6(confined))
            for confined in (Subnet(interfaces=("lan0",)), Subnet(interfaces=("lan0", "br0")), ThisHost(uids=(1,)))
        ]
    finally:
        host.ip("link", "del", "br0")
    assert found == [Ipv6.REDIRECT, Ipv6.REJECT, Ipv6.REDIRECT]


def test_what_is_not_prevented_is_said(network: Network) -> None:
    """A segment that several sandboxes may share; none where each has an interface of its own and nothing forwards."""
    shared = network.gateway.call(lambda: list(notes(LAN)))
    assert "can take each other's address" in shared[0]
    assert "forwards IPv4 and IPv6" in shared[1]
    network.forward(0)
    alone = Gateway(Subnet(pairs=(parse_pair("a=lan0:10.66.1.2"),)))
    assert network.gateway.call(lambda: list(notes(alone))) == []


@pytest.mark.usefixtures("proxy")
def test_the_commands_do_and_tell_it(network: Network) -> None:
    """From nothing to rules, status, closed, and nothing again, with the exit status that a unit relies on."""
    egress = network.gateway.egress
    told = egress("gateway", "up", "--interface", "lan0")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("in force: egress gateway up --table egress --port 3129 --ipv6 redirect")
    assert "note: lan0: sandboxes on one segment can take each other's address" in told.stdout
    told = egress("gateway", "status", "--json")
    assert (told.returncode, json.loads(told.stdout)["state"]) == (0, "in-force")
    network.gateway.nft("flush chain inet egress entering")
    told = egress("gateway", "status", "--interface", "lan0")
    assert told.returncode == 1
    assert "NOT AS SET" in told.stdout
    assert 'missing: entering: iifname "lan0"' in told.stdout
    assert "closed: everything is refused" in egress("gateway", "down", "--leave-closed").stdout
    assert "this host forwards IPv4 and IPv6" in egress("gateway", "down").stdout
    assert "there was no table egress" in egress("gateway", "down").stdout
    assert egress("gateway", "status").returncode == 1
