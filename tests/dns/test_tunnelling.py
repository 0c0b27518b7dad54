"""How much may be asked: names are messages, so their number under one domain is what a tunnel is refused by."""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING

import pytest
from resolving import OF_OTHER, OF_SANDBOX, Bench, errors

from egress.config import DnsLimits
from egress.policy import Rate
from egress.proxy.dns.tunnelling import QueryLimits, parent_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from nameserver import NameServer

RULES = 'rules: [{allow: "*.wild.example", protocol: [https, dns]}, {allow: api.example.com}]'
FEW = {"limits": DnsLimits(parent_names=Rate(5, 3_600))}
SLOW = {"limits": DnsLimits(parent_queries=Rate(10, 60))}
ALL = {"limits": DnsLimits(queries=Rate(10, 60))}


@pytest.mark.parametrize("kind", ["A", "TXT", "HTTPS"])
def test_a_tunnel_runs_dry(bench: Callable[..., Bench], upstream: NameServer, kind: str) -> None:
    """Data in ever new names: a few of them leave, and no more, whatever they ask for."""

    async def play(own: Bench) -> None:
        for _ in range(50):
            data = base64.b32encode(secrets.token_bytes(35)).decode().rstrip("=").lower()
            answer = await own.ask(f"{data}.t.wild.example", kind)
        assert answer.rcode() == dns_refused()
        assert errors(answer)[0][1].startswith("limit-requests")
        assert sum(row.reason == "limit-requests" for row in own.ledger.decisions) == 45
        assert (await own.told("api.example.com")).startswith("NOERROR")

    bench(RULES, **FEW).run(play)
    assert len({name for name, _, _ in upstream.asked if name.endswith(".wild.example.")}) <= 5


def dns_refused() -> int:
    """REFUSED."""
    return 5


def test_names_that_are_known_go_on(bench: Callable[..., Bench]) -> None:
    """Repeating one tells its server nothing new; after its time another may be asked for."""

    async def play(own: Bench) -> None:
        for number in range(5):
            assert (await own.told(f"host{number}.wild.example")).startswith("NOERROR")
        assert await own.told("host5.wild.example") == "REFUSED"
        assert (await own.told("host0.wild.example")).startswith("NOERROR")
        own.clock.now += 3_600
        assert (await own.told("host5.wild.example")).startswith("NOERROR")

    bench(RULES, **FEW).run(play)


def test_the_rate_under_a_domain_is_limited(bench: Callable[..., Bench]) -> None:
    """And that of other domains is not touched by it."""

    async def play(own: Bench) -> None:
        told = [(await own.told("host1.wild.example")).split()[0] for _ in range(12)]
        assert told == ["NOERROR"] * 10 + ["REFUSED"] * 2
        assert (await own.told("api.example.com")).startswith("NOERROR")
        own.clock.now += 61
        assert (await own.told("host1.wild.example")).startswith("NOERROR")

    bench(RULES, **SLOW).run(play)


def test_all_questions_of_a_sandbox_are_limited(bench: Callable[..., Bench]) -> None:
    """Denied ones too; and those of another sandbox are its own."""

    async def play(own: Bench) -> None:
        told = [(await own.told(f"no{number}.test", address=OF_SANDBOX)) for number in range(12)]
        assert told == ["NXDOMAIN"] * 10 + ["REFUSED"] * 2
        assert await own.told("no.test", address=OF_OTHER) == "NXDOMAIN"

    made = bench(RULES, **ALL)
    made.sandboxes = True
    made.run(play)


@pytest.mark.parametrize(
    ("name", "parent"),
    [("a.b.c.example", "c.example"), ("c.example", "c.example"), ("example", "example"), ("x.co.uk", "co.uk")],
)
def test_a_parent_is_the_last_two_labels(name: str, parent: str) -> None:
    """What is registered, or more than that."""
    assert parent_of(name) == parent


def test_memory_is_bounded_by_refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ever new parents do not push the counts of others out; once they are idle there is room again."""
    monkeypatch.setattr("egress.proxy.dns.tunnelling._PARENTS_AT_MOST", 3)
    limits = QueryLimits(DnsLimits(parent_queries=Rate(1, 60), parent_names=Rate(9, 60)))
    told = [limits.allows("agent", f"www.example{number}.com", 0.0) for number in range(5)]
    assert [bool(each) for each in told] == [False] * 3 + [True] * 2
    assert limits.allows("agent", "www.example0.com", 1.0)
    assert not limits.allows("agent", "www.example4.com", 200.0)


def test_one_sandbox_leaves_the_others_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many domains it asks under, the names of another are told apart; its own again once they are idle."""
    monkeypatch.setattr("egress.proxy.dns.tunnelling._PARENTS_OF_ONE", 3)
    limits = QueryLimits(DnsLimits(parent_queries=Rate(1, 60), parent_names=Rate(9, 60)))
    told = [limits.allows("greedy", f"www.example{number}.com", 0.0) for number in range(5)]
    assert [bool(each) for each in told] == [False] * 3 + [True] * 2
    assert not any(limits.allows("other", f"www.example{number}.com", 0.0) for number in range(3))
    assert not limits.allows("greedy", "www.example4.com", 200.0)
    # Where clients are not told apart, there is nobody to leave room for.
    assert not any(limits.allows("default", f"www.example{number}.com", 0.0) for number in range(5))


def test_without_room_not_every_question_looks_for_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking through all domains once a second is enough: who has filled them up keeps on asking."""
    monkeypatch.setattr("egress.proxy.dns.tunnelling._PARENTS_OF_ONE", 1)
    looked: list[float] = []
    monkeypatch.setattr(QueryLimits, "_forget_idle", lambda _, now: looked.append(now))
    limits = QueryLimits(DnsLimits())
    for tenth in range(30):
        limits.allows("agent", f"www.example{tenth}.com", tenth / 10)
    assert len(looked) == 3
