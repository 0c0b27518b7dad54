"""The name step: no, yes or maybe before anything is resolved, and what becomes of the TLS hello."""

from __future__ import annotations

import pytest
from policy_builders import INJECT, policy, request, rule, scope

from egress.policy import Certainty, Reason, Rule, Scope, ScopeRules, TlsMode

INSPECT, AUTO, TUNNEL = TlsMode.INSPECT, TlsMode.AUTO, TlsMode.TUNNEL
A = "a.example"

# rules, asked, certainty, TLS
CASES: list[tuple[tuple[Rule, ...], str, str, TlsMode]] = [
    ((rule("allow", A),), f"https://{A}", "yes", INSPECT),
    ((rule("allow", A),), "https://b.example", "no", INSPECT),
    ((rule("allow", A),), f"https://{A}:8443", "no", INSPECT),
    ((rule("allow", A),), f"tcp://{A}:443", "no", TUNNEL),
    ((rule("allow", A, ports=((22, 22),), protocol="tcp"),), f"tcp://{A}:22", "yes", TUNNEL),
    ((rule("allow", A, methods="GET"),), f"https://{A}", "maybe", INSPECT),
    ((rule("allow", A, paths=("/a",)),), f"https://{A}", "maybe", INSPECT),
    ((rule("deny", A, methods="DELETE"), rule("allow", A)), f"https://{A}", "maybe", INSPECT),
    ((rule("deny", A, methods="DELETE"),), f"https://{A}", "no", INSPECT),
    ((rule("ask", A, methods="DELETE"), rule("allow", A)), f"https://{A}", "maybe", INSPECT),
    ((rule("ask", A), rule("allow", A)), f"https://{A}", "no", INSPECT),
    ((rule("deny", A), rule("allow", A)), f"https://{A}", "no", INSPECT),
    ((rule("allow", A, methods="GET"), rule("allow", A)), f"https://{A}", "yes", INSPECT),
    ((rule("allow", A, protocol="wss"),), f"https://{A}", "maybe", INSPECT),
    ((rule("allow", A, protocol="ws"),), f"http://{A}", "maybe", INSPECT),
    ((rule("allow", A, protocol="ws"),), f"https://{A}", "no", INSPECT),
    ((rule("allow", A, protocol="https"),), f"https://{A}", "maybe", INSPECT),
    ((rule("allow", A, protocol="https wss"),), f"https://{A}", "yes", INSPECT),
    ((rule("allow", A, inject=INJECT),), f"https://{A}", "yes", INSPECT),
    # tunnel: nothing is left to the request
    ((rule("allow", A, tls=TUNNEL),), f"https://{A}", "yes", TUNNEL),
    ((rule("allow", A, tls=TUNNEL, methods="GET"),), f"https://{A}", "no", TUNNEL),
    ((rule("allow", A, tls=TUNNEL, inject=INJECT),), f"https://{A}", "no", TUNNEL),
    ((rule("allow", A, tls=TUNNEL, remove=("Cookie",)),), f"https://{A}", "no", TUNNEL),
    ((rule("allow", A, tls=TUNNEL, protocol="https"),), f"https://{A}", "no", TUNNEL),
    ((rule("allow", A, tls=TUNNEL, protocol="https wss"),), f"https://{A}", "yes", TUNNEL),
    ((rule("deny", A, methods="DELETE"), rule("allow", A, tls=TUNNEL)), f"https://{A}", "no", TUNNEL),
    ((rule("deny", A, protocol="wss"), rule("allow", A, tls=TUNNEL)), f"https://{A}", "no", TUNNEL),
    ((rule("allow", A, methods="GET", tls=INSPECT), rule("allow", A, tls=TUNNEL)), f"https://{A}", "yes", INSPECT),
    # auto: opened where a rule that could match needs the inside
    ((rule("allow", A, tls=AUTO),), f"https://{A}", "yes", TUNNEL),
    ((rule("allow", A, tls=AUTO, methods="GET"),), f"https://{A}", "maybe", INSPECT),
    ((rule("allow", A, tls=AUTO, inject=INJECT),), f"https://{A}", "yes", INSPECT),
    ((rule("allow", A, tls=AUTO, protocol="https"),), f"https://{A}", "maybe", INSPECT),
    ((rule("deny", A, paths=("/x",)), rule("allow", A, tls=AUTO)), f"https://{A}", "maybe", INSPECT),
    ((rule("allow", A, tls=AUTO), rule("deny", A, paths=("/x",))), f"https://{A}", "yes", TUNNEL),
    ((rule("deny", A, methods="GET", ports=((1, 1),)), rule("allow", A, tls=AUTO)), f"https://{A}", "yes", TUNNEL),
    ((rule("allow", A, tls=AUTO, methods="GET"),), f"http://{A}", "maybe", INSPECT),
    ((rule("allow", "93.184.216.34"),), "https://93.184.216.34", "yes", INSPECT),
    ((rule("allow", "93.184.216.34"),), "https://93.184.216.35", "no", INSPECT),
]


