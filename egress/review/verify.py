"""Holds a policy against cases: what each expects, what was found, and how the two differ.

A request that nobody can read is denied whatever the policy says, so a case that expects `deny` would pass for a
spelling mistake in its URL. Such a case fails unless it states the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress.review.explain import explain
from egress.review.question import make_question
from egress.review.spelling import place_text, rule_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.config import Case, LoadedPolicy
    from egress.errors import Problem
    from egress.policy import RuleRef
    from egress.review.explanation import Explanation
    from egress.review.spelling import JsonObject


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing that came out otherwise than the case says."""

    what: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class CaseResult:
    """A case, the policy's answer, and where they differ."""

    case: Case
    answer: Explanation
    mismatches: tuple[Mismatch, ...]

    @property
    def passed(self) -> bool:
        """Whether the policy says all that the case expects."""
        return not self.mismatches

    @property
    def telling(self) -> str:
        """The answer in one line, as `egress explain` would tell it."""
        answer = self.answer
        said = f"{answer.verdict.value}, {answer.reason.value}: {answer.detail or answer.text.sentence}"
        return said if answer.rule is None else f"{said} [{rule_text(answer.rule)}]"


@dataclass(frozen=True, slots=True)
class FileResult:
    """The results of one file, or the problems for which it could not be used."""

    file: str
    results: tuple[CaseResult, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def failed(self) -> int:
        """How many cases did not come out as they say."""
        return sum(not result.passed for result in self.results)


def verify(case: Case, loaded: LoadedPolicy) -> CaseResult:
    """Ask the policy what the case asks, and compare. Never raises."""
    question = make_question(
        case.url,
        method=case.method,
        sandbox=case.sandbox,
        headers=case.headers,
        addresses=case.addresses,
        body=None if case.body is None else case.body.encode(),
    )
    answer = explain(question, loaded if case.at is None else loaded.as_of(case.at))
    return CaseResult(case, answer, tuple(_mismatches(case, answer)))


def results_json(files: Sequence[FileResult]) -> JsonObject:
    """Everything as plain values."""
    return {
        "cases": sum(len(file.results) for file in files),
        "failed": sum(file.failed for file in files),
        "files": [
            {
                "file": file.file,
                "problems": [str(problem) for problem in file.problems],
                "cases": [_result_json(result) for result in file.results],
            }
            for file in files
        ],
    }


def _mismatches(case: Case, answer: Explanation) -> list[Mismatch]:
    found: list[Mismatch] = []
    _compare(found, "verdict", case.expect.value, answer.verdict.value)
    if case.reason is not None:
        _compare(found, "reason", case.reason.value, answer.reason.value)
    elif answer.request is None:
        found.append(Mismatch("request", "one that can be read", f"{answer.reason.value}: {answer.detail}"))
    if case.rule is not None and not _is_rule(case.rule, answer.rule):
        found.append(Mismatch("rule", case.rule, "none" if answer.rule is None else rule_text(answer.rule)))
    if case.inject is not None:
        _compare(found, "inject", _listed(case.inject), _listed(_injected(answer)))
    if case.lane is not None:
        _compare(found, "lane", case.lane.value, "none" if answer.lane is None else answer.lane.value)
    return found


def _compare(found: list[Mismatch], what: str, expected: str, actual: str) -> None:
    if expected != actual:
        found.append(Mismatch(what, expected, actual))


def _is_rule(expected: str, rule: RuleRef | None) -> bool:
    """A rule is named by its name, or by its place with as much of the path as the case gives."""
    if rule is None:
        return False
    place = place_text(rule)
    return expected in (rule.name, place) or place.endswith(f"/{expected}")


def _injected(answer: Explanation) -> frozenset[str]:
    if answer.decision is None or not answer.allowed:
        return frozenset()
    return frozenset(injection.header.lower() for injection in answer.decision.inject)


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _result_json(result: CaseResult) -> JsonObject:
    case = result.case
    return {
        "line": case.line,
        "name": case.name,
        "request": case.request,
        "passed": result.passed,
        "mismatches": [
            {"what": each.what, "expected": each.expected, "found": each.found} for each in result.mismatches
        ],
        "answer": result.answer.as_json(),
    }
