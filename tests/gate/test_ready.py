"""The last look: the connection that is about to carry a request is judged as it is, at each use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from workbench import Bench, request

from egress.policy import Protocol

if TYPE_CHECKING:
    from egress.gate.exchange import Exchange

type Make = Callable[..., Bench]

PUBLIC = "93.184.215.14"
POLICY = """
rules:
  - deny: 198.51.100.0/24
  - {allow: api.test}
  - {allow: 8.8.8.8}
  - {allow: private.test, addresses: [10.0.0.0/8]}
"""


def admitted(bench: Bench, name: str, address: str, protocol: Protocol = Protocol.HTTPS) -> Exchange:
    """An admitted request."""
    asked = request(name, 443 if protocol is Protocol.HTTPS else 80, protocol)
    return asyncio.run(bench.allowed(asked)) if address else pytest.fail("no address")


@pytest.mark.parametrize(
    ("peer", "goes"),
    [
        (PUBLIC, True),
        ("8.8.8.8", True),
        ("10.0.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("198.51.100.7", False),
        ("::ffff:127.0.0.1", False),
    ],
)
def test_a_connection_to_a_peer_that_is_not_permitted_carries_nothing(*, bench: Make, peer: str, goes: bool) -> None:
    """The peer's own address is judged under the rule that allowed, whatever was resolved before."""
    made = bench(POLICY, {"api.test": PUBLIC})
    exchange = admitted(made, "api.test", PUBLIC)
    problem = made.gate.ready(exchange, ip_address(peer), verified_tls=True)
    assert (problem == "") is goes
    assert exchange.address == (peer if goes else PUBLIC)


def test_an_address_is_dialled_exactly(bench: Make) -> None:
    """A destination that was named as an address has no other, however public."""
    made = bench(POLICY)
    exchange = admitted(made, "8.8.8.8", "8.8.8.8")
    assert made.gate.ready(exchange, ip_address("8.8.8.8"), verified_tls=True) == ""
    assert made.gate.ready(exchange, ip_address("8.8.4.4"), verified_tls=True) != ""


@pytest.mark.parametrize(
    ("protocol", "verified", "goes"),
    [
        (Protocol.HTTPS, True, True),
        (Protocol.HTTPS, False, False),
        (Protocol.HTTP, False, True),
        (Protocol.HTTP, True, True),
    ],
)
def test_tls_must_have_been_verified(*, bench: Make, protocol: Protocol, verified: bool, goes: bool) -> None:
    """A request over TLS goes on a connection whose certificate we verified, or not at all."""
    made = bench(POLICY, {"api.test": PUBLIC})
    exchange = admitted(made, "api.test", PUBLIC, protocol)
    assert (made.gate.ready(exchange, ip_address(PUBLIC), verified_tls=verified) == "") is goes


def test_ready_judges_by_the_generation_that_admitted(bench: Make) -> None:
    """Reload is atomic: a request is judged by one policy from its first step to its last."""
    made = bench(POLICY, {"private.test": "10.0.0.1"})
    exchange = admitted(made, "private.test", "10.0.0.1")
    made.gate.generation = made.generation("rules: []")
    assert made.gate.ready(exchange, ip_address("10.0.0.1"), verified_tls=True) == ""
