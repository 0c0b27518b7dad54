"""Conditions on the body: what holds on which body, for an allow and for a deny, and what no body can hide."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.policy import (
    Body,
    GraphqlCondition,
    McpCondition,
    Policy,
    Protocol,
    Reason,
    Request,
    Rule,
    Scope,
    ScopeRules,
    Verdict,
    compile_policy,
    parse_host,
    parse_target,
    read_body,
    told,
)
from egress.policy.bodies import UNREADABLE

JSON = (("Content-Type", "application/json"),)
HOST = parse_host("api.example.com")
MCP = McpCondition(("tools/call", "notifications/*"), ("search_*", "read"), (("repo", "acme/*"),))
SEARCH = {"name": "search_issues", "arguments": {"repo": "acme/app"}}


def policy(*rules: Rule, default: Verdict | None = None) -> Policy:
    """A policy of one scope."""
    return compile_policy([ScopeRules(Scope.SANDBOX, rules, default)], digest="", clock=lambda: 0.0)


def rule(verdict: Verdict, **stated: object) -> Rule:
    """A rule for the host."""
    return Rule(verdict, (parse_target("api.example.com", verdict=verdict),), "p.yaml", 1, **stated)  # type: ignore[arg-type]


def asked(data: bytes | None, headers: tuple[tuple[str, str], ...] = JSON, **more: object) -> Request:
    """A POST with its body read; None: too large."""
    request = Request("s", Protocol.HTTPS, HOST, 443, "POST", "/mcp", None, headers)  # type: ignore[arg-type]
    request = replace(request, **more)  # type: ignore[arg-type]
    return replace(request, body=read_body(request, data))


def message(method: str, params: object = None, **more: object) -> dict[str, object]:
    """A request of JSON-RPC."""
    whole: dict[str, object] = {"jsonrpc": "2.0", "id": 1, "method": method} | more
    return whole if params is None else whole | {"params": params}


def call(name: object, **arguments: object) -> dict[str, object]:
    """A `tools/call`."""
    return message("tools/call", {"name": name, "arguments": arguments})


def says(condition: McpCondition | GraphqlCondition, verdict: Verdict, body: Body | None) -> bool:
    """Whether a rule with this condition speaks about a body."""
    key = "mcp" if isinstance(condition, McpCondition) else "graphql"
    other = Verdict.DENY if verdict is Verdict.ALLOW else Verdict.ALLOW
    found = policy(rule(verdict, **{key: condition}), default=other).decide_request(replace(asked(b""), body=body))
    return found.verdict is verdict


# the body, then whether an allow of MCP holds on it, and whether a deny does
TABLE: tuple[tuple[object, bool, bool], ...] = (
    (call("search_issues", repo="acme/app"), True, True),
    (call("read", repo="acme/app", other=1), True, True),
    (call("write", repo="acme/app"), False, False),
    (call("Search_issues", repo="acme/app"), False, True),
    (call(" search_issues", repo="acme/app"), False, True),
    (call("\uff53earch_issues", repo="acme/app"), False, True),
    (call("search_issues", repo="evil/app"), False, False),
    (call("search_issues", repo="acme/../evil"), False, True),
    (call("search_issues", repo="acme/..\\evil"), False, True),
    (call("search_issues", repo="acme/%2e%2e/evil"), False, True),
    (call("search_issues", repo="acme/a\nb"), False, True),
    (call("search_issues", repo=["acme/app"]), False, True),
    (call("search_issues", Repo="acme/app"), False, True),
    (call("search_issues"), False, False),
    (message("notifications/initialized"), True, True),
    ({"jsonrpc": "2.0", "method": "notifications/x"}, True, True),
    (message("tools/list"), False, False),
    (message("TOOLS/CALL", SEARCH), False, True),
    ({"jsonrpc": "2.0", "id": 1, "result": {}}, False, False),
    ([call("search_issues", repo="acme/app"), message("notifications/x")], True, True),
    ([call("search_issues", repo="acme/app"), message("tools/list")], False, True),
    ([message("tools/list"), message("ping")], False, False),
)
# what cannot be read: no allow holds, every deny does
UNREAD: tuple[object, ...] = (
    [],
    [[]],
    {},
    1,
    "tools/call",
    None,
    call(1),
    message("tools/call"),
    message("tools/call", {"name": "read", "Arguments": {}}),
    message("tools/call", {"name": "read", "arguments": []}),
    message("tools/call", ["read"]),
    message("ping", id=None),
    message("ping", id=True),
    message("ping", id=1.5),
    message("ping", jsonrpc="1.0"),
    message("ping", jsonrpc=2.0),
    message("ping", result={}),
    message("ping", Params={}),
    message("ping", extra=1),
    {"id": 1, "method": "ping"},
    {"jsonrpc": "2.0", "id": 1, "result": {}, "error": {}},
    {"jsonrpc": "2.0", "id": 1},
    {"jsonrpc": "2.0", "result": {}},
    [call("search_issues", repo="acme/app"), 1],
)


@pytest.mark.parametrize(("value", "allowed", "denied"), TABLE, ids=[json.dumps(row[0]) for row in TABLE])
def test_messages_that_a_rule_names(value: object, allowed: bool, denied: bool) -> None:  # noqa: FBT001 -- a row
    """Every message must be named for an allow, spelled so; any in any spelling makes a deny hold."""
    body = asked(json.dumps(value).encode()).body
    assert body is not None
    assert body.mcp is not None
    assert (says(MCP, Verdict.ALLOW, body), says(MCP, Verdict.DENY, body)) == (allowed, denied)


@pytest.mark.parametrize("value", UNREAD, ids=json.dumps)
def test_messages_that_nobody_can_read(value: object) -> None:
    """They count against the request: even a rule that names every message allows none of them."""
    body = asked(json.dumps(value).encode()).body
    assert body is not None
    assert body.mcp is None
    assert not says(McpCondition(), Verdict.ALLOW, body)
    assert says(MCP, Verdict.DENY, body)
    assert says(MCP, Verdict.ASK, body)


@pytest.mark.parametrize("body", [None, UNREADABLE], ids=["not known", "unreadable"])
@pytest.mark.parametrize("condition", [McpCondition(), GraphqlCondition()], ids=["mcp", "graphql"])
def test_a_body_that_is_not_known_counts_against_the_request(
    condition: McpCondition | GraphqlCondition, body: Body | None
) -> None:
    """In a tunnel, a WebSocket, over the limit: no allow holds, every deny and ask does."""
    assert not says(condition, Verdict.ALLOW, body)
    assert says(condition, Verdict.DENY, body)
    assert says(condition, Verdict.ASK, body)


def test_tools_alone_are_those_of_calls() -> None:
    """Where only tools are named, no other method is meant."""
    alone = McpCondition(tools=("read",))
    assert says(alone, Verdict.ALLOW, asked(json.dumps(call("read")).encode()).body)
    assert not says(alone, Verdict.ALLOW, asked(json.dumps(message("ping")).encode()).body)


PING = json.dumps(message("ping")).encode()
# Headers under which a body is not what its bytes say, or may not be.
ODD_HEADERS: dict[str, tuple[tuple[str, str], ...]] = {
    "no type": (),
    "another type": (("Content-Type", "text/plain"),),
    "a list of types": (("Content-Type", "application/json, text/plain"),),
    "two types": (*JSON, *JSON),
    "two spellings": (*JSON, ("content_type", "text/plain")),
    "two spellings, one with a dot": (*JSON, ("Content.Type", "text/plain")),
    "its type in another spelling": (("Content_Type", "application/json"),),
    "another charset": (("Content-Type", "application/json; charset=utf-16"),),
    "a type that ends at the proxy": (*JSON, ("Connection", "Content-Type")),
    "gzip": (*JSON, ("Content-Encoding", "gzip")),
    "a coding in another spelling": (*JSON, ("Content.Encoding", "gzip")),
    "two codings": (*JSON, ("Content-Encoding", "identity"), ("content-encoding", "identity")),
    "another method in a header": (*JSON, ("Mcp-Method", "tools/call")),
    "another name in a header": (*JSON, ("Mcp-Name", "read")),
    "another method in a header with a dot": (*JSON, ("Mcp.Method", "tools/call")),
    "two methods in headers": (*JSON, ("Mcp-Method", "ping"), ("Mcp-Method", "tools/call")),
}


@pytest.mark.parametrize("headers", ODD_HEADERS.values(), ids=ODD_HEADERS.keys())
def test_headers_that_put_the_body_in_doubt(headers: tuple[tuple[str, str], ...]) -> None:
    """A server may read another body than we do, or another message than the body says."""
    assert asked(PING, headers).body == UNREADABLE


@pytest.mark.parametrize(
    "headers",
    [
        (("content-type", "Application/JSON; charset=UTF-8"),),
        (*JSON, ("Content-Encoding", "identity")),
        (*JSON, ("Mcp-Method", "ping")),
    ],
    ids=["charset", "identity", "the same method"],
)
def test_headers_that_say_the_same(headers: tuple[tuple[str, str], ...]) -> None:
    """They leave the body as readable as it was."""
    assert asked(PING, headers).body != UNREADABLE


@pytest.mark.parametrize("more", [{"method": "PUT"}, {"method": "HEAD"}, {"protocol": Protocol.WSS}], ids=str)
def test_only_a_post_has_a_body_to_judge(more: dict[str, object]) -> None:
    """What other methods do with a body is each server's affair; a WebSocket's messages are never seen."""
    assert asked(PING, **more).body == UNREADABLE


QUERY = {"query": "query Q { a }"}
# the body, its URL's query, then whether a rule for queries allows it
GRAPHQL: tuple[tuple[object, str | None, bool], ...] = (
    (QUERY, None, True),
    (QUERY | {"operationName": "Q", "variables": {"a": 1}, "extensions": {"x": 1}}, None, True),
    (QUERY | {"operationName": None, "variables": None}, "v=1", True),
    ([QUERY, QUERY], None, True),
    ({"query": "mutation { a }"}, None, False),
    ({"query": "subscription { a }"}, None, False),
    ([QUERY, {"query": "mutation { a }"}], None, False),
    ({"query": "query Q { a } mutation M { b }", "operationName": "Q"}, None, False),
    ({"query": "{ a }\n# } mutation { b }"}, None, True),
    ({"query": '{ a(t: """ " """) } mutation { b }'}, None, False),
    (QUERY | {"extensions": {"persistedQuery": {"sha256Hash": "0"}}}, None, False),
    (QUERY | {"documentId": "1"}, None, False),
    (QUERY | {"id": "1"}, None, False),
    (QUERY | {"operationName": 1}, None, False),
    (QUERY | {"variables": "{}"}, None, False),
    ({"Query": "{ a }"}, None, False),
    ({"query": ["{ a }"]}, None, False),
    ({"variables": {}}, None, False),
    ([QUERY] * 21, None, False),
    ([], None, False),
    (QUERY, "query=mutation{a}", False),
    (QUERY, "QUERY=x", False),
    (QUERY, "query[]=x", False),
    (QUERY, "documentId=1", False),
    (QUERY, "a;query=x", False),
)


