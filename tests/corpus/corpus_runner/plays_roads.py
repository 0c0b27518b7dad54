"""Behind `egress gateway`: connections that its rules redirect to the proxy, and packets that they refuse."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from harness.outpost import SANDBOX
from harness.world import ALLOWED4, EVIL4, EVIL6
from rig import roads_out

from corpus_runner.evidence import gather, judge, wait_rows
from corpus_runner.policies import BY_SENTENCE, ENVIRONMENT, HOST
from corpus_runner.scripts import script

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.attacker import Attacker
    from harness.outpost import Outpost
    from harness.world import World

    from corpus_runner.cases import Case
    from corpus_runner.evidence import Evidence

QUIC_INITIAL = bytes.fromhex("c300000001088394c8f03e5157080000449e") + bytes(1182)
# Some refusals are silent: the kernel tells of a few a second only.
PATIENCE = 0.1
# GRE, SCTP, and IPv4 within IPv4.
OTHERS = (47, 132, 4)
# The first connection that a lane carries may wait for the lane's process.
FIRST_SECONDS = 15.0
_TCP_FASTOPEN_NO_COOKIE = 34


def sandbox_address(world: World) -> str:
    """An address in the sandbox that no other case uses."""
    return world.fresh_client().replace("10.77.", "10.78.")


def redirected(
    world: World, case: Case, target: tuple[str, int], act: Callable[[Attacker], object], expected: str = "deny"
) -> Evidence:
    """Let code in the sandbox connect to `target`, which the gateway's rules bring to the proxy."""
    outpost = world.outpost(BY_SENTENCE[case.policy], ENVIRONMENT)
    source = sandbox_address(world)
    marks = world.marks()
    with outpost.client(target, source) as client:
        act(client)
        client.abort()
        client.drain(0.02)
        answers = client.answers
    outpost.flush()
    evidence = gather(world, outpost.proxy, source, marks)
    evidence.client_bytes = answers.everything
    wait_rows(evidence, expected)
    assert outpost.proxy.alive, outpost.proxy.log[-3000:]
    return evidence


def _quiet(evidence: Evidence) -> None:
    """Nothing at all left the gateway but for the allowed origin and the name server."""
    assert not evidence.strangers()
    assert not [packet for packet in evidence.packets if packet.target in {EVIL4, EVIL6}]


@script("DESTBINDIN-022", "DESTBINDIN-023", "DESTBINDIN-025")
def an_address_with_another_name(world: World, case: Case) -> None:
    """An attacker's address, with the allowed name in `Host` alone."""

    def act(client: Attacker) -> None:
        if case.spec["tls"] and not client.handshake(case.text("sni")):
            return
        client.segments(case.segments)
        client.response()

    evidence = redirected(world, case, (EVIL4, 443 if case.spec["tls"] else 80), act)
    judge(case, evidence)
    _quiet(evidence)


@script("PORTS-005")
def another_port(world: World, case: Case) -> None:
    """Every port comes to the proxy, and a rule's ports count there as anywhere."""

    def act(client: Attacker) -> None:
        client.send(b"GET /x HTTP/1.1\r\nHost: allowed.test:8080\r\n\r\n")
        client.response()

    evidence = redirected(world, case, (ALLOWED4, 8080), act)
    judge(case, evidence)
    _quiet(evidence)
    assert not evidence.connections
    assert {row["port"] for row in evidence.rows} == {8080}
    evidence = redirected(world, case, (ALLOWED4, 80), _asks_allowed, "allow")
    judge(case, evidence, ["reaches(allowed)", "audit_row(allow)"])


