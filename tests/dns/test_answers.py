"""What is answered to whom: names that a rule could allow, types that tell nothing; nothing leaves for others."""

from __future__ import annotations

from fnmatch import fnmatchcase
from ipaddress import ip_network
from typing import TYPE_CHECKING

import dns.flags
import dns.message
import dns.reversename
import pytest
from nameserver import NameServer
from resolving import OF_NOBODY, OF_OTHER, OF_SANDBOX, REAL, Bench, errors, query, short

from egress.config import DnsLimits
from egress.policy import Rate
from egress.proxy.dns.ledger import QuestionLedger

if TYPE_CHECKING:
    from collections.abc import Callable

type Make = Callable[..., Bench]


def test_a_policys_own_resolvers_are_asked(bench: Callable[..., Bench], upstream: NameServer) -> None:
    """For addresses and for other records; the proxy's hear nothing."""
    with NameServer(
        {("txt.example.com", "A"): (20, ["93.184.216.99"]), ("txt.example.com", "TXT"): (20, ['"own"'])}
    ) as own:
        stated = f"resolvers: '127.0.0.1:{own.port}'\nrules: [{{allow: txt.example.com, protocol: [https, dns]}}]\n"

        async def play(made: Bench) -> None:
            assert await made.told("txt.example.com") == "NOERROR 93.184.216.99"
            assert await made.told("txt.example.com", "TXT") == 'NOERROR "own"'

        bench(stated, **REAL).run(play)
    assert not upstream.asked


RULES = """
rules:
  - {allow: api.example.com, name: the-api}
  - {allow: txt.example.com, protocol: [https, dns]}
  - {allow: alias.example.com, protocol: dns}
  - {allow: [big.example.com, huge.example.com], protocol: dns}
  - {allow: rebound.example.com, methods: [GET]}
  - {allow: [inside.example.com, four.example.com, gone.example.com, hidden.example.com]}
  - {allow: "*.wild.example", methods: [GET]}
  - {deny: secret.example.com, protocol: dns}
  - {allow: secret.example.com}
  - {deny: denied.example.com}
  - {ask: asked.example.com}
"""

# the question -> what is told, the reason of its row, and whether anything was asked upstream
SYNTHETIC = [
    ("api.example.com", "A", "NOERROR 198.1?.*", "rule-allow", True),
    ("api.example.com", "AAAA", "NOERROR fd65:*", "rule-allow", True),
    ("host1.wild.example", "A", "NOERROR 198.1?.*", "rule-allow", True),
    # a family that the name has none of is served all the same: the proxy is who dials
    ("four.example.com", "AAAA", "NOERROR fd65:*", "rule-allow", True),
    # where it leads is judged when it is dialled
    ("inside.example.com", "A", "NOERROR 198.1?.*", "rule-allow", True),
    # a name that does not exist is told as that
    ("gone.example.com", "A", "NXDOMAIN", "rule-allow", True),
    ("nobody.wild.example", "A", "NXDOMAIN", "rule-allow", True),
    # ways around us
    ("api.example.com", "HTTPS", "NOERROR", "rule-allow", False),
    ("api.example.com", "SVCB", "NOERROR", "rule-allow", False),
    # no rule could allow these
    ("evil.test", "A", "NXDOMAIN", "host-not-allowed", False),
    ("evil.test", "TXT", "NXDOMAIN", "host-not-allowed", False),
    ("wild.example", "A", "NXDOMAIN", "host-not-allowed", False),
    ("denied.example.com", "A", "NXDOMAIN", "rule-deny", False),
    ("asked.example.com", "AAAA", "NXDOMAIN", "approval-required", False),
    ("secret.example.com", "A", "NXDOMAIN", "rule-deny", False),
    ("use-application-dns.net", "A", "NXDOMAIN", "host-not-allowed", False),
    (".", "NS", "NXDOMAIN", "host-invalid", False),
    ("1.2.3.4", "A", "NXDOMAIN", "host-invalid", False),
    ("34.216.184.93.in-addr.arpa", "PTR", "NXDOMAIN", "host-not-allowed", False),
    # other types, where no rule speaks of questions
    ("api.example.com", "TXT", "REFUSED", "protocol-not-allowed", False),
    ("api.example.com", "MX", "REFUSED", "protocol-not-allowed", False),
    ("api.example.com", "CNAME", "REFUSED", "protocol-not-allowed", False),
    # and where one does
    ("txt.example.com", "TXT", 'NOERROR "two" "parts" "v=1"', "rule-allow", True),
    ("txt.example.com", "MX", "NOERROR 10 mail.example.com.", "rule-allow", True),
    ("txt.example.com", "SRV", "NOERROR", "rule-allow", True),
    ("alias.example.com", "TXT", 'NOERROR "two" "parts" "v=1" txt.example.com.', "rule-allow", True),
    # never
    ("txt.example.com", "NULL", "REFUSED", "protocol-not-allowed", False),
    ("txt.example.com", "ANY", "REFUSED", "protocol-not-allowed", False),
    ("txt.example.com", "AXFR", "REFUSED", "protocol-not-allowed", False),
    ("txt.example.com", "IXFR", "REFUSED", "protocol-not-allowed", False),
]


