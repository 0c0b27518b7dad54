"""The rules as text: each form beside the file that was read by people, and taken by nft as it stands."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from rig.netns import Machine

from egress.confine.gateway import Gateway, Ipv6, Subnet, ThisHost, of_options, options, parse_pair
from egress.confine.gateway_subnet_text import mark_of
from egress.confine.gateway_text import compared_text, rules_text

GOLDEN = Path(__file__).parent / "golden"
FORMS = {
    "interface": Gateway(Subnet(interfaces=("lan0",))),
    "interfaces-dns": Gateway(Subnet(interfaces=("lan0", "lan1"), open_ports=(3128, 8080)), dns_port=5300),
    "interface-sources": Gateway(Subnet(interfaces=("lan0",), sources=(ip_network("10.8.0.0/24"),)), ipv6=Ipv6.REJECT),
    "pairs": Gateway(Subnet(pairs=(parse_pair("a=veth7:10.8.0.7"), parse_pair("a=veth7:fd08::7")))),
    "sources": Gateway(
        Subnet(sources=tuple(map(ip_network, ("10.8.0.0/25", "10.8.0.128/25", "fd08::/64")))), dns_port=5300
    ),
    "tproxy": Gateway(Subnet(interfaces=("lan0",), tproxy=True), dns_port=5300, table="egress_2"),
    "this-host-uid": Gateway(ThisHost(uids=(1001, 1002), closed_ports=(9464,)), dns_port=5300),
    "this-host-except": Gateway(ThisHost(except_uids=(3128,)), ipv6=Ipv6.REJECT),
}
CLOSED = {"interface-closed": FORMS["tproxy"].left_closed(), "this-host-closed": FORMS["this-host-uid"].left_closed()}
ALL = FORMS | CLOSED


@pytest.mark.parametrize("name", ALL)
def test_the_rules_are_those_that_were_read(name: str) -> None:
    """A change of any rule shows up as a change of a file that somebody has to read."""
    assert rules_text(ALL[name]) == (GOLDEN / f"{name}.nft").read_text()


@pytest.mark.e2e
def test_nft_takes_every_form() -> None:
    """As they stand, and asleep beside themselves under the name for comparing."""
    machine = Machine("text")
    try:
        for gateway in ALL.values():
            for text in (rules_text(gateway), compared_text(gateway, "egress-compared")):
                done = machine.run(["nft", "-c", "-f", "-"], text=text)
                assert done.returncode == 0, done.stderr + text
    finally:
        machine.close()


@pytest.mark.parametrize("name", ALL)
def test_a_table_says_what_it_was_made_for(name: str) -> None:
    """Reading back what was written gives the same value, so `status` and `down` need no file."""
    assert of_options(options(ALL[name])) == ALL[name]
    for option, text in options(ALL[name]):
        told = f"{option} {text}".strip()
        assert f'continue comment "{told}"' in rules_text(ALL[name])
        # What nftables holds in a comment.
        assert len(told) < 128


def test_the_longest_sandbox_fits_a_comment() -> None:
    """Else such a gateway could not be set."""
    pair = parse_pair(f"{'a' * 63}={'i' * 15}:{'fd08:1111:2222:3333:4444:5555:6666:7777'}")
    (told,) = (f"{name} {text}" for name, text in options(Gateway(Subnet(pairs=(pair,)))) if name == "sandbox")
    assert len(told) <= 127


@pytest.mark.parametrize("name", CLOSED)
def test_closed_rules_redirect_nothing(name: str) -> None:
    """And open none of the proxy's ports."""
    text = rules_text(CLOSED[name])
    for word in ("redirect to", "tproxy to", "dport 5300 accept", "status dnat", "meta mark"):
        assert word not in text


def test_each_table_has_a_mark_of_its_own() -> None:
    """One gateway's `down` must not take away another one's route."""
    assert mark_of("egress") != mark_of("egress_2")


def test_no_rule_rests_on_the_policy_of_a_chain() -> None:
    """In every form, whoever is confined and let through by nothing comes to a rule that refuses."""
    for gateway in ALL.values():
        text = rules_text(gateway)
        assert "jump refuse" in text
        assert text.rstrip("}\n\t ").endswith("reject with icmpx admin-prohibited")
