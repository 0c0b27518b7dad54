"""Every rule that a request was held against, and why it did not match: the long answer of an explanation.

1. by scope    highest first, and within a scope in the order of the file
2. named       rules that name the destination; how many others there are is counted, since none of them was tried
3. not tried   what stands after the rule that speaks for its scope
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from egress.policy.conditions import REASON_OF_MISS, SPEAKS, Fit
from egress.review.spelling import plain, rule_values

if TYPE_CHECKING:
    from egress.policy import Policy, Request, Rule, RuleRef, Scope, Verdict
    from egress.policy.compiled import CompiledRule
    from egress.review.spelling import JsonObject

_MOST_SHOWN: Final = 6


class Outcome(StrEnum):
    """What became of a rule."""

    SPEAKS = "speaks"
    MISSES = "does not match"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, slots=True)
class Tried:
    """One rule that names the destination. `why` is a sentence's part for people."""

    rule: RuleRef
    verdict: Verdict
    outcome: Outcome
    why: str


@dataclass(frozen=True, slots=True)
class ScopeTried:
    """The rules of one scope. `others` is how many of its rules name other destinations only."""

    scope: Scope
    rules: tuple[Tried, ...]
    others: int


def tried(policy: Policy, request: Request) -> tuple[ScopeTried, ...]:
    """Every rule that was held against the request, scope by scope."""
    found: dict[int, dict[int, tuple[CompiledRule, Fit]]] = {}
    for rule, fit in policy.fits(request):
        own = found.setdefault(rule.scope, {})
        # A rule may name the destination twice; the better of the two counts.
        if id(rule) not in own or fit > own[id(rule)][1]:
            own[id(rule)] = (rule, fit)
    told = []
    for place, scope in enumerate(policy.scopes):
        rules = list(found.get(place, {}).values())
        told.append(ScopeTried(scope.scope, tuple(_in_order(rules, request)), len(scope.rules) - len(rules)))
    return tuple(told)


def tried_json(found: tuple[ScopeTried, ...]) -> list[JsonObject]:
    """The same as plain values."""
    return [
        {
            "scope": scope.scope.value,
            "rules": [
                {
                    "name": each.rule.name,
                    "file": each.rule.file,
                    "line": each.rule.line,
                    "verdict": each.verdict.value,
                    "outcome": each.outcome.value,
                    "why": each.why,
                }
                for each in scope.rules
            ],
            "others": scope.others,
        }
        for scope in found
    ]


def _in_order(rules: list[tuple[CompiledRule, Fit]], request: Request) -> list[Tried]:
    told: list[Tried] = []
    spoken = False
    for rule, fit in rules:
        if spoken:
            outcome, why = Outcome.NOT_TRIED, "a rule before it speaks"
        elif fit >= SPEAKS:
            outcome, why = Outcome.SPEAKS, _SPEAKS.get(fit, "all of its conditions hold")
            spoken = True
        else:
            outcome, why = Outcome.MISSES, _missed(rule.rule, fit, request)
        told.append(Tried(rule.ref, rule.verdict, outcome, why))
    return told


_SPEAKS: Final = {Fit.DOUBT: "what cannot be read one way only counts as a match of a deny or ask"}
# The keys of a rule whose values say what it would have taken.
_KEYS: Final = {
    Fit.PORT: ("ports",),
    Fit.PROTOCOL: ("protocol",),
    Fit.METHOD: ("methods",),
    Fit.PATH: ("paths",),
    Fit.QUERY: ("query",),
    Fit.HEADER: ("headers",),
    Fit.EXPIRED: ("until",),
}


def _missed(rule: Rule, fit: Fit, request: Request) -> str:
    """Why the rule does not match, with what it names."""
    asked = {
        Fit.PORT: f"the port is {request.port}",
        Fit.PROTOCOL: f"the protocol is {request.protocol}",
        Fit.INSIDE: "it needs the inside of the request, which is not seen",
        Fit.METHOD: f"the method is {request.method}" if request.method is not None else "the method is not seen",
        Fit.PATH: "the path is another one" if request.path is not None else "the path is not seen",
        Fit.AMBIGUOUS: "the path can be read more than one way",
        Fit.QUERY: "the query does not have what it asks for, once and readable",
        Fit.HEADER: "the headers do not have what it asks for, once",
        Fit.EXPIRED: "it has expired",
    }.get(fit, REASON_OF_MISS[fit].value.replace("-", " "))
    values = rule_values(rule)
    named = [f"{key}: {_few(values[key])}" for key in _KEYS.get(fit, ()) if key in values]
    return f"{asked}, the rule has {', '.join(named)}" if named else asked


def _few(value: object) -> str:
    if not isinstance(value, list):
        return str(plain(value))
    shown = ", ".join(map(str, value[:_MOST_SHOWN]))
    return shown if len(value) <= _MOST_SHOWN else f"{shown} and {len(value) - _MOST_SHOWN} more"
