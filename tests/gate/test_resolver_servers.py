"""Whom the resolver asks: the servers that are named, others for their zones, and other records, asked for anew."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import TYPE_CHECKING

import dns.rdatatype
import pytest
from nameserver import NameServer

from egress.gate.resolver import Resolver

if TYPE_CHECKING:
    from egress.gate.resolver import Answer, Records


def resolve(resolver: Resolver, *names: str) -> list[Answer]:
    """The answers for names, one after the other."""

    async def ask() -> list[Answer]:
        return [await resolver.resolve(name) for name in names]

    return asyncio.run(ask())


def records(resolver: Resolver, name: str, kind: str) -> Records:
    """The records of a type."""
    return asyncio.run(resolver.records(name, int(dns.rdatatype.from_text(kind))))


def at(server: NameServer) -> tuple[tuple[str, int], ...]:
    """A server as the configuration names it."""
    return (("127.0.0.1", server.port),)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("www.example.com", "outer"),
        ("corp.example", "inner"),
        ("git.corp.example", "inner"),
        ("a.b.corp.example", "inner"),
        ("notcorp.example", "outer"),
        ("corp.example.com", "outer"),
        ("x.lab.corp.example", "lab"),
        ("lab.corp.example", "lab"),
    ],
)
def test_a_zone_has_servers_of_its_own(name: str, asked: str) -> None:
    """The longest that a name is at or below counts, label by label; no other server hears of the name."""
    with NameServer() as outer, NameServer() as inner, NameServer() as lab:
        zones = {"corp.example": at(inner), "lab.corp.example": at(lab)}
        resolve(Resolver(servers=at(outer), lifetime_seconds=2.0, zones=zones), name)
        heard = {each for each, server in (("outer", outer), ("inner", inner), ("lab", lab)) if server.asked}
    assert heard == {asked}


def test_servers_of_a_policy_count_before_all_others_and_apart() -> None:
    """Before those of a zone too; what they say is no answer for who trusts others, and a pin is one for all."""
    there, here = {("a.test", "A"): (300, ["192.0.2.1"])}, {("a.test", "A"): (300, ["192.0.2.2"])}
    with NameServer(there) as common, NameServer(here) as own, NameServer(here) as zoned:
        pins = {"pinned.test": (ip_address("192.0.2.9"),)}
        resolver = Resolver(pins, servers=at(common), lifetime_seconds=2.0, zones={"zone.test": at(zoned)})

        async def play() -> None:
            for servers, address in ((), "192.0.2.1"), (at(own), "192.0.2.2"), ((), "192.0.2.1"):
                assert [str(found) for found in (await resolver.resolve("a.test", servers)).addresses] == [address]
                assert resolver.known("a.test", servers) is not None
            assert (await resolver.resolve("pinned.test", at(own))).addresses == pins["pinned.test"]
            await resolver.resolve("x.zone.test", at(own))
            await resolver.records("a.test", int(dns.rdatatype.TXT), at(own))

        asyncio.run(play())
        assert [name for name, *_ in common.asked] == ["a.test.", "a.test."]
        assert {name for name, *_ in own.asked} == {"a.test.", "x.zone.test."}
        assert ("a.test.", "TXT") in {(name, kind) for name, kind, _ in own.asked}
        assert not zoned.asked


def test_other_records_come_with_their_aliases_and_nothing_else() -> None:
    """Each as it is on the wire."""
    known = {("text.test", "TXT"): (30, ['"a"', '"b"']), ("text.test", "A"): (30, ["192.0.2.1"])}
    with NameServer(known, aliases={"alias.test": "text.test"}) as server:
        found = records(Resolver(servers=at(server), lifetime_seconds=2.0), "alias.test", "TXT")
    assert found.error == ""
    assert [(owner, kind) for owner, kind, _ in found.records] == [
        ("alias.test.", dns.rdatatype.CNAME),
        ("text.test.", dns.rdatatype.TXT),
        ("text.test.", dns.rdatatype.TXT),
    ]
    assert sorted(data for _, _, data in found.records[1:]) == [b"\x01a", b"\x01b"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gone.test", "the name does not exist"),
        ("broken.test", "the resolver failed"),
        ("silent.test", "the resolver did not answer in time"),
        ("many.test", "the resolver failed"),
    ],
)
def test_what_keeps_records_from_being_told(name: str, told: str) -> None:
    """A sentence; more than a client is told counts as a failure, never as a part of the answer."""
    known = {("many.test", "TXT"): (30, [f'"{number}"' for number in range(65)])}
    with NameServer(known, silent={"silent.test"}, broken={"broken.test"}) as server:
        found = records(Resolver(servers=at(server), lifetime_seconds=0.5), name, "TXT")
    assert found.records == ()
    assert found.error.startswith(told)
