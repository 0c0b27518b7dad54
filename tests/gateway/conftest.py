"""The network that the tests of the gateway are run in: one for each file, with nothing in force before each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rig.netns import Network, Server, original_destination

from egress.confine.gateway_routes import drop_routes

if TYPE_CHECKING:
    from collections.abc import Iterator

PORT, DNS_PORT = 3129, 5300


@pytest.fixture(scope="module")
def machines() -> Iterator[Network]:
    """The machines, their links and routes."""
    with Network() as made:
        yield made


@pytest.fixture
def network(machines: Network) -> Iterator[Network]:
    """The machines, with no rules and no conntrack entry of an earlier test that would matter."""
    yield machines
    machines.gateway.nft("flush ruleset")
    machines.gateway.call(lambda: drop_routes("egress"))
    machines.forward(1)


@pytest.fixture
def proxy(network: Network) -> Iterator[Server]:
    """Stands in for the proxy's transparent port: it answers with where the connection wanted to go."""
    with Server(network.gateway, PORT, original_destination) as server:
        yield server


@pytest.fixture
def resolver(network: Network) -> Iterator[Server]:
    """Stands in for the proxy's DNS."""
    with Server(network.gateway, DNS_PORT, lambda _: b"resolver") as server:
        yield server
