"""A diff tells what differs in meaning, all of it, and nothing else."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_builders import addresses, requests, rules, scope_lists, target

from egress.config import EnvSource, LoadedPolicy, PolicySource, SecretDefinition, load_policy
from egress.policy import (
    AddressClass,
    Host,
    Protocol,
    Request,
    Rule,
    Scope,
    ScopeRules,
    Verdict,
    compile_policy,
)
from egress.policy.addresses import own_class
from egress.review import Comparison, Kind, compare, judge
from egress.review.changes import Answer, differences
from egress.review.naming import KINDS
from egress.review.unjudged import JUDGED

if TYPE_CHECKING:
    from pathlib import Path

    from egress.policy import Address

TOKEN = {"token": SecretDefinition("token", EnvSource("TOKEN"), (target(".example.com"), target("other.test:8443")))}


def loaded(scopes: list[ScopeRules]) -> LoadedPolicy:
    """A policy of the small world, whose one secret is bound to a part of it."""
    return LoadedPolicy(compile_policy(scopes, digest="test", clock=lambda: 0.0), TOKEN, (), ())


def written(tmp_path: Path, text: str, name: str) -> LoadedPolicy:
    """A policy from the lines that follow `version: 1`."""
    path = tmp_path / name
    path.write_text(f"version: 1\n{text}")
    return load_policy([PolicySource(Scope.SANDBOX, path)])


def compared(tmp_path: Path, old: str, new: str) -> Comparison:
    """The comparison of two policies."""
    return compare(written(tmp_path, old, "old.yaml"), written(tmp_path, new, "new.yaml"))


def told(found: Comparison) -> list[tuple[str, str]]:
    """Kind and example of each group."""
    return [(group.kind.value, group.example) for group in found.changes.in_order()]


@st.composite
def changed(draw: st.DrawFn) -> tuple[list[ScopeRules], list[ScopeRules]]:
    """Scopes, and the same with a rule left out, doubled, exchanged with its neighbour, or with one part changed."""
    scopes = draw(scope_lists)
    place = draw(st.integers(0, len(scopes) - 1))
    own = list(scopes[place].rules)
    at = draw(st.integers(0, max(0, len(own) - 1)))
    what = draw(st.sampled_from(["drop", "double", "exchange", "part", "add", "default"]))
    if what == "add":
        own.insert(at, draw(rules()))
    elif what == "drop":
        del own[at : at + 1]
    elif what == "double":
        own += own[at : at + 1]
    elif what == "exchange":
        own[at : at + 2] = reversed(own[at : at + 2])
    elif what == "part" and own:
        name = draw(
            st.sampled_from(
                [
                    "verdict",
                    "targets",
                    "ports",
                    "methods",
                    "paths",
                    "protocols",
                    "tls",
                    "inject",
                    "remove",
                    "addresses",
                    "http2",
                    "ignore_case",
                    "query",
                    "headers",
                ]
            )
        )
        own[at] = replace(own[at], **{name: getattr(draw(rules()), name)})
    scope = replace(scopes[place], rules=tuple(own))
    if what == "default":
        scope = replace(scope, default=draw(st.sampled_from([None, *Verdict])))
    return scopes, [*scopes[:place], scope, *scopes[place + 1 :]]


def agree(old: LoadedPolicy, new: LoadedPolicy, request: Request, address: Address | None) -> bool:
    """Whether nobody could tell the two apart by this request."""
    dialled = () if address is None else (address,)
    return not differences(*(Answer(judge(request, side, dialled), side) for side in (old, new)))


def known(request: Request) -> Request:
    """The request as a lane would see it: a method only where there is one, and then a path."""
    if request.protocol is Protocol.TCP:
        return replace(request, method=None, path=None, headers=())
    if request.protocol is Protocol.DNS:
        # For an address there is no question.
        host = Host("example.com") if request.host.address is not None else request.host
        return Request(request.sandbox, Protocol.DNS, host, 53)
    method = "GET" if request.protocol in {Protocol.WS, Protocol.WSS} else request.method or "GET"
    return replace(request, method=method, path=request.path or "/")


# Each example asks thousands of questions of both policies.
@pytest.mark.timeout(900)
@settings(max_examples=100)
@given(changed(), st.lists(st.tuples(requests, addresses), min_size=20, max_size=60))
def test_no_change_means_that_both_answer_alike(
    pair: tuple[list[ScopeRules], list[ScopeRules]], asked: list[tuple[Request, Address]]
) -> None:
    """Whatever is asked of the destinations that the policies name, the answers agree if the diff finds no change."""
    old, new = map(loaded, pair)
    if not compare(old, new).same:
        return
    for request, address in asked:
        for dialled in (None, address):
            assert agree(old, new, known(request), dialled), (known(request), dialled)


API = "rules:\n  - {name: api, allow: api.example.com, %s}\n"
SECRET = 'secrets:\n  %s\nrules:\n  - {name: api, allow: api.example.com, inject: {Authorization: "Bearer ${key}"}}\n'
DEFAULT = "default: %s\n"
SIGNED = """secrets:
  key: {env: A, hosts: [api.example.com]}