@pytest.mark.parametrize(("value", "query", "allowed"), GRAPHQL, ids=[json.dumps(row[:2])[:90] for row in GRAPHQL])
def test_operations_that_a_rule_names(value: object, query: str | None, allowed: bool) -> None:  # noqa: FBT001 -- a row
    """Every operation of every document counts, whichever is picked; what picks another document is refused."""
    body = asked(json.dumps(value).encode(), query=query).body
    assert says(GraphqlCondition(("query",)), Verdict.ALLOW, body) is allowed
    assert says(GraphqlCondition(("mutation", "subscription")), Verdict.DENY, body) is not allowed


def test_names_of_operations() -> None:
    """A nameless operation has none that a rule could name."""
    named = GraphqlCondition(("query",), ("Get*",))
    found = [
        says(named, Verdict.ALLOW, asked(json.dumps({"query": text}).encode()).body)
        for text in ("query GetA { a }", "query getA { a }", "query SetA { a }", "{ a }", "query GetA { a } { b }")
    ]
    assert found == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("query", "allowed"),
    [
        ("query=%7Ba%7D", True),
        ("query=query+A%7Ba%7D&operationName=A&variables=%7B%7D", True),
        ("query=mutation%7Ba%7D", False),
        ("query=%7Ba%7D&query=mutation%7Ba%7D", False),
        ("query=%7Ba%7D&extensions=%7B%22persistedQuery%22%3A1%7D", False),
        ("query=%7Ba%7D&variables=x", False),
        ("documentId=1", False),
        ("", False),
    ],
)
def test_a_get_is_judged_by_its_url(query: str, allowed: bool) -> None:  # noqa: FBT001 -- a row
    """Without a body; with one, nobody knows what a server takes."""
    condition = GraphqlCondition(("query",))
    assert says(condition, Verdict.ALLOW, asked(b"", (), method="GET", query=query).body) is allowed
    assert not says(condition, Verdict.ALLOW, asked(b"{}", JSON, method="GET", query=query).body)


