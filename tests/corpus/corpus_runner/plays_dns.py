"""Questions to the proxy's DNS, and the ways around it: what no rule allows is asked of nobody."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import dns.message
import dns.rcode
from harness.outpost import GATEWAY
from harness.world import ALLOWED4, NAMESERVER, NAMESERVER4

from corpus_runner.evidence import gather, judge, wait_rows
from corpus_runner.plays_roads import FIRST_SECONDS, redirected, sandbox_address
from corpus_runner.policies import ENVIRONMENT, HOST
from corpus_runner.questions import FORMERR, NOERROR, NOTIMP, NXDOMAIN, REFUSED, Asker, kind_of, query
from corpus_runner.scripts import script

if TYPE_CHECKING:
    from harness.attacker import Attacker
    from harness.world import World

    from corpus_runner.cases import Case
    from corpus_runner.evidence import Evidence

RESOLVER4 = "8.8.8.8"
# What answers each message.
ANSWERED = {
    "DNS-001": NOERROR,
    "DNS-002": NXDOMAIN,
    "DNS-003": FORMERR,
    "DNS-005": FORMERR,
    "DNS-007": FORMERR,
    "DNS-010": NOERROR,
    "DNS-011": REFUSED,
    "DNS-013": REFUSED,
    "DNS-014": REFUSED,
    "DNS-015": NOERROR,
    "DNS-016": NOERROR,
    "DNS-018": NOTIMP,
    "DNS-020": NXDOMAIN,
    "DNS-021": NXDOMAIN,
    "DNS-022": FORMERR,
}
# Allowed, and empty: they would tell the way around the proxy.
SERVICES = ("DNS-015", "DNS-016")


def asks(world: World, source: str, where: tuple[str, int], data: bytes) -> Evidence:
    """What the sandbox behind the gateway is told, by whomever it believes to ask; the answer is the client's bytes."""
    outpost = world.outpost(HOST, ENVIRONMENT)
    marks = world.marks()
    with Asker(outpost.sandbox, where, source) as asker:
        answer = asker.ask(data)
    outpost.flush()
    evidence = gather(world, outpost.proxy, source, marks)
    evidence.client_bytes = answer
    assert outpost.proxy.alive, outpost.proxy.log[-3000:]
    return evidence


@script(*ANSWERED)
def message(world: World, case: Case) -> None:
    """Each message has its own answer; of those denied nothing is asked for, and nothing is passed on as it came.

    The address that is told stands for its name, whoever connects there, and for no other.
    """
    data = bytes.fromhex(str(case.spec["hex"]))
    source = sandbox_address(world)
    evidence = asks(world, source, (GATEWAY, 53), data)
    judge(case, evidence)
    answer = evidence.client_bytes
    # Some answers repeat no question, which a parser might not forgive.
    assert (answer[:2], answer[2] >> 7, answer[3] & 15) == (data[:2], 1, ANSWERED[case.id]), answer
    judge(case, evidence, ["no_dns_upstream"])
    to_server = [packet for packet in evidence.packets if packet.target in {NAMESERVER, NAMESERVER4}]
    assert not [packet for packet in to_server if data[12:] in packet.data and case.id != "DNS-001"]
    if case.expected == "deny":
        assert not dns.message.from_wire(answer).answer
    if case.id in SERVICES:
        wait_rows(evidence, "allow")
        assert [row["method"] for row in evidence.rows] == [kind_of(data)]
    if case.id == "DNS-001":
        address = dns.message.from_wire(answer).answer[0][0].to_text()
        evidence = redirected(world, case, (address, 443), lambda client: _get(client, "allowed.test"), "allow")
        judge(case, evidence, ["reaches(allowed)", "audit_row(allow)"])
        evidence = redirected(world, case, (address, 443), lambda client: _get(client, "evil.test"))
        judge(case, evidence, ["no_upstream_conn(*)", "no_upstream_bytes", "audit_row(deny)"])


def _get(client: Attacker, name: str) -> None:
    client.wire(client.hello(name))
    if client.finish_handshake(FIRST_SECONDS):
        client.send(f"GET /x HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        client.response(FIRST_SECONDS)


@script("DNS-025")
def another_server(world: World, case: Case) -> None:
    """Whichever server a sandbox asks, ours answers; over UDP and TCP, and for who believes to be at 8.8.8.8."""
    source = sandbox_address(world)
    data = query("secret.evil.test", "MX")
    evidence = asks(world, source, (RESOLVER4, 53), data)
    assert dns.message.from_wire(evidence.client_bytes).rcode() == dns.rcode.NXDOMAIN
    wait_rows(evidence, "deny")
    judge(case, evidence)
    _nobody(evidence, RESOLVER4)
    marks = world.marks()
    outpost = world.outpost(HOST, ENVIRONMENT)
    with outpost.client((RESOLVER4, 53), source) as client:
        client.send(struct.pack(">H", len(data)) + data)
        answer = client.receive(5)
    assert dns.message.from_wire(answer[2:]).rcode() == dns.rcode.NXDOMAIN
    outpost.flush()
    _nobody(gather(world, outpost.proxy, source, marks), RESOLVER4)


def _nobody(evidence: Evidence, *addresses: str) -> None:
    assert not evidence.strangers()
    assert not [packet for packet in evidence.packets if packet.target in addresses]


@script("DNS-029")
def over_tls(world: World, case: Case) -> None:
    """DNS over TLS is a connection as any other: to a host and a port that no rule allows."""
    for name in ("dns.google", None):

        def act(client: Attacker, name: str | None = name) -> None:
            # Where it gets so far, it is in TLS with the proxy, which has a page for it.
            if client.handshake(name):
                data = query("secret.evil.test")
                client.send(struct.pack(">H", len(data)) + data)
                client.response()

        evidence = redirected(world, case, (RESOLVER4, 853), act)
        judge(case, evidence)
        _nobody(evidence, RESOLVER4)
        assert {row["port"] for row in evidence.rows} == {853}
        assert b"secret" not in evidence.client_bytes


@script("DNS-033")
def inbound_text(world: World, case: Case) -> None:
    """A long TXT record of an allowed name stays where it is: the type is refused, and never asked for."""
    source = sandbox_address(world)
    outpost = world.outpost(HOST, ENVIRONMENT)
    name = "allowed.test"
    with world.names.answering(name, [f"A {ALLOWED4}", *[f'TXT "{"x" * 250}"'] * 250]):
        marks = world.marks()
        with outpost.client((GATEWAY, 53), source) as client:
            for kind in ("TXT", "SPF", "NULL"):
                data = query(name, kind)
                client.send(struct.pack(">H", len(data)) + data)
                answer = client.receive(5)
                assert dns.message.from_wire(answer[2:]).rcode() == dns.rcode.REFUSED
                assert len(answer) < 400
        evidence = gather(world, outpost.proxy, source, marks)
    wait_rows(evidence, "deny")
    judge(case, evidence)
    assert not evidence.questions
