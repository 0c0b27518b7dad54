"""Which rules let a WebSocket through: its handshake is a GET, and what follows goes both ways, unjudged."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_builders import INJECT, policy, request, rule, rules

from egress.policy import AnyTarget, Certainty, Host, Protocol, Request, Rule, Target, Verdict

A = "a.example"
EVERY = "http https ws wss"
WEBSOCKET = (Protocol.WS, Protocol.WSS)

# the rules in order -> with which protocols a GET of /a is allowed
CASES: list[tuple[tuple[Rule, ...], str]] = [
    # neither methods nor protocol: WebSocket too
    ((rule("allow", A),), EVERY),
    ((rule("allow", A, paths=("/a",)),), EVERY),
    ((rule("allow", A, inject=INJECT),), EVERY),
    ((rule("allow", A, http2=True),), EVERY),
    # methods and no protocol: a rule for requests, whichever methods they are
    ((rule("allow", A, methods="GET"),), "http https"),
    ((rule("allow", A, methods="GET HEAD OPTIONS"),), "http https"),
    ((rule("allow", A, methods="GET POST PUT DELETE"),), "http https"),
    ((rule("allow", A, methods="GET", paths=("/a",)),), "http https"),
    ((rule("allow", A, methods="POST"),), ""),
    # protocol: what it names
    ((rule("allow", A, protocol="wss"),), "wss"),
    ((rule("allow", A, protocol="ws"),), "ws"),
    ((rule("allow", A, protocol="ws wss"),), "ws wss"),
    ((rule("allow", A, protocol="https"),), "https"),
    ((rule("allow", A, protocol="https wss"),), "https wss"),
    ((rule("allow", A, protocol="wss", methods="GET"),), "wss"),
    ((rule("allow", A, protocol="wss", methods="POST"),), ""),
    # a rule that does not match leaves the word to the next
    ((rule("allow", A, methods="GET"), rule("allow", A, protocol="wss", paths=("/a",))), "http https wss"),
    ((rule("deny", A, protocol="ws wss"), rule("allow", A)), "http https"),
    ((rule("deny", A, methods="GET"), rule("allow", A)), ""),
    ((rule("deny", A, methods="DELETE"), rule("allow", A)), EVERY),
    ((rule("ask", A, protocol="wss"), rule("allow", A)), "http https ws"),
]


@pytest.mark.parametrize(("listed", "allowed"), CASES)
def test_websocket_truth_table(listed: tuple[Rule, ...], allowed: str) -> None:
    """A rule for reading does not become a channel that writes."""
    judged = policy(*listed)
    found = [word for word in EVERY.split() if judged.decide_request(request(f"{word}://{A}", "GET", "/a")).allowed]
    assert found == allowed.split()


@pytest.mark.parametrize(("listed", "allowed"), CASES)
def test_the_name_step_never_refuses_what_an_upgrade_would_be_allowed(listed: tuple[Rule, ...], allowed: str) -> None:
    """A CONNECT does not say whether a WebSocket will follow, so any protocol that is allowed keeps it open."""
    judged = policy(*listed)
    for plain, upgraded in (("http", "ws"), ("https", "wss")):
        if {plain, upgraded} & set(allowed.split()):
            assert judged.decide_name(request(f"{plain}://{A}")).certainty is not Certainty.NO


@settings(max_examples=300)
@given(rules(Verdict.ALLOW), st.sampled_from(WEBSOCKET), st.sampled_from([80, 443, 8443]))
def test_no_rule_that_states_methods_alone_allows_a_websocket(own: Rule, protocol: Protocol, port: int) -> None:
    """A rule that a WebSocket is allowed under names it, or states neither methods nor protocol."""
    everywhere = replace(own, targets=(Target(AnyTarget()),))
    if policy(everywhere).decide_request(Request("s", protocol, Host(A), port, "GET", "/a")).allowed:
        assert protocol in own.protocols if own.protocols is not None else own.methods is None