@pytest.mark.parametrize("case", SYNTHETIC, ids=lambda case: f"{case[1]} {case[0]}")
def test_synthetic_truth_table(bench: Make, upstream: NameServer, case: tuple[str, str, str, str, bool]) -> None:
    """INVARIANT no-grant-no-connect: nothing leaves for what no rule could allow."""
    name, kind, told, reason, leaves = case

    async def play(own: Bench) -> None:
        assert fnmatchcase(await own.told(name, kind), told)
        (row,) = own.ledger.decisions
        assert (row.reason, row.protocol, row.method, row.count) == (reason, "dns", kind, 1)
        assert bool(upstream.asked) == leaves

    bench(RULES).run(play)


REAL_CASES = [
    ("api.example.com", "A", "NOERROR 93.184.216.34", "rule-allow"),
    ("api.example.com", "AAAA", "NOERROR 2606:2800:21f:cb07:6820:80da:af6b:8b2c", "rule-allow"),
    ("four.example.com", "AAAA", "NOERROR", "rule-allow"),
    # rebinding: what could not be dialled is not told
    ("rebound.example.com", "A", "NOERROR 93.184.216.36", "rule-allow"),
    ("inside.example.com", "A", "NXDOMAIN", "address-not-public"),
    ("gone.example.com", "A", "NXDOMAIN", "rule-allow"),
    ("evil.test", "A", "NXDOMAIN", "host-not-allowed"),
]


@pytest.mark.parametrize(("name", "kind", "told", "reason"), REAL_CASES)
def test_real_truth_table(bench: Make, name: str, kind: str, told: str, reason: str) -> None:
    """INVARIANT private-by-default: an answer names no address that a connection could not go to."""

    async def play(own: Bench) -> None:
        assert await own.told(name, kind) == told
        assert [row.reason for row in own.ledger.decisions] == [reason]

    bench(RULES, **REAL).run(play)


def test_private_addresses_that_a_rule_opens_are_told(bench: Make) -> None:
    """As they would be dialled."""

    async def play(own: Bench) -> None:
        assert await own.told("inside.example.com") == "NOERROR 10.0.0.1"

    bench("rules: [{allow: inside.example.com, addresses: [10.0.0.0/8]}]", **REAL).run(play)


@pytest.mark.parametrize(("mode", "ttl"), [({}, 60), ({"ttl": 5}, 5), (REAL, 60), ({**REAL, "ttl": 1_000}, 300)])
def test_an_answer_is_kept_for_a_bounded_time(bench: Make, mode: dict[str, object], ttl: int) -> None:
    """Ours for as long as we say; the name's own, as long as its server says, and no longer than we say."""

    async def play(own: Bench) -> None:
        (rrset,) = (await own.ask("api.example.com")).answer
        assert rrset.ttl in {ttl, ttl - 1}

    bench(RULES, **mode).run(play)


