"""Conditions on query parameters and headers: what an allow accepts, and what a deny holds for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_builders import policy, request, rule

from egress.policy import Verdict
from egress.policy.parameters import Values, query_pairs

# raw query, condition, whether an allow accepts it, whether a deny holds
QUERIES = [
    ("state=open", ("state", None), True, True),
    ("state=open", ("state", "open"), True, True),
    ("state=open", ("state", "op*"), True, True),
    ("state=open", ("state", "*"), True, True),
    ("state=open", ("state", "closed"), False, False),
    ("state=reopen", ("state", "open"), False, False),
    ("state", ("state", None), True, True),
    ("state=", ("state", ""), True, True),
    ("a=1&state=open&b=2", ("state", "open"), True, True),
    ("st%61te=o%70en", ("state", "open"), True, True),
    ("q=a+b", ("q", "a b"), True, True),
    (None, ("state", None), False, False),
    ("", ("state", None), False, False),
    ("other=1", ("state", None), False, False),
    # spelled as some server reads it
    ("State=open", ("state", "open"), False, True),
    ("state[]=open", ("state", "open"), False, True),
    ("state[0]=open", ("state", "open"), False, True),
    ("state.x=open", ("state", "open"), False, True),
    ("+state=open", ("state", "open"), False, True),
    # several: which one counts differs by server
    ("state=open&state=closed", ("state", "open"), False, True),
    ("state=closed&state=closed", ("state", "open"), False, True),
    ("state=open&STATE=closed", ("state", "open"), False, True),
    # encoded twice
    ("state=%256fpen", ("state", "open"), False, True),
    # not to be read one way only
    ("state=open;x=1", ("state", "open"), False, True),
    ("state=%zz", ("state", "open"), False, True),
    ("state=%ff", ("state", "open"), False, True),
    ("state=a%00b", ("state", "a*"), False, True),
    ("other=%zz", ("state", "open"), False, True),
    # a pattern's own characters mean nothing
    ("state=opeen", ("state", "ope+n"), False, False),
    ("state=a\\b", ("state", "a\\b"), True, True),
]

# headers, condition, whether an allow accepts them, whether a deny holds
HEADERS = [
    ((("Accept", "text/html"),), ("accept", "text/*"), True, True),
    ((("ACCEPT", " text/html\t"),), ("accept", "text/html"), True, True),
    ((("Accept", "text/html"),), ("Accept", "json"), False, False),
    ((), ("Accept", None), False, False),
    ((("X-Key", "1"), ("x-key", "1")), ("X-Key", "1"), False, True),
    ((("X_Key", "1"),), ("X-Key", "1"), False, True),
    ((("X-Key", "1"), ("X_Key", "2")), ("X-Key", "1"), False, True),
    ((("X.Key", "1"),), ("X-Key", "1"), False, True),
    ((("X-Key", "1"), ("X.Key", "2")), ("X-Key", "1"), False, True),
    # what ends at the proxy, the server never gets
    ((("X-Key", "1"), ("Connection", "x-key")), ("X-Key", "1"), False, True),
    ((("X-Key", "1"), ("Connection", "close"), ("connection", "a,\t X-KEY ,b")), ("X-Key", "1"), False, True),
    ((("Proxy-Connection", "X-Key"), ("X-Key", "1")), ("X-Key", None), False, True),
    ((("X-Key", "1"), ("Connection", "keep-alive, x-keys")), ("X-Key", "1"), True, True),
]


@pytest.mark.parametrize(("raw", "named", "allowed", "denied"), QUERIES)
def test_query_condition(raw: str | None, named: tuple[str, str | None], *, allowed: bool, denied: bool) -> None:
    """An allow accepts what reads one way only; a deny holds for whatever some server would take for it."""
    pairs = query_pairs(raw)
    assert Values((named,), allows=True, headers=False).hold(pairs) is allowed
    assert Values((named,), allows=False, headers=False).hold(pairs) is denied


@pytest.mark.parametrize(("headers", "named", "allowed", "denied"), HEADERS)
def test_header_condition(
    headers: tuple[tuple[str, str], ...], named: tuple[str, str | None], *, allowed: bool, denied: bool
) -> None:
    """The same of headers, whose names are the same in any case."""
    for verdict, holds in (("allow", allowed), ("deny", denied)):
        judged = policy(rule(verdict, "api.example.com", headers=(named,)), default="allow" if not allowed else None)
        decision = judged.decide_request(request("https://api.example.com", "GET", "/", headers))
        if verdict == "deny":
            assert (decision.reason == "rule-deny") is holds
        else:
            assert (decision.reason == "rule-allow") is holds


def test_all_conditions_must_hold() -> None:
    """Two names: both have to be there."""
    both = (("a", None), ("b", "1"))
    held = {raw: Values(both, allows=True, headers=False).hold(query_pairs(raw)) for raw in ("a&b=1", "a", "b=1")}
    assert held == {"a&b=1": True, "a": False, "b=1": False}


@pytest.mark.parametrize(
    ("condition", "reason"),
    [({"query": (("a", "1"),)}, "query-not-allowed"), ({"headers": (("X-Key", "1"),)}, "header-not-allowed")],
)
def test_an_allow_that_lacks_one_says_so(condition: dict[str, object], reason: str) -> None:
    """The reason names the condition; in a tunnel, where it cannot be seen, the rule does not allow."""
    judged = policy(rule("allow", "api.example.com", **condition))
    assert judged.decide_request(request("https://api.example.com", "GET", "/")).reason == reason
    assert not judged.decide_request(request("https://api.example.com")).allowed
    refuses = policy(rule("deny", "api.example.com", **condition), rule("allow", "api.example.com"))
    assert not refuses.decide_request(request("https://api.example.com")).allowed


@given(st.text(max_size=40), st.sampled_from(["a", "a.b", "x y"]), st.sampled_from([None, "1", "*", "1*2"]))
def test_what_an_allow_accepts_a_deny_holds_for(raw: str, name: str, pattern: str | None) -> None:
    """INVARIANT fail-closed: no query is accepted by an allow and let through by the same deny."""
    pairs = query_pairs(raw)
    if Values(((name, pattern),), allows=True, headers=False).hold(pairs):
        assert Values(((name, pattern),), allows=False, headers=False).hold(pairs)


def test_ignore_case_compares_paths_in_any_case() -> None:
    """Only where the rule says so; a deny folds further than an allow."""
    exact = policy(rule("allow", "api.example.com", paths=("/Repos/**",)))
    folded = policy(rule("allow", "api.example.com", paths=("/Repos/**", "/Ünï"), ignore_case=True))
    refuses = policy(
        rule("deny", "api.example.com", paths=("/Straße",), ignore_case=True), rule("allow", "api.example.com")
    )

    def allowed(judged: object, path: str) -> bool:
        return judged.decide_request(request("https://api.example.com", "GET", path)).verdict is Verdict.ALLOW  # type: ignore[attr-defined]

    assert (allowed(exact, "/repos/x"), allowed(folded, "/rEPOS/X"), allowed(folded, "/%C3%BCn%C3%AF")) == (
        False,
        True,
        False,
    )
    assert [allowed(refuses, path) for path in ("/STRASSE", "/stra%C3%9Fe", "/other")] == [False, False, True]
