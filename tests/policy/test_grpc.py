"""Which rules speak of gRPC: it is HTTPS, a POST over HTTP/2 that says so, and known at the request only."""

from __future__ import annotations

import pytest
from policy_builders import INJECT, policy, request, rule

from egress.policy import Certainty, Protocol, Request, Rule, TlsMode

A = "a.example"
EVERY = "https wss grpc"

# the rules in order -> with which protocols (gRPC by POST, the others by GET) a request of /a is allowed
CASES: list[tuple[tuple[Rule, ...], str]] = [
    # an allow that names none, or https, covers gRPC
    ((rule("allow", A),), EVERY),
    ((rule("allow", A, protocol="https"),), "https grpc"),
    ((rule("allow", A, protocol="http https ws wss"),), EVERY),
    ((rule("allow", A, protocol="https", methods="POST"),), "grpc"),
    ((rule("allow", A, methods="POST"),), "grpc"),
    ((rule("allow", A, methods="GET POST"),), "https grpc"),
    ((rule("allow", A, methods="GET HEAD OPTIONS"),), "https"),
    ((rule("allow", A, paths=("/b",)),), ""),
    # one that names it allows nothing else
    ((rule("allow", A, protocol="grpc"),), "grpc"),
    ((rule("allow", A, protocol="grpc", paths=("/a",)),), "grpc"),
    ((rule("allow", A, protocol="grpc", inject=INJECT),), "grpc"),
    ((rule("allow", A, protocol="grpc", methods="GET"),), ""),
    ((rule("allow", A, protocol="grpc wss"),), "wss grpc"),
    ((rule("allow", A, protocol="http ws"),), ""),
    ((rule("allow", A, protocol="wss"),), "wss"),
    # so do denials
    ((rule("deny", A, protocol="grpc"), rule("allow", A)), "https wss"),
    ((rule("ask", A, protocol="grpc"), rule("allow", A)), "https wss"),
    ((rule("deny", A, protocol="https"), rule("allow", A)), "wss"),
    ((rule("deny", A, protocol="wss"), rule("allow", A)), "https grpc"),
    ((rule("deny", A, methods="POST"), rule("allow", A)), "https wss"),
    ((rule("deny", A), rule("allow", A, protocol="grpc")), ""),
    # a rule that does not match leaves the word to the next
    ((rule("allow", A, protocol="grpc"), rule("allow", A, protocol="wss")), "wss grpc"),
]


def asked(word: str) -> Request:
    """A request of this protocol."""
    return request(f"{word}://{A}", "POST" if word == "grpc" else "GET", "/a")


@pytest.mark.parametrize(("listed", "allowed"), CASES)
def test_grpc_truth_table(listed: tuple[Rule, ...], allowed: str) -> None:
    """Who allows or denies https says so of gRPC; who names gRPC says nothing else."""
    judged = policy(*listed)
    assert [word for word in EVERY.split() if judged.decide_request(asked(word)).allowed] == allowed.split()


@pytest.mark.parametrize(("listed", "allowed"), CASES)
def test_the_name_step_keeps_open_what_may_be_grpc(listed: tuple[Rule, ...], allowed: str) -> None:
    """A CONNECT says nothing of what follows."""
    certainty = policy(*listed).decide_name(request(f"https://{A}")).certainty
    assert (certainty is Certainty.NO) <= (not allowed)


# the rules -> whether TLS that is never opened passes
UNOPENED = [
    ((rule("allow", A, tls=TlsMode.TUNNEL),), True),
    ((rule("allow", A, tls=TlsMode.TUNNEL, protocol="https wss"),), True),
    ((rule("allow", A, tls=TlsMode.TUNNEL, protocol="https grpc"),), False),
    ((rule("allow", A, tls=TlsMode.TUNNEL, protocol="grpc"),), False),
    ((rule("deny", A, protocol="grpc"), rule("allow", A, tls=TlsMode.TUNNEL)), False),
]


@pytest.mark.parametrize(("listed", "passes"), UNOPENED)
def test_a_tunnel_may_carry_grpc(listed: tuple[Rule, ...], *, passes: bool) -> None:
    """So a denial of it denies the tunnel, and an allow of it alone allows none."""
    judged = policy(*listed)
    assert judged.decide_request(request(f"https://{A}")).allowed == passes
    assert (judged.decide_name(request(f"https://{A}")).certainty is Certainty.YES) == passes


# the rules -> whether a client that offers HTTP/2 gets it
HTTP2 = [
    ((rule("allow", A, protocol="grpc"),), True),
    ((rule("allow", A, protocol="https wss grpc"),), True),
    ((rule("allow", A, protocol="grpc", paths=("/a",)), rule("allow", A)), True),
    ((rule("allow", A, protocol="https"),), False),
    ((rule("allow", A),), False),
    ((rule("deny", A, protocol="grpc"), rule("allow", A)), False),
]


@pytest.mark.parametrize(("listed", "wanted"), HTTP2)
def test_a_rule_that_allows_grpc_asks_for_http2(listed: tuple[Rule, ...], *, wanted: bool) -> None:
    """As `http2: true` does: a client that offers both would else speak what carries no gRPC."""
    assert policy(*listed).decide_name(request(f"https://{A}")).http2 == wanted


def test_grpc_travels_over_tls() -> None:
    """In the clear no request is gRPC: a rule for it opens no plain HTTP."""
    judged = policy(rule("allow", A, protocol="grpc", ports=((80, 80), (443, 443))))
    assert judged.decide_name(request(f"http://{A}")).certainty is Certainty.NO
    assert not judged.decide_request(Request("s", Protocol.HTTP, request(f"http://{A}").host, 80, "POST", "/a")).allowed