@pytest.mark.parametrize(("rules", "url", "certainty", "tls"), CASES)
def test_a_name_alone_tells_no_yes_or_maybe(rules: tuple[Rule, ...], url: str, certainty: str, tls: TlsMode) -> None:
    """A rule that asks for method or path is a maybe; where nothing will be seen, there is none."""
    decided = policy(*rules).decide_name(request(url))
    assert decided.certainty == certainty
    if certainty != "no" or tls is TUNNEL:
        assert decided.tls is tls
    assert decided.decision.allowed == (certainty == "yes")


def test_the_method_of_the_request_plays_no_part() -> None:
    """Only protocol, host and port count, so a known method cannot turn a maybe into a yes."""
    decided = policy(rule("allow", A, methods="GET")).decide_name(request(f"https://{A}", "GET", "/"))
    assert decided.certainty is Certainty.MAYBE


def test_no_brings_the_denial_to_give() -> None:
    """With the reason and the rule that came closest."""
    decided = policy(rule("allow", A, name="web")).decide_name(request(f"https://{A}:22"))
    assert decided.decision.reason is Reason.PORT_NOT_ALLOWED
    assert decided.decision.rule is not None
    assert decided.decision.rule.name == "web"


def test_yes_brings_the_allow_with_its_headers() -> None:
    """Also where an unseen request would be denied, because the rule changes headers."""
    decided = policy(rule("allow", A, inject=INJECT)).decide_name(request(f"https://{A}"))
    assert decided.decision.inject == INJECT
    assert decided.decision.tls is INSPECT


# rules, asked, whether HTTP/2 is to be given to clients that offer it
HTTP2: list[tuple[tuple[Rule, ...], str, bool]] = [
    ((rule("allow", A),), f"https://{A}", False),
    ((rule("allow", A, http2=True),), f"https://{A}", True),
    ((rule("allow", A, http2=True),), f"wss://{A}", True),
    ((rule("allow", A, http2=True),), "https://b.example", False),
    ((rule("allow", A, http2=True),), f"https://{A}:8443", False),
    ((rule("allow", A, http2=True, methods="POST"),), f"https://{A}", True),
    ((rule("allow", A, methods="GET"), rule("allow", A, methods="POST", http2=True)), f"https://{A}", True),
    ((rule("allow", A), rule("allow", A, http2=True)), f"https://{A}", False),
    ((rule("deny", A), rule("allow", A, http2=True)), f"https://{A}", False),
    ((rule("deny", A, methods="DELETE"), rule("allow", A, http2=True)), f"https://{A}", True),
    ((rule("allow", A, http2=True, inject=INJECT),), f"https://{A}", True),
    ((rule("allow", A, http2=True, tls=AUTO),), f"https://{A}", False),
    ((rule("allow", A, http2=True, tls=AUTO, methods="GET"),), f"https://{A}", True),
    ((rule("allow", A, http2=True, tls=TUNNEL),), f"https://{A}", False),
    ((rule("allow", A, http2=True, ports=((22, 22),), protocol="tcp"),), f"tcp://{A}:22", False),
]


@pytest.mark.parametrize(("rules", "url", "http2"), HTTP2)
def test_a_name_tells_whether_a_rule_could_ask_for_http2(rules: tuple[Rule, ...], url: str, *, http2: bool) -> None:
    """Any allow that could match, opened TLS only: an unopened tunnel negotiates its own."""
    assert policy(*rules).decide_name(request(url)).http2 is http2


@pytest.mark.parametrize(("org", "sandbox"), [(True, False), (False, True), (True, True)])
def test_http2_of_any_scope_counts(*, org: bool, sandbox: bool) -> None:
    """It widens nothing, so no scope has to agree."""
    layered = policy(scope(rule("allow", A, http2=org), rank=Scope.ORG), scope(rule("allow", A, http2=sandbox)))
    assert layered.decide_name(request(f"https://{A}")).http2
    assert layered.decide_request(request(f"https://{A}", "GET", "/")).http2