def test_a_body_is_asked_for_only_where_it_could_decide() -> None:
    """Another host's rule, another path, a rule above that speaks: nobody waits for the body."""
    first = rule(Verdict.DENY, paths=("/denied",))
    made = policy(first, rule(Verdict.ALLOW, paths=("/mcp",), mcp=MCP), rule(Verdict.ALLOW, paths=("/free",)))
    unread = replace(asked(b""), body=None)
    wanted = {
        path: made.decide_request(replace(unread, path=path)).needs_body for path in ("/mcp", "/free", "/denied", "/x")
    }
    assert wanted == {"/mcp": True, "/free": False, "/denied": False, "/x": False}
    assert not made.decide_request(asked(PING)).needs_body
    assert not made.decide_request(replace(unread, method=None)).needs_body


def test_the_reason_says_whether_the_body_could_be_read() -> None:
    """`body-not-allowed` says what was asked for; `body-unreadable` that nobody could tell."""
    made = policy(rule(Verdict.ALLOW, mcp=MCP))
    refused = made.decide_request(asked(json.dumps(call("write", repo="acme/secret")).encode()))
    assert (refused.reason, "tools/call write." in refused.detail) == (Reason.BODY_NOT_ALLOWED, True)
    assert "secret" not in refused.detail
    assert made.decide_request(asked(b"{")).reason is Reason.BODY_UNREADABLE