def test_a_refusal_says_why(bench: Make) -> None:
    """The extended error has the reason and the id of the row."""

    async def play(own: Bench) -> None:
        denied = await own.ask("evil.test")
        (row,) = own.ledger.decisions
        assert errors(denied) == [(15, f"host-not-allowed; decision {row.id}")]
        again = await own.ask("evil.test")
        assert errors(again) == errors(denied)
        plain = await own.send(query("evil.test", edns=False))
        assert plain is not None
        assert dns.message.from_wire(plain).edns == -1

    bench(RULES).run(play)


def test_the_question_comes_back_as_it_was_written(bench: Make) -> None:
    """Clients that mix upper and lower case compare it with what they sent."""

    async def play(own: Bench) -> None:
        for kind, name in (("A", "aPi.ExAmPlE.cOm"), ("A", "EvIl.TeSt"), ("TXT", "tXt.example.COM")):
            answer = await own.ask(name, kind)
            assert answer.question[0].name.to_text() == f"{name}."
            assert {rrset.name.to_text() for rrset in answer.answer} <= {f"{name}."}

    bench(RULES).run(play)


def test_the_name_of_what_was_given(bench: Make) -> None:
    """An address that stands for a name is told by it, in both families; one that nobody was given is none."""

    async def play(own: Bench) -> None:
        for kind in ("A", "AAAA"):
            (rrset,) = (await own.ask("api.example.com", kind)).answer
            reverse = dns.reversename.from_address(rrset[0].to_text()).to_text()
            assert await own.told(reverse, "PTR") == "NOERROR api.example.com."
        assert await own.told(dns.reversename.from_address("198.19.255.254").to_text(), "PTR") == "NXDOMAIN"

    bench(RULES).run(play)


def test_the_name_that_another_sandbox_asked_for_is_not_told(bench: Make) -> None:
    """Who may not ask for a name does not learn that somebody did."""

    async def play(own: Bench) -> None:
        (rrset,) = (await own.ask("host1.wild.example", address=OF_OTHER)).answer
        reverse = dns.reversename.from_address(rrset[0].to_text()).to_text()
        assert await own.told(reverse, "PTR", OF_OTHER) == "NOERROR host1.wild.example."
        assert await own.told(reverse, "PTR", OF_SANDBOX) == "NXDOMAIN"

    made = bench('rules: [{allow: "host${sandbox.label.n}.wild.example"}]')
    made.sandboxes = True
    made.labels = {"agent": "2", "other": "1"}
    made.run(play)


def test_who_is_no_sandbox_is_refused(bench: Make, upstream: NameServer) -> None:
    """And gets back no more than it sent: its address may be somebody else's."""

    async def play(own: Bench) -> None:
        for name in ("api.example.com", "evil.test"):
            for kind in ("A", "TXT", "ANY"):
                asked = query(name, kind)
                answer = await own.send(asked, OF_NOBODY)
                assert answer is not None
                assert len(answer) <= len(asked)
                assert short(dns.message.from_wire(answer)) == "REFUSED"
        assert {(row.sandbox, row.reason) for row in own.ledger.decisions} == {("unknown", "sandbox-unknown")}
        assert await own.told("api.example.com", address=OF_SANDBOX) != "REFUSED"

    made = bench(RULES)
    made.sandboxes = True
    made.run(play)
    assert {name for name, _, _ in upstream.asked} == {"api.example.com."}


