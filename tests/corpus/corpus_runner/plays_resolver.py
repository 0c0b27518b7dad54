"""The resolver under attack: tunnels and floods of questions, poisoned answers, and code of its own that fails.

Each has a proxy of its own, since what is asked there would use up the others' budgets.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dns.message
import dns.rcode
import dns.rrset
from harness.proxy import CONFIG
from harness.world import ALLOWED4, EVIL4

from corpus_runner.evidence import gather, judge, wait_rows
from corpus_runner.plays_faults import end, start_broken
from corpus_runner.plays_load import RECOVERY, bounded
from corpus_runner.policies import ENVIRONMENT, HOST, INJECT
from corpus_runner.questions import FORMERR, NOERROR, NXDOMAIN, REFUSED, Asker, query
from corpus_runner.scripts import script
from corpus_runner.wire import ask, observe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.proxy import ProxyProcess
    from harness.world import World

    from corpus_runner.cases import Case

PORT = 5353
# Of a tunnel, in labels.
NAMES = 1_000


def _listening(world: World, more: str = "") -> tuple[tuple[str, int], str]:
    """An address for questions that nobody had, and the configuration that listens there."""
    where = world.fresh_client().replace("10.77.", "10.53."), PORT
    return where, f"dns: {{listen: '{where[0]}:{PORT}'{more}}}\n"


@contextmanager
def started(world: World, policy: str, dns: str = "", more: str = "") -> Iterator[tuple[ProxyProcess, tuple[str, int]]]:
    """A proxy in the world's namespace, and where it answers questions."""
    where, listening = _listening(world, dns)
    proxy = world.start(policy, config=CONFIG + listening + more, env=ENVIRONMENT)
    assert proxy.address
    yield proxy, where
    proxy.close()


def _ask(world: World, where: tuple[str, int], source: str, data: bytes) -> bytes:
    with Asker(world.namespace, where, source) as asker:
        return asker.ask(data)


@script("DNS-031")
def ever_new_names(world: World, case: Case) -> None:
    """A tunnel of labels under an allowed domain runs dry: far fewer leave than are asked for, and it is told."""
    policy = HOST + '  - allow: "*.t.allowed.test"\n'
    source, marks = world.fresh_client(), world.marks()
    with started(world, policy, ", limits: {parent_names: 100/h}") as (proxy, where):
        with Asker(world.namespace, where, source) as asker:
            answers = asker.pour([query(f"label{number}.t.allowed.test") for number in range(NAMES)])
        codes = Counter(answer[3] & 15 for answer in answers)
        assert codes == {NOERROR: 100, REFUSED: NAMES - 100}
        assert len({name for name, _ in gather(world, proxy, source, marks).questions}) == 100
        over = world.marks()
        assert _ask(world, where, source, query("one-more.t.allowed.test"))[3] & 15 == REFUSED
        evidence = gather(world, proxy, source, over)
        rows = proxy.wait_rows(source, lambda rows: any(row["reason"] == "limit-requests" for row in rows))
    evidence.rows = [row for row in rows if row["verdict"] == "deny"]
    judge(case, evidence)
    assert {row["reason"] for row in evidence.rows} == {"limit-requests"}


@script("DOS-029")
def flood_of_questions(world: World, case: Case) -> None:
    """Ten thousand questions at once, for names allowed and not: others are answered soon, in bounded memory."""
    flood, other, questions = "10.88.0.1", world.fresh_client(), len(world.names.questions)
    sandboxes = f"sandboxes: {{flood: {{source: {flood}}}, others: {{source: 10.77.0.0/16}}}}\n"
    data = [query(("allowed.test", "evil.test", f"l{number}.evil.test")[number % 3]) for number in range(10_000)]
    with (
        started(world, HOST, more=sandboxes) as (proxy, where),
        bounded(world, case, proxy),
        Asker(world.namespace, where, flood) as asker,
    ):
        asker.throw(data)
        began = time.monotonic()
        with Asker(world.namespace, where, other) as client:
            assert client.persist(query("allowed.test"), RECOVERY)[3] & 15 == NOERROR
        assert time.monotonic() - began < RECOVERY
        assert proxy.alive
    assert not [name for name, _ in world.names.questions[questions:] if name.endswith("evil.test")]


@script("FAILOPEN-018")
def broken_question(world: World, case: Case) -> None:
    """Code that raises where a question is judged answers nothing, asks nobody, and leaves its row."""
    where, listening = _listening(world)
    fault = ("--break", "egress.proxy.dns.answering:decide_question:raise")
    proxy = start_broken(world, HOST, *fault, more=listening)
    assert proxy.address
    source, marks = world.fresh_client(), world.marks()
    answer = _ask(world, where, source, query("allowed.test"))
    evidence = gather(world, proxy, source, marks)
    assert dns.message.from_wire(answer).rcode() == dns.rcode.SERVFAIL
    wait_rows(evidence, "deny")
    end(proxy)
    judge(case, evidence)
    assert not evidence.questions


@script("ISOLATION-008")
def poisoned_answers(world: World, case: Case) -> None:
    """What one tenant sends, or its own name server adds to an answer, changes nobody's answer for another name."""
    one, other = world.fresh_client(), world.fresh_client()
    sandboxes = f"sandboxes: {{tenant-a: {{source: {one}}}, tenant-b: {{source: {other}}}}}\n"
    policy = INJECT + "  - {allow: mine.evil.test, sandboxes: tenant-a}\n"
    poison = dns.rrset.from_text("allowed.test.", 3_600, "IN", "A", EVIL4)
    forged = dns.message.make_response(dns.message.make_query("allowed.test", "A"))
    forged.answer.append(poison)
    asking = dns.message.make_query("allowed.test", "A")
    asking.additional.append(poison)
    world.names.beside["mine.evil.test"] = [f"allowed.test. A {EVIL4}"]
    with started(world, policy, ", answers: real", sandboxes) as (proxy, where):
        told = dns.message.from_wire(_ask(world, where, one, query("mine.evil.test")))
        assert [(str(rrset.name), _addresses(rrset)) for rrset in told.answer] == [("mine.evil.test.", [EVIL4])]
        with Asker(world.namespace, where, one) as asker:
            asker.throw([forged.to_wire()])
            assert asker.ask(asking.to_wire())[3] & 15 == FORMERR
        told = dns.message.from_wire(_ask(world, where, other, query("allowed.test")))
        assert [_addresses(rrset) for rrset in told.answer] == [[ALLOWED4]]
        assert _ask(world, where, other, query("mine.evil.test"))[3] & 15 == NXDOMAIN
        evidence = observe(world, proxy, ask, "allow", source=other)
        words = ["reaches(allowed)", "exactly_one_injected(allowed)", "no_upstream_conn(evil)", "no_canary(evil)"]
        judge(case, evidence, [*case.asserts, *words])
    del world.names.beside["mine.evil.test"]


def _addresses(rrset: dns.rrset.RRset) -> list[str]:
    return [str(record) for record in rrset]