def test_what_is_told_of_a_body_is_safe_and_short() -> None:
    """Names are the client's text: cleaned and cut."""
    body = asked(json.dumps([call("\x1b[31m<b>'\u202e" + "x" * 1000)] + [message("ping")] * 50).encode()).body
    assert body is not None
    said = told(body)
    assert said.isascii()
    assert said.isprintable()
    assert len(said) < 250
    assert said.endswith("and 48 more")


@given(st.binary() | st.text(alphabet='{}[]":,\\u0"query mutation jsonrpc2.method').map(str.encode))
def test_any_body_is_read_or_not(data: bytes) -> None:
    """No exception, whatever comes."""
    assert isinstance(asked(data).body, Body)


TOOLS = st.sampled_from(["search_a", "read", "write", "Read", "searcH_b"])
CALLS = st.tuples(TOOLS, st.sampled_from(["acme/a", "evil/a", "acme/../b"])).map(
    lambda both: call(both[0], repo=both[1])
)


@given(st.lists(CALLS | st.sampled_from([message("ping"), message("notifications/a")]), min_size=1, max_size=4))
def test_one_more_message_never_allows_more(messages: list[dict[str, object]]) -> None:
    """What a batch is allowed, each of its messages is; what any of them is denied for, the batch is."""
    whole = asked(json.dumps(messages).encode()).body
    each = [asked(json.dumps(one).encode()).body for one in messages]
    assert says(MCP, Verdict.ALLOW, whole) is all(says(MCP, Verdict.ALLOW, one) for one in each)
    assert says(MCP, Verdict.DENY, whole) is any(says(MCP, Verdict.DENY, one) for one in each)
