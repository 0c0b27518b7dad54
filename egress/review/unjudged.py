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

# What a scope states beside its rules, and no request shows.
_OF_SCOPES: Final = ("mode", "resolvers")


def unjudged(old: LoadedPolicy, new: LoadedPolicy) -> list[str]:
    """A sentence for each field of rules, each mode of a scope and its resolvers, that differ."""
    sides = (old, new)
    found = [
        f"`{field.name}` differs: {_places(old, field.name)} in the old policy, {_places(new, field.name)} in the new"
        for field in fields(Rule)
        if field.name not in JUDGED and _differs([_values(side, field.name) for side in sides])
    ]
    told = [_for_some(side) for side in sides]
    if told[0] != told[1] and not any(sentence.startswith("`sandboxes`") for sentence in found):
        found.append("rules with templates differ: what they say depends on the sandbox")
    for key in _OF_SCOPES:
        first, second = (_of_scopes(side, key) for side in sides)
        found += [
            f"`{key}` of scope {scope} differs: {first.get(scope)} in the old policy, {second.get(scope)} in the new"
            for scope in sorted({*first, *second})
            if _differs([first.get(scope), second.get(scope)])
        ]
    return found


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


def _of_scopes(side: LoadedPolicy, key: str) -> dict[str, object]:
    """What scopes state there; one that does not is left out."""
    stated = (scope_values(scope) for scope in side.policy.scopes)
    return {str(values["scope"]): values[key] for values in stated if key in values}
