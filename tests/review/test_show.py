"""The effective policy is shown whole: every field of every rule, in order, and no value of a secret."""

from __future__ import annotations

import json
from dataclasses import MISSING, Field, fields, replace
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from policy_builders import rule, scope_lists, target

from egress.config import LoadedPolicy, PolicySource, load_policy
from egress.policy import (
    GraphqlCondition,
    Host,
    Injection,
    McpCondition,
    PathPrefix,
    PortRange,
    Protocol,
    Rate,
    Rewrite,
    Rule,
    RuleLimits,
    Scheme,
    Scope,
    ScopeRules,
    SecretRef,
    SigV4,
    Swap,
    SwapPlace,
    TlsMode,
    Unreadable,
    Verdict,
    compile_policy,
)
from egress.review import effective
from egress.review.spelling import rule_values, scope_values, target_text

if TYPE_CHECKING:
    from pathlib import Path

# A value of each field that is not its default. What has none here gets one that fits its default.
STATED: dict[str, object] = {
    "verdict": Verdict.ASK,
    "targets": (target("b.test"),),
    "file": "other.yaml",
    "line": 99,
    "name": "a name",
    "ports": (PortRange(1, 2),),
    "methods": frozenset({"GET"}),
    "paths": ("/a",),
    "protocols": frozenset({Protocol.TCP}),
    "tls": TlsMode.AUTO,
    "inject": (Injection("X-Key", ("k ", SecretRef("key"))),),
    "remove": ("Cookie",),
    "addresses": (ip_network("10.0.0.0/8"),),
    "http2": True,
    "ignore_case": True,
    "query": (("a", None), ("b", "x*")),
    "headers": (("Accept", "text/*"),),
    "until": datetime(2030, 1, 2, tzinfo=UTC),
    "annotate": (("team", "a"),),
    "rewrite": Rewrite(Scheme.HTTPS, Host("b.test"), 8443, PathPrefix("/v1", "")),
    "limits": RuleLimits(requests=Rate(10, 1)),
    "scrub": Unreadable.REFUSE,
    "mcp": McpCondition(("tools/call",), ("a*",), (("repo", "b/*"),)),
    "graphql": GraphqlCondition(("query",), ("C*",)),
    "sandboxes": ("ci-7", "team=data"),
    "sign": SigV4("key", "eu-west-1"),
    "swap": (Swap("key", ("X-Key",), frozenset({SwapPlace.BODY}), required=True),),
    "strip_own": True,
    "narrows": True,
    "default": Verdict.ALLOW,
    "mode": "report",
    "resolvers": (("10.0.0.53", 53),),
}
PLAIN_RULE = rule("allow", "a.test")
PLAIN_SCOPE = ScopeRules(Scope.ORG, ())


def stated(field: Field[Any]) -> object:
    """A value of the field that is not its default."""
    return STATED[field.name]


@pytest.mark.parametrize("field", fields(Rule), ids=lambda field: field.name)
def test_every_field_of_a_rule_is_shown(field: Field[Any]) -> None:
    """A rule that states it is shown otherwise than one that does not, and what it states is there."""
    shown = rule_values(replace(PLAIN_RULE, **{field.name: stated(field)}))
    assert shown != rule_values(PLAIN_RULE)


@pytest.mark.parametrize(
    "field",
    [field for field in fields(ScopeRules) if field.name not in {"scope", "rules"}],
    ids=lambda field: field.name,
)
def test_everything_that_a_scope_states_is_shown(field: Field[Any]) -> None:
    """Default, TLS, mode."""
    assert scope_values(replace(PLAIN_SCOPE, **{field.name: stated(field)})) != scope_values(PLAIN_SCOPE)


def test_a_condition_that_nothing_meets_is_shown() -> None:
    """An empty condition matches nothing; it is not the same as none."""
    assert rule_values(replace(PLAIN_RULE, methods=frozenset()))["methods"] == []
    assert "methods" not in rule_values(PLAIN_RULE)


def test_conditions_are_spelt_as_files_write_them() -> None:
    """What is shown can be copied into a policy."""
    until = datetime(2030, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    shown = rule_values(
        replace(PLAIN_RULE, query=(("state", "open"), ("page", None)), headers=(("x-a", ""),), until=until)
    )
    assert (shown["query"], shown["headers"], shown["until"]) == (
        ["state=open", "page"],
        ["x-a="],
        "2030-01-01T10:00:00Z",
    )


def test_presets_are_shown_with_what_their_parameters_came_to(tmp_path: Path) -> None:
    """Who includes them, on which line, also for what a preset includes; and each rule has the preset's line."""
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\ninclude:\n  - {preset: conda, channels: [ours]}\n  - model-providers\n")
    values = effective(load_policy([PolicySource(Scope.SANDBOX, path)]))
    includes = values["includes"]
    assert isinstance(includes, list)
    assert includes[0] == {"preset": "conda", "by": f"{path}:3", "parameters": {"channels": ["ours"]}}
    assert {"conda", "model-providers", "anthropic", "openai", "google-ai"} == {each["preset"] for each in includes}


@pytest.mark.parametrize(
    "text",
    [
        "a.test",
        "*.a.test",
        ".a.test",
        "**",
        "10.0.0.1",
        "10.0.0.0/8",
        "2001:db8::/32",
        "a.test:8443",
        "[2001:db8::1]:443",
    ],
)
def test_targets_are_spelt_as_files_write_them(text: str) -> None:
    """Reading and spelling are each other's inverse."""
    assert target_text(target(text, "deny")) == text


@given(scope_lists)
def test_any_policy_can_be_shown(scopes: list[ScopeRules]) -> None:
    """Total over the core's values, and plain enough for JSON."""
    policy = compile_policy(scopes, digest="d", clock=lambda: 0.0)
    values = json.loads(json.dumps(effective(LoadedPolicy(policy, {}, (), ()))))
    assert [scope["scope"] for scope in values["scopes"]] == [scope.scope.value for scope in policy.scopes]
    assert [len(scope["rules"]) for scope in values["scopes"]] == [len(scope.rules) for scope in policy.scopes]


def test_scopes_and_rules_are_in_the_order_of_judging_with_their_origin(tmp_path: Path) -> None:
    """Highest scope first; of each rule, the file and line."""
    org, own = tmp_path / "org.yaml", tmp_path / "own.yaml"
    org.write_text(
        "version: 1\nsecrets:\n  key: {env: NAME_OF_A_VARIABLE, hosts: [a.test]}\nrules:\n  - deny: b.test\n"
    )
    own.write_text('version: 1\ndefault: deny\nrules:\n  - allow: a.test\n    inject: {X: "${key}"}\n  - ask: c.test\n')
    values = effective(load_policy([PolicySource(Scope.SANDBOX, own), PolicySource(Scope.ORG, org)]))
    assert values["secrets"] == ["key"]
    assert values["scopes"] == [
        {"scope": "org", "rules": [{"file": str(org), "line": 5, "deny": ["b.test"]}]},
        {
            "scope": "sandbox",
            "default": "deny",
            "rules": [
                {"file": str(own), "line": 4, "allow": ["a.test"], "inject": {"X": "${key}"}},
                {"file": str(own), "line": 6, "ask": ["c.test"]},
            ],
        },
    ]
    assert "NAME_OF_A_VARIABLE" not in json.dumps(values)


def test_every_stated_value_differs_from_the_default() -> None:
    """The tests above compare something."""
    for field in (*fields(Rule), *fields(ScopeRules)):
        if field.name in STATED and field.default is not MISSING:
            assert STATED[field.name] != field.default
