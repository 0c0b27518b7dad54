"""Connections to upstreams that are kept: whose requests they may carry, which is not the same in every lane."""

from __future__ import annotations

import contextlib
import socket
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
from rig.modes import HOST, make_site
from rig.proxy import Carrier
from rig.wire import Wire

from egress.config import SandboxDefinition
from egress.policy import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.origins import Origins
    from rig.modes import Site
    from rig.proxy import Proxy

SANDBOXES = (
    SandboxDefinition(Sandbox("one"), (ip_network("127.0.0.1"),)),
    SandboxDefinition(Sandbox("two"), (ip_network("127.0.0.2"), ip_network("127.0.0.3"))),
)


@contextlib.contextmanager
def inside(site: Site, source: str) -> Iterator[Wire]:
    """TLS through a tunnel, from a client's address."""
    with Wire(socket.create_connection(site.proxy.address, timeout=10, source_address=(source, 0))) as wire:
        wire.send(f"CONNECT {HOST}:{site.port} HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode())
        assert wire.reply("CONNECT").status == 200
        with site.proxy.secure(wire, HOST, "http/1.1") as secured:
            yield secured


def ask(wire: Wire, site: Site) -> None:
    """One request with its answer."""
    wire.send(f"GET / HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode())
    assert wire.reply().status == 200


@pytest.mark.parametrize("carrier", [Carrier.FRONT], indirect=True)
def test_upstream_connections_are_never_shared_between_sandboxes(start: Callable[..., Proxy], origin: Origins) -> None:
    """One that carried a sandbox's credential carries no other sandbox's request, though it is free."""
    site = make_site(start, origin, sandboxes=SANDBOXES)
    with inside(site, "127.0.0.1") as one, inside(site, "127.0.0.2") as two:
        for wire in (one, two, one, two):
            ask(wire, site)
    assert [len(seen.requests) for seen in site.origin.connections] == [2, 2]
    assert [row.sandbox for row in site.proxy.ledger.wait(4)] == ["one", "two", "one", "two"]


@pytest.mark.parametrize("carrier", [Carrier.FRONT], indirect=True)
def test_upstream_connections_serve_all_clients_of_one_sandbox(start: Callable[..., Proxy], origin: Origins) -> None:
    """One that is free is used again, whichever client of its sandbox asks; one that is busy is not."""
    site = make_site(start, origin, sandboxes=SANDBOXES)
    with inside(site, "127.0.0.2") as one, inside(site, "127.0.0.3") as other:
        for wire in (one, other, one, other):
            ask(wire, site)
    assert [len(seen.requests) for seen in site.origin.connections] == [4]


@pytest.mark.parametrize("carrier", [Carrier.MITM], indirect=True)
def test_upstream_connections_of_the_mitm_lane_are_a_client_s_own(start: Callable[..., Proxy], origin: Origins) -> None:
    """Mitmproxy's upstreams end with the client's connection, and carry no other client's request."""
    site = make_site(start, origin)
    with inside(site, "127.0.0.2") as one, inside(site, "127.0.0.3") as other:
        for wire in (one, other, one, other):
            ask(wire, site)
    assert [len(seen.requests) for seen in site.origin.connections] == [2, 2]