rules:
  - {name: api, allow: api.example.com, sign: {%s}}
"""

CHANGES = [
    # old, new, kinds and examples
    (API % "methods: [GET]", API % "methods: [GET, POST]", [("newly allowed", "POST https://api.example.com/")]),
    (API % "methods: [GET, POST]", API % "methods: [GET]", [("newly denied", "POST https://api.example.com/")]),
    (API % "paths: [/a]", API % "paths: [/a, /b/*]", [("newly allowed", "GET https://api.example.com/b/anything")]),
    (
        API % "paths: [/a/*]",
        API % "paths: [/a/**]",
        [("newly allowed", "GET https://api.example.com/a/anything/anything")],
    ),
    (
        API % "paths: [/*/b, /a/*]",
        API % "paths: [/*/b, /a/c]",
        [("newly denied", "GET https://api.example.com/a/anything")],
    ),
    (API % "ports: [443]", API % "ports: [443, 8000-8010]", [("newly allowed", "GET https://api.example.com:8000/")]),
    (API % "ports: [8000-8010]", API % "ports: [8000-8009]", [("newly denied", "GET https://api.example.com:8010/")]),
    (API % "protocol: https", API % "protocol: [https, wss]", [("newly allowed", "GET wss://api.example.com/")]),
    (
        API % "ports: [443]",
        API % "ports: [443], tls: tunnel",
        [("TLS carried otherwise", "GET https://api.example.com/")],
    ),
    (
        API % "protocol: https",
        API % "protocol: https, http2: true",
        [("TLS carried otherwise", "GET https://api.example.com/")],
    ),
    (
        API % "protocol: https",
        API % "protocol: https, remove: [Cookie]",
        [("other headers", "GET https://api.example.com/")],
    ),
    (
        API % "rewrite: {path_prefix: /a}",
        API % "rewrite: {path_prefix: /b}",
        [("goes elsewhere", "GET https://api.example.com/")],
    ),
    (
        API % "methods: [GET], rewrite: {host: b.example.com}" + "  - allow: b.example.com\n",
        API % "methods: [GET], rewrite: {host: b.example.com}" + "  - {allow: b.example.com, methods: [GET]}\n",
        [("newly denied", "GET wss://b.example.com/")],
    ),
    (API % "protocol: [https, wss]", API % "protocol: wss", [("newly denied", "GET https://api.example.com/")]),
    (API % "protocol: wss", API % "protocol: [wss, grpc]", [("newly allowed", "POST grpc://api.example.com/")]),
    (API % "protocol: https", API % "protocol: [https, dns]", [("newly allowed", "dns://api.example.com")]),
    (API % "protocol: [https, dns]", API % "protocol: https", [("newly denied", "dns://api.example.com")]),
    (API % "inject: {X-Team: a}", API % "inject: {X-Team: b}", [("other headers", "GET https://api.example.com/")]),
    (
        API % "methods: [GET]",
        API % "methods: [GET], addresses: [10.0.0.0/8]",
        [("newly allowed", "GET https://api.example.com/, resolving to 10.0.0.1")],
    ),
    (
        "rules:\n  - allow: a.example.com\n",
        "rules:\n  - deny: 93.184.0.0/16\n  - allow: a.example.com\n",
        [("newly denied", "GET https://a.example.com/, resolving to 93.184.0.0")],
    ),
    (
        "rules:\n  - allow: a.example.com\n",
        "rules:\n  - ask: a.example.com\n",
        [("newly asks a person", "GET https://a.example.com/")],
    ),
    (
        "rules:\n  - ask: a.example.com\n",
        "rules:\n  - deny: a.example.com\n",
        [("newly denied", "GET https://a.example.com/")],
    ),
    (
        "rules:\n  - allow: '*.example.com'\n",
        "rules:\n  - allow: .example.com\n",
        [("newly allowed", "GET https://example.com/")],
    ),
    (
        "rules:\n  - allow: 10.1.0.0/16\n",
        "rules:\n  - allow: 10.0.0.0/8\n",
        [("newly allowed", "GET https://10.0.0.1/")],
    ),
    ("", DEFAULT % "allow", [("newly allowed", "GET https://no-rule-names-this.test/")]),
    (
        SECRET % "key: {env: A, hosts: [api.example.com]}",
        SECRET % "key: {env: B, hosts: [api.example.com]}",
        [("other credentials", "GET https://api.example.com/")],
    ),
    (
        (SECRET % "key: {env: A, hosts: [api.example.com]}").replace("api.example.com, inject", ".example.com, inject"),
        (SECRET % "key: {env: A, hosts: [.example.com]}").replace("api.example.com, inject", ".example.com, inject"),
        [("other credentials", "GET https://example.com/")],
    ),
    (
        SIGNED % "sigv4: key",
        SIGNED % "sigv4: key, region: eu-west-1",
        [("other credentials", "GET https://api.example.com/")],
    ),
    (
        SIGNED % "hmac: {secret: key, message: '${query}', header: Authorization}",
        SIGNED % "hmac: {secret: key, message: '${path}', header: Authorization}",
        [("other credentials", "GET https://api.example.com/")],
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), CHANGES)
def test_each_change_is_told_with_an_example(
    tmp_path: Path, old: str, new: str, expected: list[tuple[str, str]]
) -> None:
    """One change of one file, and a group that it makes; all groups are of that kind."""
    found = told(compared(tmp_path, old, new))
    assert set(expected) <= set(found)
    assert {kind for kind, _ in found} == {kind for kind, _ in expected}


SAME = [
    (
        "rules:\n  - allow: [a.example.com, b.example.com]\n",
        "rules:\n  - {name: b, allow: b.example.com}\n  - allow: a.example.com\n",
    ),
    (API % "methods: read-only", API % "methods: [OPTIONS, HEAD, GET]"),
    ("rules:\n  - allow: .example.com\n", "rules:\n  - allow: example.com\n  - allow: '*.example.com'\n"),
    (
        "rules:\n  - allow: .example.com\n",
        "rules:\n  - allow: .example.com\n  - {allow: api.example.com, methods: [GET]}\n",
    ),
    ("", "default: deny\n"),
    ("rules:\n  - deny: a.example.com\n", "rules:\n  - deny: a.example.com\n  - allow: a.example.com\n"),
    ("rules:\n  - allow: 10.0.0.0/9\n  - allow: 10.128.0.0/9\n", "rules:\n  - allow: 10.0.0.0/8\n"),
    (API % "ports: [8000-8010]", API % "ports: [8000-8005, 8006-8010]"),
]


@pytest.mark.parametrize(("old", "new"), SAME)
def test_another_way_to_say_the_same_is_no_change(tmp_path: Path, old: str, new: str) -> None:
    """Names, order and spelling are not meaning."""
    found = compared(tmp_path, old, new)
    assert (told(found), found.same) == ([], True)


TWO = "rules:\n  - {%s: api.example.com, %s}\n  - {%s: api.example.com, %s}\n"
# Two policies, and the kind and example of what differs.
INSIDE = {
    "another value of a parameter": (
        API % "query: [state=open]", API % "query: ['state=o*']",
        ("newly allowed", "GET https://api.example.com/?state=oanything"),
    ),
    "a parameter whose name is encoded": (
        API % "query: ['a b+c']", API % "query: ['a b+c=1']",
        ("newly denied", "GET https://api.example.com/?a%20b%2Bc=anything"),
    ),
    "a header": (
        API % "headers: [x-kind=a]", API % "headers: ['x-kind=a*']",
        ("newly allowed", "GET https://api.example.com/, with x-kind: aanything"),
    ),
    "which of two rules comes first, where a request meets both": (
        TWO % ("deny", "query: [a=1]", "allow", "query: [b=2]"),
        TWO % ("allow", "query: [b=2]", "deny", "query: [a=1]"),
        ("newly allowed", "GET https://api.example.com/?a=1&b=2"),
    ),
    "upper and lower case": (
        API % "paths: [/Admin]", API % "paths: [/Admin], ignore_case: true",
        ("newly allowed", "GET https://api.example.com/aDMIN"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), INSIDE.values(), ids=list(INSIDE))
def test_changes_inside_requests_are_told(tmp_path: Path, old: str, new: str, expected: tuple[str, str]) -> None:
    """Query, headers and the case of paths: an example that one policy lets pass and the other does not."""
    assert told(compared(tmp_path, old, new)) == [expected]


def test_resolvers_that_changed_are_told(tmp_path: Path) -> None:
    """No request shows them, and they say where each name leads."""
    found = compared(tmp_path, "resolvers: 10.0.0.1\nrules: []\n", "resolvers: '[fd00::1]:54'\nrules: []\n")
    told = "`resolvers` of scope sandbox differs: ['10.0.0.1:53'] in the old policy, ['[fd00::1]:54'] in the new"
    assert found.written == [told]


def test_a_mode_that_changed_is_told(tmp_path: Path) -> None:
    """What a scope in report mode lets pass is newly allowed, and the mode itself is named."""
    found = compared(tmp_path, "rules: []\n", "mode: report\nrules: []\n")
    assert found.written == ["`mode` of scope sandbox differs: None in the old policy, report in the new"]
    assert {group.kind.value for group in found.changes.in_order()} == {"newly allowed"}


def test_groups_name_both_rules_and_count(tmp_path: Path) -> None:
    """The rule of each side with its place, how many requests, how many destinations."""
    found = compared(
        tmp_path, "rules:\n  - {name: one, allow: [a.test, b.test]}\n", "rules:\n  - deny: [a.test, b.test]\n"
    )
    (group,) = found.changes.in_order()
    assert group.old == f"allow, one, {tmp_path}/old.yaml:3, scope sandbox"
    assert group.new == f"deny, {tmp_path}/new.yaml:3, scope sandbox"
    assert (group.kind, group.destinations) == (Kind.DENIED, 2)
    assert group.requests > 1


def test_long_lists_cost_what_their_rules_cost(tmp_path: Path) -> None:
    """Hosts that the same rules name are asked once, however many they are."""
    (tmp_path / "hosts.txt").write_text("".join(f"h{number}.test\n" for number in range(5_000)))
    old = "rules:\n  - allow: {file: hosts.txt}\n    methods: [GET]\n"
    found = compared(tmp_path, old, old.replace("[GET]", "[GET, PUT]"))
    (group,) = found.changes.in_order()
    assert group.destinations == 5_000
    assert found.requests < 500


def test_rules_that_did_not_change_are_not_asked(tmp_path: Path) -> None:
    """What the same rules name on both sides has the same answers."""
    old = "rules:\n  - allow: [a.example.com, 10.0.0.0/8]\n"
    found = compared(tmp_path, old, f"{old}  - allow: b.example.com\n")
    assert found.destinations - found.alike == 1
    assert told(found)[0] == ("newly allowed", "GET https://b.example.com/")


def test_what_requests_do_not_show_is_compared_as_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A field of rules that the requests do not try out is told when it differs."""
    monkeypatch.setattr("egress.review.unjudged.JUDGED", JUDGED - {"http2"})
    old, new = API % "protocol: http", API % "protocol: http"
    assert compared(tmp_path, old, new).same
    first = written(tmp_path, old, "old.yaml")
    (scope,) = first.policy.scopes
    other = loaded([replace(scope, rules=(replace(scope.rules[0], http2=True),))])
    found = compare(first, replace(other, secrets={}))
    assert not found.same
    assert found.written == [f"`http2` differs: no rule in the old policy, {tmp_path}/old.yaml:3 in the new"]


def test_every_field_of_a_rule_is_judged_or_compared_as_written() -> None:
    """What is judged are fields that rules have; all others are compared by `unjudged`."""
    unjudged = {"until", "annotate", "rewrite", "limits", "scrub", "mcp", "graphql", "sandboxes"}
    assert {field.name for field in fields(Rule)} - JUDGED == unjudged
    assert {field.name for field in fields(Rule)} >= JUDGED


def test_representative_addresses_are_of_every_kind() -> None:
    """One address at least for each kind of place that the address step knows."""
    assert {own_class(address) for address in KINDS} == set(AddressClass)