def _asks_allowed(client: Attacker) -> None:
    client.send(b"GET /x HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
    client.response(FIRST_SECONDS)


@script("RAWPROTOCO-023", "RAWPROTOCO-024")
def no_name_inside(world: World, case: Case) -> None:
    """A client that waits for the server's banner, and one that speaks something else: judged by the address alone."""
    waits = case.id == "RAWPROTOCO-023"

    def act(client: Attacker) -> None:
        if not waits:
            client.send(b"\x00\x01raw bytes\xff")
        while client.receive(5):
            pass

    evidence = redirected(world, case, (EVIL4, 22 if waits else 443), act)
    judge(case, evidence)
    _quiet(evidence)
    assert evidence.client_bytes.strip() == b""


# Packets


def _sends(world: World, case: Case, send: Callable[[Outpost], object]) -> list[object]:
    """Let the sandbox send; nothing of it may arrive, in either family."""
    outpost = world.outpost(HOST, ENVIRONMENT)
    marks = world.marks()
    told = send(outpost)
    outpost.flush()
    evidence = gather(world, outpost.proxy, SANDBOX, marks)
    judge(case, evidence)
    _quiet(evidence)
    assert not [packet for packet in evidence.packets if packet.source in {SANDBOX, "fd78::2"}]
    assert isinstance(told, list)
    # Each was refused, as far as the kernel has answers left: none was answered by somebody.
    assert set(told) <= {"EHOSTUNREACH", "EACCES", "ECONNREFUSED", roads_out.SILENCE}, told
    return told


@script("UDPQUICECH-001")
def quic(world: World, case: Case) -> None:
    """A QUIC Initial to the attacker's server, in both families, is refused on the gateway."""

    def send(outpost: Outpost) -> list[str]:
        return [_datagram(outpost, host, 443, QUIC_INITIAL) for host in (EVIL4, EVIL6)]

    _sends(world, case, send)


def _datagram(outpost: Outpost, host: str, port: int, data: bytes) -> str:
    with outpost.sandbox.socket(roads_out.family(host), socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        try:
            sock.connect((host, port))
            sock.send(data)
            return sock.recv(2048).decode("latin-1")
        except TimeoutError:
            return roads_out.SILENCE
        except OSError as error:
            return errno.errorcode[error.errno or 0]


@script("UDPQUICECH-003")
def ping(world: World, case: Case) -> None:
    """An echo request that carries data, in both families."""

    def send(outpost: Outpost) -> list[str]:
        return [
            roads_out.raw(outpost.sandbox, host, protocol, roads_out.echo_request(host), patience=PATIENCE)  # type: ignore[arg-type] -- it has the one method that is used
            for host, protocol in ((EVIL4, 1), (EVIL6, 58))
        ]

    _sends(world, case, send)


@script("UDPQUICECH-005")
def other_protocols(world: World, case: Case) -> None:
    """GRE, SCTP and IP within IP, in both families."""

    def send(outpost: Outpost) -> list[str]:
        return [
            roads_out.raw(outpost.sandbox, host, protocol, bytes(32), patience=PATIENCE)  # type: ignore[arg-type] -- it has the one method that is used
            for host in (EVIL4, EVIL6)
            for protocol in OTHERS
        ]

    _sends(world, case, send)


@script("UDPQUICECH-011")
def data_in_the_first_packet(world: World, case: Case) -> None:
    """What a SYN carries (TCP Fast Open) comes to the proxy, and nowhere else."""
    outpost = world.outpost(HOST, ENVIRONMENT)
    marks = world.marks()
    source = sandbox_address(world)
    with outpost.sandbox.socket() as sock:
        sock.settimeout(5)
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN_NO_COOKIE, 1)
        sock.bind((source, 0))
        request = b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"
        sent = sock.sendto(request, socket.MSG_FASTOPEN, (EVIL4, 80))
        assert sent == len(request)
        answer = sock.recv(65536)
    outpost.flush()
    evidence = gather(world, outpost.proxy, source, marks)
    evidence.client_bytes = answer
    wait_rows(evidence, "deny")
    judge(case, evidence)
    judge(case, evidence, ["audit_row(deny)", "no_upstream_conn(*)"])
    _quiet(evidence)
