"""Rules that differ from sandbox to sandbox, and scopes that can only narrow."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_builders import addresses, policy, request, requests, rule, scope, scope_lists

from egress.policy import (
    AnyTarget,
    Certainty,
    HostTarget,
    Policy,
    Request,
    Rule,
    Sandbox,
    Scope,
    ScopeRules,
    Target,
    Verdict,
    compile_policy,
    expand,
    is_label_key,
    is_sandbox_word,
    telling,
)

CI = Sandbox("ci-7", (("team", "data"),))


def templated(verdict: str, name: str, **more: object) -> Rule:
    """A rule for a host with templates, as configuration reads it."""
    made = rule(verdict, "x.test")
    return replace(made, targets=(Target(HostTarget(name, exact=True, below=False)),), **more)  # type: ignore[arg-type]


def written(made: Rule, sandbox: Sandbox = CI) -> Rule | None:
    """The rule for a sandbox, in which everything could be filled in."""
    (only,), unfilled = expand([scope(made)], sandbox)
    assert not unfilled
    return only.rules[0] if only.rules else None


CHOSEN = [
    (("ci-7",), True),
    (("ci-8",), False),
    (("ci-8", "ci-7"), True),
    (("team=data",), True),
    (("team=build",), False),
    (("data",), False),
    (("stage=data",), False),
    (("ci-8", "team=data"), True),
]


@pytest.mark.parametrize(("sandboxes", "kept"), CHOSEN)
@pytest.mark.parametrize("verdict", ["allow", "deny", "ask"])
def test_a_rule_is_for_the_sandboxes_that_it_names(verdict: str, sandboxes: tuple[str, ...], *, kept: bool) -> None:
    """By name, or by label and value; any of them."""
    found = written(rule(verdict, "a.test", sandboxes=sandboxes))
    assert (found is not None) is kept
    assert found is None or found.sandboxes is None


def test_templates_become_the_sandboxs_values() -> None:
    """In host names and paths, beside other text and more than once."""
    name = "${sandbox.name}.${sandbox.label.team}-x.corp.test"
    found = written(templated("allow", name, paths=("/${sandbox.label.team}/**", "/all")))
    assert found is not None
    assert found.targets[0].what == HostTarget("ci-7.data-x.corp.test", exact=True, below=False)
    assert found.paths == ("/data/**", "/all")


WORDS = [
    *((text, True) for text in ("a", "ci-7", "0", "a" * 63, "xn--a")),
    *(
        (text, False)
        for text in ("", "a.b", "*", "a*", "A", "-a", "a-", "a_b", "a" * 64, "a\n", "é", "a/b", "${a}", "..")
    ),
]


@pytest.mark.parametrize(("text", "word"), WORDS)
def test_a_value_is_one_label(text: str, *, word: bool) -> None:
    """Without dots, stars, or anything else that could end or widen what it stands in."""
    assert is_sandbox_word(text) is word
    assert not is_label_key(text.upper() + ".")


@given(st.text(max_size=80), st.sampled_from(["${sandbox.name}.corp.test", "a-${sandbox.name}.corp.test"]))
def test_a_value_never_widens_a_target(value: str, name: str) -> None:
    """Whatever may be a value gives one name below what follows the template, or nothing at all."""
    if not is_sandbox_word(value):
        return
    (only,), unfilled = expand([scope(templated("allow", name))], Sandbox(value))
    if unfilled:
        assert not only.rules
        return
    what = only.rules[0].targets[0].what
    assert isinstance(what, HostTarget)
    assert what.name.endswith(".corp.test")
    assert what.name.count(".") == name.count(".") - 1
    assert not what.below


def test_an_allow_whose_label_is_missing_matches_nothing_and_a_denial_is_told() -> None:
    """Also where only some of its targets or paths are."""
    name = "${sandbox.label.stage}.corp.test"
    for verdict in ("allow", "deny", "ask"):
        (only,), unfilled = expand([scope(templated(verdict, name))], CI)
        assert only.rules == ()
        assert [(item.missing, item.rule.verdict.value) for item in unfilled] == [("stage", verdict)]
    some = rule("allow", "a.test", paths=("/${sandbox.label.stage}/**",))
    assert expand([scope(some)], CI)[0][0].rules == ()
    both = rule("allow", "a.test", paths=("/${sandbox.label.stage}/**", "/b"))
    assert expand([scope(both)], CI)[0][0].rules[0].paths == ("/b",)


def test_a_name_that_is_none_once_it_is_filled_in_is_told() -> None:
    """Longer than a name may be."""
    long = ".".join(["a" * 60] * 4) + ".${sandbox.name}.corp.test"
    (only,), (item,) = expand([scope(templated("allow", long))], CI)
    assert (only.rules, item.missing) == ((), None)


def test_what_is_not_written_out_allows_nothing_and_refuses_everything() -> None:
    """So that whoever forgets to write it out opens nothing."""
    asked = request("https://ci-7.corp.test", "GET", "/a")
    opened = rule("allow", "**", sandboxes=("ci-7",))
    assert not policy(opened, templated("allow", "${sandbox.name}.corp.test")).decide_request(asked).allowed
    for refusing in (
        rule("deny", "**", sandboxes=("ci-8",)),
        templated("deny", "${sandbox.name}.other.test"),
        rule("deny", "ci-7.corp.test", paths=("/${sandbox.name}",)),
    ):
        assert policy(rule("allow", "**")).decide_request(asked).allowed
        assert policy(refusing, rule("allow", "**")).decide_request(asked).verdict is Verdict.DENY


def test_what_is_the_same_for_all_is_shared() -> None:
    """Scopes without such rules, and rules beside them, are the same objects."""
    plain, mixed = (
        scope(rule("allow", "a.test")),
        scope(rule("deny", "b.test"), templated("allow", "${sandbox.name}.x.test")),
    )
    found, _ = expand([plain, mixed], CI)
    assert found[0] is plain
    assert found[1].rules[0] is mixed.rules[0]


def test_sandboxes_that_rules_do_not_tell_apart_are_told_alike() -> None:
    """By the words and templates that stand in rules alone."""
    tell = telling([scope(rule("allow", "a.test", sandboxes=("team=data",)))])
    assert tell(CI) == tell(Sandbox("other", (("team", "data"), ("more", "x"))))
    assert tell(CI) != tell(Sandbox("ci-7"))
    named = telling([scope(templated("allow", "${sandbox.name}.x.test"))])
    assert named(CI) != named(Sandbox("other", CI.labels))


def compiled(scopes: list[ScopeRules]) -> Policy:
    """The policy of these scopes."""
    return compile_policy(scopes, digest="test", clock=time.time)


def narrowing(scopes: list[ScopeRules]) -> list[ScopeRules]:
    """The first of them as the scope of a session."""
    return [replace(own, scope=Scope.SESSION, narrows=True) for own in scopes[:1]]


@settings(max_examples=500)
@given(scope_lists, scope_lists, requests, st.lists(addresses, max_size=3))
def test_a_scope_that_narrows_never_widens(
    base: list[ScopeRules], session: list[ScopeRules], asked: Request, found: list[object]
) -> None:
    """By name, by request and by address: what passes with it passes without it."""
    without, with_it = compiled(base), compiled([*base, *narrowing(session)])
    before, after = without.decide_request(asked), with_it.decide_request(asked)
    assert before.allowed or not after.allowed
    if without.decide_name(asked).certainty is Certainty.NO:
        assert with_it.decide_name(asked).certainty is Certainty.NO
    passed = without.decide_address(asked, before, found).addresses  # type: ignore[arg-type]
    assert set(with_it.decide_address(asked, after, found).addresses) <= set(passed)  # type: ignore[arg-type]


def test_a_scope_that_narrows_counts_where_another_allows() -> None:
    """It neither opens what others are silent about, nor stands in the way of what it says nothing to."""
    base = scope(rule("allow", "a.test"), rule("allow", "b.test"))
    session = replace(
        scope(rule("allow", "a.test", methods="GET"), rule("allow", "c.test"), rank=Scope.SESSION), narrows=True
    )
    closed = replace(session, default=Verdict.DENY)
    for url, method, loose, strict in (
        ("https://a.test", "GET", True, True),
        ("https://a.test", "POST", True, False),
        ("https://b.test", "GET", True, False),
        ("https://c.test", "GET", False, False),
    ):
        asked = request(url, method, "/")
        assert compiled([base, session]).decide_request(asked).allowed is loose
        assert compiled([base, closed]).decide_request(asked).allowed is strict
    assert compiled([base, session]).decide_name(request("https://c.test")).certainty is Certainty.NO


def test_a_session_of_the_files_does_not_keep_another_from_narrowing() -> None:
    """They are not one list, in which the first that matches would speak for both."""
    files = scope(rule("allow", "a.test"), rank=Scope.SESSION)
    session = replace(scope(rule("deny", "a.test"), rank=Scope.SESSION), narrows=True)
    assert compiled([files]).decide_request(request("https://a.test", "GET", "/")).allowed
    assert not compiled([session, files]).decide_request(request("https://a.test", "GET", "/")).allowed


def test_any_target_stays_any_target() -> None:
    """`**` holds no template."""
    found = written(rule("deny", "**", sandboxes=("ci-7",)))
    assert found is not None
    assert found.targets[0].what == AnyTarget()
