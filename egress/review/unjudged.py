"""Differences between two policies that no request shows: compared as they are written, so that none goes untold.

A field of a rule that `representatives` does not know how to try out is such a difference, whatever the field is.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Final

from egress.policy import Rule, depends_on_sandbox
from egress.review.spelling import place_text, plain, rule_values, scope_values, target_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.config import LoadedPolicy

# What requests show.
JUDGED: Final = frozenset(
    {
        *("verdict", "targets", "file", "line", "name", "ports", "methods", "paths", "protocols", "tls", "inject"),
        *("remove", "addresses", "http2", "ignore_case", "query", "headers", "swap", "strip_own", "sign"),
    }
)


def unjudged(old: LoadedPolicy, new: LoadedPolicy) -> list[str]:
    """A sentence for each field of rules, and each mode of a scope, that differs."""
    sides = (old, new)
    found = [
        f"`{field.name}` differs: {_places(old, field.name)} in the old policy, {_places(new, field.name)} in the new"
        for field in fields(Rule)
        if field.name not in JUDGED and _differs([_values(side, field.name) for side in sides])
    ]
    told = [_for_some(side) for side in sides]
    if told[0] != told[1] and not any(sentence.startswith("`sandboxes`") for sentence in found):
        found.append("rules with templates differ: what they say depends on the sandbox")
    modes = [_modes(side) for side in sides]
    return found + [
        f"`mode` of scope {scope} differs: {modes[0].get(scope)} in the old policy, {modes[1].get(scope)} in the new"
        for scope in sorted({*modes[0], *modes[1]})
        if _differs([mode.get(scope) for mode in modes])
    ]


def _for_some(side: LoadedPolicy) -> list[object]:
    """The rules that are not the same for every sandbox, as they are written, without their places."""
    rules = [(scope.scope, rule) for scope in side.policy.scopes for rule in scope.rules if depends_on_sandbox(rule)]
    return [(scope, rule_values(replace(rule, file="", line=None))) for scope, rule in rules]


def _differs(values: list[object]) -> bool:
    return values[0] != values[1]


def _values(side: LoadedPolicy, field: str) -> object:
    """What the rules of each scope state there, and for which targets, in order."""
    return [
        (scope, plain(getattr(rule, field)), [target_text(target) for target in rule.targets])
        for scope, rule in _stating(side, field)
    ]


def _places(side: LoadedPolicy, field: str) -> str:
    return ", ".join(place_text(rule) for _, rule in _stating(side, field)) or "no rule"


def _stating(side: LoadedPolicy, field: str) -> Iterator[tuple[str, Rule]]:
    unstated = next(each.default for each in fields(Rule) if each.name == field)
    for scope in side.policy.scopes:
        for rule in scope.rules:
            if getattr(rule, field) != unstated:
                yield scope.scope.value, rule


def _modes(side: LoadedPolicy) -> dict[str, object]:
    """The modes that scopes state; one that is not stated is left out."""
    stated = (scope_values(scope) for scope in side.policy.scopes)
    return {str(values["scope"]): values["mode"] for values in stated if "mode" in values}
