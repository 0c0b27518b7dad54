"""Rewrites: what becomes of a request, how scopes agree on one, and the second judgement."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_builders import policy, request, requests, rule, scope, scope_lists

from egress.policy import (
    Host,
    Injection,
    PathPrefix,
    Protocol,
    Reason,
    Refusal,
    Request,
    Rewrite,
    Scheme,
    Scope,
    ScopeRules,
    Verdict,
    canonical_path,
    compile_policy,
    parse_host,
    rewritten,
)

A, B = "a.example", "b.example"
TO_B = Rewrite(host=Host(B))

# what was asked, the rewrite -> where it goes
PLACES = [
    ("https://a.example", Rewrite(host=Host(B)), "https://b.example:443"),
    ("https://a.example:8443", Rewrite(host=Host(B)), "https://b.example:8443"),
    ("https://a.example:8443", Rewrite(Scheme.HTTPS, Host(B)), "https://b.example:443"),
    ("https://a.example", Rewrite(port=9000), "https://a.example:9000"),
    ("http://a.example", Rewrite(Scheme.HTTPS), "https://a.example:443"),
    ("http://a.example:8080", Rewrite(Scheme.HTTPS, Host(B), 8443), "https://b.example:8443"),
    ("https://a.example", Rewrite(Scheme.HTTP, Host(B)), "http://b.example:80"),
    ("ws://a.example", Rewrite(Scheme.HTTPS), "wss://a.example:443"),
    ("wss://a.example", Rewrite(Scheme.HTTP), "ws://a.example:80"),
    ("wss://a.example", Rewrite(Scheme.HTTPS, Host(B)), "wss://b.example:443"),
    ("grpc://a.example", Rewrite(Scheme.HTTPS, Host(B)), "grpc://b.example:443"),
    ("grpc://a.example", Rewrite(Scheme.HTTP, Host(B)), None),
    ("tcp://a.example:80", Rewrite(Scheme.HTTPS), None),
    ("https://a.example", Rewrite(host=Host("10.1.2.3", ip_address("10.1.2.3"))), "https://10.1.2.3:443"),
]


@pytest.mark.parametrize(("asked", "rewrite", "place"), PLACES)
def test_what_is_not_stated_stays_but_a_scheme_brings_its_port(asked: str, rewrite: Rewrite, place: str | None) -> None:
    """Protocol, host and port of what goes up; gRPC and raw bytes have no form in the clear, or none at all."""
    found = rewritten(request(asked, "GET", "/x", (("a", "b"),), "q=1"), rewrite)
    if place is None:
        assert isinstance(found, Refusal)
        return
    assert found == request(place, "GET", "/x", (("a", "b"),), "q=1")


# old prefix, new prefix, the path -> the path that goes up, or why none does
PATHS = [
    ("", "/api", "/", "/api/"),
    ("", "/api", None, "/api/"),
    ("", "/api", "/x/y", "/api/x/y"),
    ("", "/api", "/a%20b/%C3%A9", "/api/a%20b/%C3%A9"),
    ("/v1", "/api/v1", "/v1", "/api/v1"),
    ("/v1", "/api/v1", "/v1/", "/api/v1/"),
    ("/v1", "/api/v1", "/v1/x", "/api/v1/x"),
    ("/v1/chat", "/c", "/v1/chat/x/y", "/c/x/y"),
    ("/v1", "", "/v1", "/"),
    ("/v1", "", "/v1/x", "/x"),
    ("/v1", "", "/v1/", "/"),
    ("/a$b", "/x", "/a%24b/c", "/x/c"),
    ("/v1", "/x", "/v10", Reason.PATH_NOT_ALLOWED),
    ("/v1", "/x", "/V1/x", Reason.PATH_NOT_ALLOWED),
    ("/v1", "/x", "/", Reason.PATH_NOT_ALLOWED),
    ("/v1/chat", "/x", "/v1", Reason.PATH_NOT_ALLOWED),
    ("/v1", "/x", "/w/v1", Reason.PATH_NOT_ALLOWED),
    ("", "/api", "*", Reason.PATH_AMBIGUOUS),
    ("", "/api", "//x", Reason.PATH_AMBIGUOUS),
    ("", "/api", "/..", Reason.PATH_AMBIGUOUS),
    ("/v1", "/x", "/v1/../y", Reason.PATH_AMBIGUOUS),
    ("/v1", "/x", "/v1/%2e%2e/y", Reason.PATH_AMBIGUOUS),
    ("/v1", "/x", "/v1%2fy", Reason.PATH_AMBIGUOUS),
    ("/v1", "/x", "/v1/a;b", Reason.PATH_AMBIGUOUS),
    # Prefixes that no file can state.
    ("", "/..", "/x", Reason.PATH_AMBIGUOUS),
    ("", "/a/", "/x", Reason.PATH_AMBIGUOUS),
    ("", "/%61", "/x", Reason.PATH_AMBIGUOUS),
    ("", "/%24", "/x", Reason.PATH_AMBIGUOUS),
]


@pytest.mark.parametrize(("old", "new", "path", "found"), PATHS)
def test_prefix_truth_table(old: str, new: str, path: str | None, found: str | Reason) -> None:
    """Whole segments, compared decoded; what follows the prefix stays as it was sent."""
    asked = Request("s", Protocol.HTTPS, Host(A), 443, "GET", path)
    moved = rewritten(asked, Rewrite(path=PathPrefix(old, new)))
    assert (moved.reason if isinstance(moved, Refusal) else moved.path) == found


_PIECES = st.sampled_from(
    ["/", "/", "v1", "api", "..", ".", "%2e", "%2f", "%5c", "\\", ";", "%25", "a", "é", "%c3%a9", "*"]
)


@given(st.lists(_PIECES, max_size=8).map("".join), st.sampled_from(["", "/v1", "/v1/a"]), st.sampled_from(["", "/api"]))
def test_no_path_leaves_its_prefix(path: str, old: str, new: str) -> None:
    """Whatever is sent: what goes up reads one way only, and is below the new prefix."""
    moved = rewritten(Request("s", Protocol.HTTPS, Host(A), 443, "GET", path), Rewrite(path=PathPrefix(old, new)))
    if isinstance(moved, Request):
        found = canonical_path(moved.path or "")
        assert isinstance(found, str)
        assert found == new or found.startswith(f"{new}/")


def test_scopes_are_merged_word_by_word_the_higher_first() -> None:
    """The lower scope adds what the higher left open."""
    org = scope(rule("allow", A, rewrite=Rewrite(host=Host(B), port=8443)), rank=Scope.ORG)
    own = scope(rule("allow", A, rewrite=Rewrite(Scheme.HTTPS, Host("c.example"), path=PathPrefix("", "/x"))))
    decision = policy(own, org).decide_request(request(f"https://{A}", "GET", "/"))
    assert decision.rewrite == Rewrite(Scheme.HTTPS, Host(B), 8443, PathPrefix("", "/x"))


# scopes by rank -> verdict, reason and line of the rule that spoke, of a GET of https://a.example/x
JUDGED = [
    ([scope(rule("allow", A, rewrite=TO_B), rule("allow", B))], Verdict.ALLOW, Reason.RULE_ALLOW),
    ([scope(rule("allow", A, rewrite=TO_B))], Verdict.DENY, Reason.HOST_NOT_ALLOWED),
    ([scope(rule("allow", A, rewrite=TO_B), rule("deny", B))], Verdict.DENY, Reason.RULE_DENY),
    ([scope(rule("allow", A, rewrite=TO_B), rule("ask", B))], Verdict.ASK, Reason.APPROVAL_REQUIRED),
    ([scope(rule("allow", A, rewrite=TO_B), default="allow")], Verdict.ALLOW, Reason.DEFAULT_ALLOW),
    # a denial of what was asked is not lifted by where it would go
    ([scope(rule("deny", A), rule("allow", B))], Verdict.DENY, Reason.RULE_DENY),
    # every scope is asked of both
    (
        [scope(rule("allow", A, rewrite=TO_B), rule("allow", B)), scope(rule("deny", B), rank=Scope.ORG)],
        Verdict.DENY,
        Reason.RULE_DENY,
    ),
    (
        [scope(rule("allow", A, rewrite=TO_B), rule("allow", B)), scope(rule("deny", A), rank=Scope.ORG)],
        Verdict.DENY,
        Reason.RULE_DENY,
    ),
    (
        [scope(rule("allow", A, B)), scope(rule("allow", A, rewrite=TO_B), rank=Scope.ORG, default="deny")],
        Verdict.DENY,
        Reason.HOST_NOT_ALLOWED,
    ),
    # once: where b's own requests go does not count
    (
        [scope(rule("allow", A, rewrite=TO_B), rule("allow", B, rewrite=Rewrite(host=Host("c.example"))))],
        Verdict.ALLOW,
        Reason.RULE_ALLOW,
    ),
    (
        [scope(rule("allow", A, rewrite=TO_B), rule("allow", B, rewrite=Rewrite(host=Host(A))))],
        Verdict.ALLOW,
        Reason.RULE_ALLOW,
    ),
]


@pytest.mark.parametrize(("scopes", "verdict", "reason"), JUDGED)
def test_a_rewritten_request_is_judged_by_every_scope_again(
    scopes: list[ScopeRules], verdict: Verdict, reason: Reason
) -> None:
    """As what it has become, once."""
    judged = policy(*scopes)
    asked = request(f"https://{A}", "GET", "/x")
    followed = judged.follow(asked, judged.decide_request(asked))
    assert (followed.decision.verdict, followed.decision.reason) == (verdict, reason)
    if verdict is Verdict.ALLOW:
        assert followed.request == replace(asked, host=Host(B))


def test_headers_of_both_judgements_are_merged() -> None:
    """The higher scope wins a conflict; of one scope's rules the one for where the request goes."""

    def header(value: str) -> tuple[Injection, ...]:
        return (Injection("X-Who", (value,)),)

    own = scope(
        rule("allow", A, rewrite=TO_B, inject=(*header("asked"), Injection("X-A", ("1",))), remove=("Cookie",)),
        rule("allow", B, inject=header("sent"), remove=("cookie", "X-Old")),
    )
    asked = request(f"https://{A}", "GET", "/x")
    judged = policy(own)
    decision = judged.follow(asked, judged.decide_request(asked)).decision
    assert {each.header: each.parts for each in decision.inject} == {"X-Who": ("sent",), "X-A": ("1",)}
    assert decision.remove == ("cookie", "X-Old")
    assert decision is judged.follow(asked, judged.decide_request(asked)).decision
    org = scope(rule("allow", A, inject=header("org")), rule("allow", B), rank=Scope.ORG)
    both = policy(org, own)
    found = both.follow(asked, both.decide_request(asked)).decision
    assert {each.header: each.parts for each in found.inject}["X-Who"] == ("org",)


