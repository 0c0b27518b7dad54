"""The harness itself: what it claims to see, it sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from harness.attacker import Attacker
from harness.frames import Http2
from harness.world import ALLOWED4, EVIL4

if TYPE_CHECKING:
    from harness.world import World


@pytest.mark.parametrize(
    ("address", "role"), [(ALLOWED4, "allowed"), (EVIL4, "evil"), ("169.254.169.254", "evil"), ("64:ff9b::1", "evil")]
)
def test_every_address_is_answered_by_a_recorder(world: World, address: str, role: str) -> None:
    """A connection to any address at all stays inside and is written down."""
    connections, _, packets = world.marks()
    with Attacker(world.namespace, (address, 80)) as client:
        client.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        assert f"ok {role}".encode() in client.response()
    world.settle(connections)
    (seen,) = world.origins.since(connections)
    assert (seen.role, seen.address, seen.port) == (role, address, 80)
    assert [packet.target for packet in world.tap.packets[packets:] if packet.kind == "tcp"] == [address]


def test_the_tap_sees_a_connection_that_nobody_accepts(world: World) -> None:
    """A SYN to a closed port is evidence too."""
    _, _, packets = world.marks()
    with pytest.raises(ConnectionRefusedError):
        world.namespace.connect(("8.8.8.8", 4444))
    world.settle(world.origins.mark())
    assert [(packet.kind, packet.target, packet.port) for packet in world.tap.packets[packets:]] == [
        ("tcp", "8.8.8.8", 4444)
    ]


def test_tls_to_an_origin_records_name_and_plain_bytes(world: World) -> None:
    """The recorder sees inside TLS and writes down the SNI, also one that is an address."""
    connections, _, _ = world.marks()
    for sni in ("allowed.test", "127.0.0.1"):
        with Attacker(world.namespace, (ALLOWED4, 443)) as client:
            assert client.handshake(sni, split=True), client.answers.tls_error
            client.segments([b"G", b"ET /x HTTP/1.1\r\nHost: a\r\n\r\n"])
            assert b"ok allowed" in client.response()
    world.settle(connections)
    assert [seen.sni for seen in world.origins.since(connections)] == ["allowed.test", "127.0.0.1"]
    assert all(seen.received.startswith(b"GET /x") for seen in world.origins.since(connections))


def test_names_are_asked_of_the_recording_name_server(world: World) -> None:
    """Programs in the namespace use its resolv.conf, and questions are written down."""
    _, questions, _ = world.marks()
    env = {"PATH": "/usr/bin:/bin:/usr/sbin"}
    done = world.namespace.run(["getent", "ahostsv4", "allowed.test"], env=env)
    assert ALLOWED4 in done.stdout
    assert ("allowed.test", "A") in world.names.questions[questions:]
    with world.names.answering("changing.test", lambda count: ["A 8.8.8.8"] if count else ["CNAME allowed.test."]):
        assert ALLOWED4 in world.namespace.run(["getent", "ahostsv4", "changing.test"], env=env).stdout
        assert "8.8.8.8" in world.namespace.run(["getent", "ahostsv4", "changing.test"], env=env).stdout


def test_nothing_leaves_the_namespace(world: World) -> None:
    """There is no device but loopback."""
    shown = world.namespace.run(["ip", "-o", "link"], env={"PATH": "/usr/sbin:/sbin"}).stdout
    assert [line.split(": ")[1] for line in shown.splitlines()] == ["lo"] or "lo" in shown
    up = [line for line in shown.splitlines() if ",UP" in line]
    assert len(up) == 1
    assert ": lo:" in up[0]


def test_raw_http2_frames_are_sent_unchecked(world: World) -> None:
    """A header list that no library would send reaches the peer as it is."""
    connections, _, _ = world.marks()
    with world.origins.behaving(_absorb, alpn=("h2",)), Attacker(world.namespace, (ALLOWED4, 443)) as client:
        assert client.handshake("allowed.test", ["h2"])
        assert client.alpn == "h2"
        http2 = Http2(client)
        http2.request(1, [(":method", "GET /admin HTTP/1.1 X"), (":path", "/a\r\nb")])
        world.settle(connections)
    (seen,) = world.origins.since(connections)
    assert b"GET /admin HTTP/1.1 X" in seen.received
    assert b"/a\r\nb" in seen.received


def _absorb(stream: object) -> None:
    while stream.receive():  # type: ignore[attr-defined]
        pass