# modes of org and sandbox (None: not stated) -> what the destination gets
MODES = [
    (TUNNEL, TUNNEL, TUNNEL),
    (TUNNEL, AUTO, TUNNEL),
    (AUTO, AUTO, TUNNEL),
    (INSPECT, TUNNEL, INSPECT),
    (TUNNEL, INSPECT, INSPECT),
    (None, TUNNEL, INSPECT),
    (TUNNEL, None, INSPECT),
]


@pytest.mark.parametrize(("org", "sandbox", "tls"), MODES)
def test_of_the_scopes_that_allow_the_strictest_tls_holds(
    org: TlsMode | None, sandbox: TlsMode | None, tls: TlsMode
) -> None:
    """Inspect > auto > tunnel; a scope that states none means inspect."""
    layered = policy(scope(rule("allow", A), tls=org, rank=Scope.ORG), scope(default="allow", tls=sandbox))
    assert layered.decide_name(request(f"https://{A}")).tls is tls


def test_a_scope_that_allows_nothing_has_no_say_in_tls() -> None:
    """A guard rail of denies leaves the mode to those that allow."""
    layered = policy(scope(rule("deny", "b.example"), tls=INSPECT, rank=Scope.ORG), scope(rule("allow", A, tls=TUNNEL)))
    assert layered.decide_name(request(f"https://{A}")).tls is TUNNEL


def test_auto_looks_inside_for_a_rule_of_any_scope() -> None:
    """A deny of the org that needs the method opens what the sandbox's rule would tunnel."""
    layered = policy(
        scope(rule("deny", "**", methods="DELETE"), rank=Scope.ORG), scope(rule("allow", A, tls=AUTO))
    ).decide_name(request(f"https://{A}"))
    assert (layered.certainty, layered.tls) == (Certainty.MAYBE, INSPECT)


GUARD = scope(rule("deny", A, methods="DELETE"), rank=Scope.ORG)
TEAM = Scope.TEAM
ASKED = [
    # scopes below the guard, asked, the verdict that is told, and why
    ((scope(rule("ask", A), rank=TEAM),), f"https://{A}", "ask", "approval-required"),
    ((scope(rule("allow", A), rank=TEAM), scope(rule("ask", A))), f"https://{A}", "ask", "approval-required"),
    # what is denied whatever it is, and what nobody will look into
    ((scope(rule("ask", A), rank=TEAM), scope(rule("deny", A))), f"https://{A}", "deny", "rule-deny"),
    ((scope(rule("ask", A), rank=TEAM), scope(rule("allow", A, tls=TUNNEL))), f"https://{A}", "deny", "rule-deny"),
    ((scope(rule("ask", A), rank=TEAM),), f"tcp://{A}:443", "deny", "rule-deny"),
    # an allow for another port stands before no deny
    (
        (scope(rule("allow", f"{A}:8443"), rule("deny", A), rank=TEAM), scope(rule("ask", A))),
        f"https://{A}",
        "deny",
        "rule-deny",
    ),
    ((scope(rule("ask", A, methods="GET"), rank=TEAM),), f"https://{A}", "deny", "rule-deny"),
]


@pytest.mark.parametrize(("below", "url", "verdict", "reason"), ASKED)
def test_a_name_that_is_asked_for_is_told_so_beside_a_guard(
    below: tuple[ScopeRules, ...], url: str, verdict: str, reason: str
) -> None:
    """A deny of some requests is not why the connection is refused, where a person is asked about every one."""
    told = policy(GUARD, *below).decide_name(request(url))
    assert (told.certainty, told.decision.verdict, told.decision.reason) == (Certainty.NO, verdict, reason)


def test_a_scope_that_is_silent_on_what_is_asked_for_says_why() -> None:
    """What it would allow elsewhere is near: a person who is asked learns how near."""
    told = policy(GUARD, scope(rule("allow", f"{A}:8443"), rank=TEAM), scope(rule("ask", A))).decide_name(
        request(f"https://{A}")
    )
    assert told.decision.verdict == "ask"
    assert [say.reason for say in told.decision.says if say.scope is TEAM] == [Reason.PORT_NOT_ALLOWED]
