"""The request step as truth tables: which rule speaks, with which reason, and what an allow carries."""

from __future__ import annotations

from dataclasses import replace

import pytest
from policy_builders import INJECT, policy, request, rule, scope

from egress.policy import Host, Injection, Policy, Reason, Scope, TlsMode, Verdict

GITHUB = (
    rule("deny", "api.github.com", methods="DELETE", name="never delete"),
    rule("allow", "api.github.com", methods="GET HEAD", paths=("/repos/**",)),
    rule("allow", "api.github.com", methods="POST", paths=("/graphql",)),
    rule("allow", ".corp.example", ports=((8000, 8010),)),
    rule("allow", "db.corp.example", ports=((5432, 5432),), protocol="tcp"),
    rule("allow", "ws.example", protocol="wss"),
    rule("allow", "old.example", protocol="https"),
    rule("allow", "clear.example", protocol="http", ports=((443, 443),)),
    rule("allow", "reader.example", methods="GET"),
    rule("allow", "plain.example"),
    rule("allow", "*.wild.example"),
    rule("allow", "ported.example:8443"),
    rule("allow", "93.184.216.0/24"),
    rule("ask", "publish.example"),
    rule("deny", "10.0.0.0/8"),
    rule("allow", "bytes.example", protocol="tcp"),
)

# url, method, path, reason
CASES = [
    ("https://plain.example", "GET", "/", "rule-allow"),
    ("http://plain.example", "GET", "/", "rule-allow"),
    ("https://plain.example:80", "GET", "/", "rule-allow"),
    ("http://plain.example:443", "GET", "/", "protocol-not-allowed"),
    ("ws://plain.example:443", "GET", "/", "protocol-not-allowed"),
    ("http://clear.example:443", "GET", "/", "rule-allow"),
    ("wss://plain.example", "GET", "/", "rule-allow"),
    ("https://plain.example:8443", "GET", "/", "port-not-allowed"),
    ("tcp://plain.example:443", None, None, "protocol-not-allowed"),
    ("https://sub.plain.example", "GET", "/", "host-not-allowed"),
    ("https://a.b.wild.example", "GET", "/", "rule-allow"),
    ("https://wild.example", "GET", "/", "host-not-allowed"),
    ("https://notwild.example", "GET", "/", "host-not-allowed"),
    ("https://ported.example:8443", "GET", "/", "rule-allow"),
    ("https://ported.example", "GET", "/", "port-not-allowed"),
    ("https://corp.example:8005", "GET", "/", "rule-allow"),
    ("https://x.corp.example:8010", "GET", "/", "rule-allow"),
    ("https://x.corp.example:8011", "GET", "/", "port-not-allowed"),
    ("tcp://db.corp.example:5432", None, None, "rule-allow"),
    ("https://db.corp.example:5432", "GET", "/", "protocol-not-allowed"),
    ("tcp://bytes.example:443", None, None, "protocol-not-allowed"),
    ("wss://ws.example", "GET", "/", "rule-allow"),
    ("https://ws.example", "GET", "/", "protocol-not-allowed"),
    ("https://old.example", "GET", "/", "rule-allow"),
    ("wss://old.example", "GET", "/", "protocol-not-allowed"),
    ("https://reader.example", "GET", "/", "rule-allow"),
    ("wss://reader.example", "GET", "/", "protocol-not-allowed"),
    ("https://reader.example", "get", "/", "method-not-allowed"),
    ("https://api.github.com", "GET", "/repos/a", "rule-allow"),
    ("https://api.github.com", "GET", "/user", "path-not-allowed"),
    ("https://api.github.com", "POST", "/user", "path-not-allowed"),
    ("https://api.github.com", "PUT", "/user", "method-not-allowed"),
    ("https://api.github.com", "DELETE", "/repos/a", "rule-deny"),
    ("https://api.github.com", "delete", "/repos/a", "rule-deny"),
    ("https://api.github.com", "GET", "/repos/../user", "path-ambiguous"),
    ("https://api.github.com", "GET", None, "path-not-allowed"),
    ("https://api.github.com", None, None, "rule-deny"),
    ("https://api.github.com", "GE T", "/repos/a", "method-invalid"),
    ("https://api.github.com", "", "/repos/a", "method-invalid"),
    ("https://plain.example", "G\x00T", "/", "method-invalid"),
    ("https://plain.example", "GET", "/../..;//%2f", "rule-allow"),
    ("https://publish.example", "GET", "/", "approval-required"),
    ("tcp://publish.example:9", None, None, "approval-required"),
    ("https://evil.test", "GET", "/", "host-not-allowed"),
    ("https://93.184.216.34", "GET", "/", "rule-allow"),
    ("https://93.184.216.34:22", "GET", "/", "port-not-allowed"),
    ("https://93.184.217.34", "GET", "/", "address-not-allowed"),
    ("https://10.9.9.9", "GET", "/", "rule-deny"),
    ("tcp://10.9.9.9:22", None, None, "rule-deny"),
    ("https://[::ffff:10.9.9.9]", "GET", "/", "rule-deny"),
    ("https://[64:ff9b::a09:909]", "GET", "/", "rule-deny"),
    ("https://[2002:a09:909::1]", "GET", "/", "rule-deny"),
    ("https://[64:ff9b::5db8:d822]", "GET", "/", "address-not-allowed"),
]


