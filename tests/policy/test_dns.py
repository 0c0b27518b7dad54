"""Which rules speak of DNS questions: a question has a name, and no port, method or path that a rule could ask for."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from policy_builders import FUTURE, INJECT, PAST, policy, request, rule, scope

from egress.policy import Certainty, Policy, Protocol, Reason, Rule, Scope, TlsMode, Verdict

A = "a.host.example"

# the rules in order -> which of a DNS question, HTTPS, plain HTTP and raw TCP on port 53 for the host are allowed
ASKED = {
    "dns": request(f"dns://{A}:53"),
    "https": request(f"https://{A}", "GET", "/a"),
    "http": request(f"http://{A}", "GET", "/a"),
    "tcp": request(f"tcp://{A}:53"),
}
CASES: list[tuple[tuple[Rule, ...], str]] = [
    # an allow speaks of questions only if it says so, and then of nothing else
    ((rule("allow", A),), "https http"),
    ((rule("allow", "**"),), "https http"),
    ((rule("allow", A, ports=((53, 53),)),), ""),
    ((rule("allow", A, ports=((53, 53),), protocol="tcp"),), "tcp"),
    ((rule("allow", A, protocol="dns"),), "dns"),
    ((rule("allow", "**", protocol="dns"),), "dns"),
    ((rule("allow", "*.host.example", protocol="dns"),), "dns"),
    ((rule("allow", A, protocol="https dns"),), "dns https"),
    ((rule("allow", A), rule("allow", A, protocol="dns")), "dns https http"),
    ((rule("allow", A, protocol="dns"), rule("allow", A)), "dns https http"),
    # whatever ports it names, those are of connections
    ((rule("allow", A, protocol="https dns", ports=((8443, 8443),)),), "dns"),
    ((rule("allow", f"{A}:443", protocol="https dns"),), "dns https"),
    ((rule("allow", A, protocol="https dns", ports=((53, 53),)),), "dns"),
    ((rule("allow", A, protocol="tcp dns", ports=((53, 53),)),), "dns tcp"),
    # an address is no name, and another name is not this one
    ((rule("allow", "10.0.0.0/8", protocol="dns"),), ""),
    ((rule("allow", "b.example", protocol="dns"),), ""),
    # a denial without `protocol` is one of everything
    ((rule("deny", A), rule("allow", A, protocol="https dns")), ""),
    ((rule("ask", "**"), rule("allow", A, protocol="https dns")), ""),
    ((rule("deny", A, ports=((443, 443),)), rule("allow", A, protocol="https dns")), "dns"),
    ((rule("deny", A, ports=((1, 100),)), rule("allow", A, protocol="https dns")), "https"),
    # but one of some of the host's requests says nothing of its name
    ((rule("deny", A, methods="GET"), rule("allow", A, protocol="https dns")), "dns"),
    ((rule("deny", A, paths=("/a",)), rule("allow", A, protocol="https dns")), "dns"),
    ((rule("deny", A, query=(("a", None),)), rule("allow", A, protocol="https dns")), "dns https"),
    # one that names questions denies those alone, on whatever port
    ((rule("deny", A, protocol="dns"), rule("allow", A, protocol="https http dns")), "https http"),
    ((rule("deny", f"{A}:443", protocol="dns"), rule("allow", A, protocol="https dns")), "https"),
    ((rule("deny", A, protocol="https"), rule("allow", A, protocol="https dns")), "dns"),
    ((rule("deny", A, protocol="https dns"), rule("allow", A, protocol="https http dns")), "http"),
    ((rule("deny", A, protocol="tcp dns"), rule("allow", A, protocol="https dns")), "https"),
    # time counts, and a change of headers that no question could carry
    ((rule("allow", A, protocol="dns", until=PAST),), ""),
    ((rule("allow", A, protocol="dns", until=FUTURE),), "dns"),
    ((rule("allow", A, protocol="https dns", inject=INJECT),), "https"),
]


def allowed_by(judged: Policy) -> list[str]:
    """What of the four is allowed."""
    return [word for word, asked in ASKED.items() if judged.decide_request(asked).allowed]


@pytest.mark.parametrize(("listed", "allowed"), CASES)
def test_dns_truth_table(listed: tuple[Rule, ...], allowed: str) -> None:
    """A rule for questions opens no connection, and one for connections answers no question."""
    assert allowed_by(policy(*listed)) == allowed.split()


@pytest.mark.parametrize(("listed", "allowed"), CASES)
def test_the_name_step_knows_all_of_a_question(listed: tuple[Rule, ...], allowed: str) -> None:
    """So it says yes or no, never maybe."""
    told = policy(*listed).decide_name(ASKED["dns"])
    assert told.certainty is (Certainty.YES if "dns" in allowed.split() else Certainty.NO)
    assert told.decision.allowed == ("dns" in allowed.split())


def test_a_port_of_a_question_says_nothing() -> None:
    """Whichever port the question came to, a rule that names it speaks."""
    judged = policy(rule("allow", A, protocol="dns"))
    assert all(judged.decide_request(request(f"dns://{A}:{port}")).allowed for port in (53, 443, 5353))


def test_a_default_is_of_questions_too() -> None:
    """What no rule of a scope speaks of goes by its default, whatever it is."""
    assert allowed_by(policy(rule("deny", "b.example"), default="allow")) == list(ASKED)


@pytest.mark.parametrize("above", [rule("deny", A), rule("deny", "**", protocol="dns"), rule("ask", A, protocol="dns")])
def test_a_higher_scope_denies_questions(above: Rule) -> None:
    """Scopes only narrow, of questions as of everything."""
    judged = policy(scope(above, rank=Scope.ORG), scope(rule("allow", A, protocol="dns")))
    assert not judged.decide_request(ASKED["dns"]).allowed


# the rules -> what is said where a question is refused, and where a connection is
TOLD = [
    (rule("allow", A), f"A rule allows `{A}`, but no DNS questions for it.", None),
    (rule("allow", A, protocol="dns"), None, f"A rule allows `{A}`, but not with https on port 443."),
]


@pytest.mark.parametrize(("own", "of_question", "of_connection"), TOLD)
def test_a_refusal_says_that_the_protocol_is_another(
    own: Rule, of_question: str | None, of_connection: str | None
) -> None:
    """Not that it is the port."""
    judged = policy(own)
    for word, detail in (("dns", of_question), ("https", of_connection)):
        decision = judged.decide_request(ASKED[word])
        assert decision.allowed == (detail is None)
        if detail is not None:
            assert (decision.reason, decision.detail) == (Reason.PROTOCOL_NOT_ALLOWED, detail)


def test_an_answer_goes_by_the_addresses_of_the_rule_that_allowed() -> None:
    """A denied range is denied in an answer as in a connection; what is not public must be named."""
    judged = policy(
        rule("deny", "10.1.0.0/16"), rule("allow", A, protocol="dns", addresses=("10.0.0.0/8",)), tls=TlsMode.INSPECT
    )
    decision = judged.decide_request(ASKED["dns"])
    addresses = [ip_address(text) for text in ("10.1.2.3", "10.2.2.3", "127.0.0.1", "93.184.216.34")]
    found = judged.decide_address(ASKED["dns"], decision, addresses)
    assert [str(address) for address in found.addresses] == ["10.2.2.3", "93.184.216.34"]
    assert found.decision.verdict is Verdict.ALLOW


def test_every_protocol_is_in_one_group() -> None:
    """The four that are asked here stand for all: HTTPS and plain HTTP for their WebSockets and gRPC."""
    assert set(Protocol) - {Protocol.WS, Protocol.WSS, Protocol.GRPC} == set(map(Protocol, ASKED))