def test_a_reporting_scope_does_not_undo_a_rewrite() -> None:
    """What passes only because a scope reports goes where the scopes that allow it send it, without their headers."""
    inject = (Injection("X-A", ("1",)),)
    own = scope(rule("allow", A, rewrite=TO_B, inject=inject), rule("allow", B, inject=inject, remove=("Cookie",)))
    for refused in (A, B):
        judged = policy(own, scope(rule("deny", refused), rank=Scope.ORG, mode="report"))
        asked = request(f"https://{A}", "GET", "/x")
        followed = judged.follow(asked, judged.decide_request(asked))
        assert followed.request.host == Host(B)
        assert (followed.decision.verdict, followed.decision.reason) == (Verdict.ALLOW, Reason.WOULD_DENY)
        assert (followed.decision.inject, followed.decision.remove) == ((), ())


def test_the_addresses_that_count_are_those_of_where_it_goes() -> None:
    """`addresses` of the rule for what was asked open nothing for the rewritten host."""
    inside = [ip_address("10.1.2.3")]
    asked = request(f"https://{A}", "GET", "/x")
    for ranges, passes in (((), False), (("10.0.0.0/8",), True)):
        judged = policy(rule("allow", A, rewrite=TO_B, addresses=("10.0.0.0/8",)), rule("allow", B, addresses=ranges))
        followed = judged.follow(asked, judged.decide_request(asked))
        assert bool(judged.decide_address(followed.request, followed.decision, inside).addresses) == passes


@given(scope_lists, requests)
def test_following_never_allows_what_a_direct_request_would_not(scopes: list[ScopeRules], asked: Request) -> None:
    """Whatever is rewritten is allowed only where both requests are; and it never raises."""
    judged = compile_policy(scopes, digest="test", clock=lambda: 0.0)
    first = judged.decide_request(asked)
    followed = judged.follow(asked, first)
    if followed.decision.allowed:
        assert first.allowed
        assert judged.decide_request(followed.request).allowed
    if first.rewrite is None:
        assert followed.request is asked


def test_a_rewrite_needs_the_inside() -> None:
    """A tunnel is never allowed by a rule that rewrites: what goes through it could not be."""
    judged = policy(rule("allow", A, rewrite=TO_B), rule("allow", B))
    assert not judged.decide_request(request(f"https://{A}")).allowed
    host = parse_host(A)
    assert not isinstance(host, Refusal)
    assert isinstance(rewritten(Request("s", Protocol.HTTPS, host, 443), TO_B), Refusal)