@pytest.mark.parametrize("default", [None, "deny"])
@pytest.mark.parametrize(("url", "method", "path", "reason"), CASES)
def test_the_reason_is_the_closest_miss(
    url: str, method: str | None, path: str | None, reason: str, default: str | None
) -> None:
    """The same with a default of deny as with none: nothing said is deny."""
    decision = policy(*GITHUB, default=default).decide_request(request(url, method, path))
    assert decision.reason == reason
    assert decision.allowed == (reason == "rule-allow")


def test_a_denial_for_a_missed_condition_names_the_rule_that_came_closest() -> None:
    """Of several allow rules the one whose later condition failed."""
    decision = policy(
        rule("allow", "a.example", methods="PUT", name="far"),
        rule("allow", "a.example", methods="GET", paths=("/b",), name="near"),
        rule("allow", "a.example", ports=((1, 1),), name="farther"),
    ).decide_request(request("https://a.example", "GET", "/a"))
    assert (decision.reason, decision.rule and decision.rule.name) == (Reason.PATH_NOT_ALLOWED, "near")
    assert decision.says[0].verdict is None
    assert decision.says[0].nearest == decision.rule


@pytest.mark.parametrize("verdict", ["deny", "ask"])
def test_in_doubt_a_deny_or_ask_holds(verdict: str) -> None:
    """A path with two readings meets a deny's path condition, and its reason says why."""
    rules = (rule(verdict, "a.example", paths=("/admin/**",), name="guard"), rule("allow", "a.example"))
    decision = policy(*rules).decide_request(request("https://a.example", "GET", "/x/%2e%2e/admin/y"))
    assert decision.verdict is Verdict(verdict)
    assert decision.reason is Reason.PATH_AMBIGUOUS
    assert decision.rule is not None
    assert decision.rule.name == "guard"
    assert policy(*rules).decide_request(request("https://a.example", "GET", "/x")).allowed


@pytest.mark.parametrize("verdict", ["allow", "deny"])
def test_a_pattern_that_cannot_be_read_counts_against_the_request(verdict: str) -> None:
    """A rule made by hand with a broken pattern allows no path and denies every one."""
    broken = policy(rule(verdict, "a.example", paths=("/a*",)), default="allow" if verdict == "deny" else None)
    assert not broken.decide_request(request("https://a.example", "GET", "/b")).allowed


OVERRIDES = [
    "X-HTTP-Method-Override",
    "x-http-method",
    "X-Method-Override",
    "X_HTTP_Method_Override",
    "X.HTTP.Method.Override",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-Original-URI",
    "X-Forwarded-Host",
    "X-Forwarded-Prefix",
]


@pytest.mark.parametrize("header", OVERRIDES)
def test_an_override_header_is_refused_where_a_rule_looks_at_the_request(header: str) -> None:
    """A server behind would take the request for another one than the rule judged."""
    asked = request("https://a.example", "GET", "/", ((header, "DELETE"),))
    assert policy(rule("allow", "a.example", methods="GET")).decide_request(asked).reason is Reason.OVERRIDE_HEADER
    guarded = policy(rule("deny", "a.example", methods="DELETE"), rule("allow", "a.example"))
    assert guarded.decide_request(asked).reason is Reason.OVERRIDE_HEADER
    assert policy(rule("allow", "a.example")).decide_request(asked).allowed


def test_the_first_match_speaks_within_a_scope() -> None:
    """Order of the file, over every kind of target."""
    asked = request("https://api.example.com", "GET", "/")
    broad, narrow = rule("allow", "*.example.com"), rule("deny", "api.example.com")
    assert policy(broad, narrow).decide_request(asked).allowed
    assert not policy(narrow, broad).decide_request(asked).allowed
    assert not policy(rule("deny", "**"), broad).decide_request(asked).allowed
    assert policy(broad, rule("deny", "**")).decide_request(asked).allowed


def test_any_name_is_no_address_for_an_allow() -> None:
    """`**` in an allow opens names only; in a deny it holds for addresses too."""
    asked = request("https://93.184.216.34", "GET", "/")
    assert policy(rule("allow", "**")).decide_request(asked).reason is Reason.ADDRESS_NOT_ALLOWED
    assert policy(rule("deny", "**"), default="allow").decide_request(asked).reason is Reason.RULE_DENY