@pytest.mark.parametrize("state", ["flooding", "draining", "failing"])
def test_who_is_no_sandbox_gets_no_more_back_in_any_state(
    bench: Make, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """Beyond its rate, at the end, in a fault: an answer that explains itself would make floods larger for others."""

    async def play(own: Bench) -> None:
        own.gate.draining = state == "draining"
        if state == "failing":
            monkeypatch.setattr(QuestionLedger, "repeats", lambda *_: 1 / 0)
        for _ in range(3):
            asked = query("evil.test")
            answer = await own.send(asked, OF_NOBODY)
            assert answer is not None
            assert len(answer) <= len(asked)

    made = bench(RULES, limits=DnsLimits(queries=Rate(1, 60)))
    made.sandboxes = True
    made.run(play)


def test_a_reload_denies(bench: Make) -> None:
    """From the next question on, also for a name that was answered before."""

    async def play(own: Bench) -> None:
        before = await own.told("api.example.com")
        own.gate.swap(own.generation("rules: [{allow: other.example.com}]"))
        assert await own.told("api.example.com") == "NXDOMAIN"
        own.gate.swap(own.generation(RULES))
        assert await own.told("api.example.com") == before

    bench(RULES).run(play)


def test_report_mode_answers_and_says_so(bench: Make) -> None:
    """As elsewhere: what would be refused passes, recorded as that."""

    async def play(own: Bench) -> None:
        assert fnmatchcase(await own.told("host1.wild.example"), "NOERROR 198.1?.*")
        assert [row.reason for row in own.ledger.decisions] == ["would-deny"]

    bench("mode: report\nrules: [{allow: api.example.com}]").run(play)


def test_without_room_there_is_no_answer_rather_than_anothers(bench: Make) -> None:
    """Every address in use: SERVFAIL, with a row."""

    async def play(own: Bench) -> None:
        told = [await own.told(f"host{number}.wild.example") for number in range(5)]
        assert [each.split()[0] for each in told] == ["NOERROR"] * 1 + ["SERVFAIL"] * 4
        assert {row.reason for row in own.ledger.decisions if row.verdict == "deny"} == {"limit-requests"}

    bench(RULES, ipv4=ip_network("198.18.0.0/29")).run(play)


def test_a_family_without_a_range_is_empty(bench: Make) -> None:
    """The name exists, and has no address of that kind."""

    async def play(own: Bench) -> None:
        assert await own.told("api.example.com", "AAAA") == "NOERROR"

    bench(RULES, ipv6=None).run(play)


def test_an_upstream_that_does_not_answer(bench: Make, upstream: NameServer) -> None:
    """SERVFAIL: nothing is made up."""
    upstream.silent.add("hidden.example.com")
    upstream.broken.add("txt.example.com")

    async def play(own: Bench) -> None:
        assert await own.told("hidden.example.com") == "SERVFAIL"
        assert await own.told("txt.example.com", "TXT") == "SERVFAIL"

    bench(RULES).run(play)


def test_long_answers_are_cut_for_datagrams_and_whole_over_tcp(bench: Make) -> None:
    """TC, and no record; what is too long for anybody is an error."""

    async def play(own: Bench) -> None:
        for asked in (query("big.example.com", "TXT"), query("big.example.com", "TXT", edns=False)):
            cut = await own.send(asked)
            assert cut is not None
            assert len(cut) <= 512
            answer = dns.message.from_wire(cut)
            assert answer.flags & dns.flags.TC
            assert short(answer) == "NOERROR"
        whole = await own.ask("big.example.com", "TXT", stream=True)
        assert len(whole.answer[0]) == 20
        assert await own.told("huge.example.com", "TXT") == "SERVFAIL"

    bench(RULES).run(play)


def test_a_fault_answers_nothing(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """INVARIANT fail-closed: SERVFAIL, and a row."""

    async def play(own: Bench) -> None:
        async def broken(*_: object) -> None:
            raise RuntimeError("the book is on fire")

        monkeypatch.setattr(own.book, "lend", broken)
        assert await own.told("api.example.com") == "SERVFAIL"
        assert [row.reason for row in own.ledger.decisions] == ["internal-error"]

    bench(RULES).run(play)


def test_without_a_record_nothing_is_told(bench: Make, upstream: NameServer) -> None:
    """INVARIANT every-decision-leaves-a-record: an audit that takes nothing, and names are not answered."""

    async def play(own: Bench) -> None:
        own.ledger.accepts = lambda _: False
        assert await own.told("api.example.com") == "SERVFAIL"
        assert await own.told("txt.example.com", "TXT") == "SERVFAIL"
        assert await own.told("evil.test") == "NXDOMAIN"
        own.ledger.accepts = lambda _: True
        assert (await own.told("api.example.com")).startswith("NOERROR")

    bench(RULES).run(play)
    assert {kind for _, kind, _ in upstream.asked} == {"A", "AAAA"}


def test_while_draining_nothing_is_told(bench: Make) -> None:
    """Whoever asks then asks the next one."""

    async def play(own: Bench) -> None:
        own.gate.draining = True
        assert await own.told("api.example.com") == "SERVFAIL"

    bench(RULES).run(play)
