"""The sockets for DNS of a start: UDP and TCP on one port, both or none, and nothing answered before its time."""

from __future__ import annotations

import socket
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from joined import config_in

from egress.config import DnsConfig, Forward, TransparentConfig, TransparentMode
from egress.errors import StartError
from egress.policy import Host
from egress.proxy.entrance import Kind
from egress.server.listening import Listening

if TYPE_CHECKING:
    from pathlib import Path

    from egress.config import ServerConfig


def answering(folder: Path, *listen: tuple[str, int]) -> ServerConfig:
    """A configuration that has DNS answered there."""
    return replace(config_in(folder), dns=DnsConfig(listen=listen))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_both_are_on_one_port_that_the_kernel_picks(tmp_path: Path, host: str) -> None:
    """And it is told once."""
    with closing(Listening(answering(tmp_path, (host, 0)))) as listening:
        found = [sock for sock, entrance in listening.entrances if entrance.kind is Kind.DNS]
        assert {sock.type for sock in found} == {socket.SOCK_STREAM, socket.SOCK_DGRAM}
        (port,) = {sock.getsockname()[1] for sock in found}
        shown = f"[{host}]" if ":" in host else host
        assert listening.told(Kind.DNS) == (f"{shown}:{port}",)
        # A sandbox must not reach it through the proxy.
        assert port in listening.ports
        listening.begin()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_that_is_taken_stops_the_start(tmp_path: Path, kind: socket.SocketKind) -> None:
    """By whichever of the two; nothing stays open."""
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        where = taken.getsockname()
        if kind is socket.SOCK_STREAM:
            taken.listen()
        with pytest.raises(StartError) as raised:
            Listening(answering(tmp_path, where))
        assert "--dns ADDRESS:PORT" in raised.value.hint
        assert str(where[1]) in raised.value.message


def test_every_listener_is_told_once_and_by_its_kind(tmp_path: Path) -> None:
    """A forward with its destination, redirected connections with their mode, DNS once for both of its sockets."""
    local = ("127.0.0.1", 0)
    config = replace(
        answering(tmp_path, local),
        listen=local,
        forwards=(Forward(local, Host("db.example"), 5432),),
        transparent=TransparentConfig((local,), TransparentMode.REDIRECT),
    )
    with closing(Listening(config)) as listening:
        found = [(one.kind, one.destination, one.mode) for one in listening.listeners()]
        assert {one.told.rpartition(":")[0] for one in listening.listeners()} == {"127.0.0.1"}
    assert found == [
        (Kind.PROXY, None, None),
        (Kind.FORWARD, "db.example:5432", None),
        (Kind.TRANSPARENT, None, "redirect"),
        (Kind.DNS, None, None),
    ]


def test_several_addresses_are_told_in_their_order(tmp_path: Path) -> None:
    """Each on its own."""
    with closing(Listening(answering(tmp_path, ("127.0.0.1", 0), ("127.0.0.2", 0)))) as listening:
        assert [told.rpartition(":")[0] for told in listening.told(Kind.DNS)] == ["127.0.0.1", "127.0.0.2"]