def layered(org: str | None, team: str | None, sandbox: str | None) -> Policy:
    """Three scopes that say these words by default."""
    ranks = (Scope.ORG, Scope.TEAM, Scope.SANDBOX)
    return policy(*(scope(default=word, rank=rank) for word, rank in zip((org, team, sandbox), ranks, strict=True)))


# org, team, sandbox -> verdict
ACROSS = [
    (None, None, None, "deny"),
    (None, None, "allow", "allow"),
    (None, "allow", None, "allow"),
    ("allow", "allow", "allow", "allow"),
    ("allow", "deny", "allow", "deny"),
    ("deny", "allow", "allow", "deny"),
    ("allow", "allow", "deny", "deny"),
    ("ask", "allow", "allow", "ask"),
    ("allow", "allow", "ask", "ask"),
    ("ask", "deny", "allow", "deny"),
    (None, "ask", "allow", "ask"),
    (None, "deny", None, "deny"),
]


@pytest.mark.parametrize(("org", "team", "sandbox", "verdict"), ACROSS)
def test_the_strictest_scope_wins(org: str | None, team: str | None, sandbox: str | None, verdict: str) -> None:
    """Deny > ask > allow; nothing said at all is deny."""
    assert layered(org, team, sandbox).decide_request(request("https://a.example", "GET", "/")).verdict == verdict


def test_a_scope_without_default_is_a_guard_rail_and_one_with_it_a_ceiling() -> None:
    """An org file of denies narrows; with `default: deny` it also says what may be allowed at all."""
    own = scope(rule("allow", "a.example", "b.example"))
    rail = policy(scope(rule("deny", "b.example"), rank=Scope.ORG), own)
    ceiling = policy(scope(rule("allow", "b.example"), default="deny", rank=Scope.ORG), own)
    a, b = request("https://a.example", "GET", "/"), request("https://b.example", "GET", "/")
    assert [rail.decide_request(each).allowed for each in (a, b)] == [True, False]
    assert [ceiling.decide_request(each).allowed for each in (a, b)] == [False, True]
    told = ceiling.decide_request(a).rule
    assert told is None


def test_several_files_of_one_scope_are_one_list_with_the_strictest_default() -> None:
    """The order of the scopes given does not matter; the order of files within one does."""
    first, second = scope(rule("deny", "a.example"), default="allow"), scope(rule("allow", "a.example"), default="deny")
    compiled = policy(first, scope(rank=Scope.ORG), second)
    assert [own.scope for own in compiled.scopes] == [Scope.ORG, Scope.SANDBOX]
    assert compiled.scopes[1].default is Verdict.DENY
    assert compiled.decide_request(request("https://a.example", "GET", "/")).reason is Reason.RULE_DENY


def test_headers_of_all_allowing_scopes_are_merged_and_the_higher_wins() -> None:
    """`remove` of all, `inject` of all; where two set one header, the higher scope's value stands."""
    low = (Injection("authorization", ("low",)), Injection("X-Low", ("low",)))
    merged = policy(
        scope(rule("allow", "a.example", inject=INJECT, remove=("Cookie",)), rank=Scope.ORG),
        scope(rule("allow", "a.example", inject=low, remove=("cookie", "X-Trace"), tls=TlsMode.TUNNEL)),
    ).decide_request(request("https://a.example", "GET", "/"))
    assert merged.inject == (INJECT[0], low[1])
    assert merged.remove == ("Cookie", "X-Trace")
    assert merged.tls is TlsMode.INSPECT
    assert len(merged.rules) == 2


def test_a_sole_allow_is_not_taken_where_a_higher_scope_denied() -> None:
    """The shortcut for one speaking rule must count every speaker."""
    both = policy(scope(rule("deny", "a.example"), rank=Scope.ORG), scope(rule("allow", "a.example")))
    for _ in range(2):
        assert both.decide_request(request("https://a.example", "GET", "/")).reason is Reason.RULE_DENY
        assert not both.decide_request(request("https://a.example")).allowed


def test_what_is_no_destination_is_denied_whatever_the_default() -> None:
    """A request made by hand with a name that no parser lets through, or a port that is none."""
    good = request("https://a.example", "GET", "/")
    opened = policy(default="allow")
    assert opened.decide_request(good).reason is Reason.DEFAULT_ALLOW
    for host in ("A.example", "a.example.", "", "127.1", "0x7f", "a..b", "a\x00", "*"):
        broken = replace(good, host=Host(host))
        assert opened.decide_request(broken).reason is Reason.HOST_INVALID
        assert opened.decide_name(broken).decision.reason is Reason.HOST_INVALID
    for port in (0, -1, 65_536):
        assert opened.decide_request(replace(good, port=port)).reason is Reason.PORT_INVALID


def test_a_detail_is_safe_to_print() -> None:
    """A method is told, cut short; a path never."""
    asked = request("https://reader.example", "X" * 5_000, "/\x1b[31m")
    decision = policy(*GITHUB).decide_request(asked)
    assert decision.detail.isprintable()
    assert len(decision.detail) < 200
