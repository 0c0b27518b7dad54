"""Where a new rule goes in a policy file, and whether it speaks there. Nothing is written here.

Within a scope the first rule that matches speaks, so a rule's place is a part of its meaning.

1. deny     first of all rules, so that it holds
2. allow    after the last rule; but before the first `deny` or `ask` of the file that would answer for it and is the
            more general (`**`, a wildcard above the name): an exception stands before what it is taken from
3. guards   a `deny` or `ask` with conditions (`never delete`) stays above the new `allow`, and goes on holding
4. conflict a `deny` or `ask` of the same target, or guards that leave the `allow` nothing: two people disagree, and one
            must say so
5. another file's rule, and another scope's, stay as they are: whether they still refuse is said after judging
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from egress.policy import WITHOUT_REQUEST, Refusal, Request, Verdict
from egress.review.destination import parse_url
from egress.review.explain import explain
from egress.review.rule_fields import conditions
from egress.review.samples import questions, targets_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.config import LoadedPolicy
    from egress.config.document import Document
    from egress.policy import Rule, RuleRef, Say
    from egress.review.edit import NewRule
    from egress.review.explanation import Explanation
    from egress.review.question import Question


class Standing(StrEnum):
    """What a policy makes of a rule's requests."""

    EVERY = "every"
    SOME = "some"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Place:
    """A place among the rules. `index` None: after the last. `before` is the more general rule that it goes before.

    `conflict` is a rule of the file that names the same and says the opposite; the place is then right above it.
    """

    index: int | None
    before: Rule | None = None
    conflict: Rule | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What a policy says of a rule's requests. `first` is the first answer that is not what the rule says, if any.

    `shown` is the answer of the first request, to be told to people.
    """

    standing: Standing
    shown: Explanation
    first: Explanation | None
    says: tuple[Say, ...] = ()

    @property
    def other(self) -> RuleRef | None:
        """The rule that says otherwise, where one does."""
        return next((say.rule for say in self.says if _refuses(say)), None)

    @property
    def silent(self) -> Say | None:
        """The highest scope that says no without a rule that names the destination."""
        return next((say for say in self.says if say.verdict is not Verdict.ALLOW and say.rule is None), None)


def judge(rule: NewRule, loaded: LoadedPolicy) -> Judged:
    """What a policy says of the requests that a rule names."""
    asked = questions(rule)
    answers = [explain(question, loaded) for question in asked]
    agreeing = [_agrees(answer, rule.verdict) for answer in answers]
    standing = Standing.EVERY if all(agreeing) else Standing.SOME if any(agreeing) else Standing.NONE
    if standing is Standing.EVERY:
        return Judged(standing, answers[0], None)
    first = agreeing.index(False)
    return Judged(standing, answers[0], answers[first], _says(asked[first], loaded))


def speaks(rule: NewRule, loaded: LoadedPolicy, file: str, line: int) -> bool:
    """Whether the rule on this line is the one that answers for at least one of its own requests."""
    for question in questions(rule):
        says = _says(question, loaded)
        if any(say.rule is not None and (say.rule.file, say.rule.line) == (file, line) for say in says):
            return True
    return False


def place(rule: NewRule, loaded: LoadedPolicy, document: Document) -> Place:
    """Where the rule goes in the file that `document` is."""
    if rule.verdict is Verdict.DENY:
        return Place(0)
    asked = questions(rule)
    blocking = _blocking(asked, loaded, document)
    if not blocking:
        return Place(None)
    guards = {index: found for index, found in blocking.items() if conditions(found.rule)}
    general = {index: found for index, found in blocking.items() if index not in guards}
    wanted = {target.what for target in targets_of(rule)}
    same = [index for index, found in general.items() if any(target.what in wanted for target in found.rule.targets)]
    if same or (not general and sum(found.requests for found in guards.values()) == len(asked)):
        first = min(same or guards)
        return Place(first, conflict=blocking[first].rule)
    if general:
        return Place(min(general), before=general[min(general)].rule)
    return Place(None)


@dataclass(slots=True)
class _Blocking:
    """A rule of the file that refuses requests of the new rule, and how many."""

    rule: Rule
    requests: int = 0


def _blocking(asked: Sequence[Question], loaded: LoadedPolicy, document: Document) -> dict[int, _Blocking]:
    """The rules of the file that refuse a request of the new rule, by their place in it."""
    own = {
        (found.file, found.line): found for scope in loaded.policy.scopes for found in _of(scope.rules, document.file)
    }
    places = {line: at[1] for at, line in document.lines.items() if len(at) == 2 and at[0] == "rules"}  # noqa: PLR2004
    blocking: dict[int, _Blocking] = {}
    for question in asked:
        for say in _says(question, loaded):
            if not _refuses(say) or say.rule is None or say.rule.line is None:
                continue
            index, found = places.get(say.rule.line), own.get((say.rule.file, say.rule.line))
            if isinstance(index, int) and found is not None:
                blocking.setdefault(index, _Blocking(found)).requests += 1
    return blocking


def _says(question: Question, loaded: LoadedPolicy) -> tuple[Say, ...]:
    """What each scope says to the request itself.

    The name step would not do: where nothing could allow the name yet, a guard's `deny` answers for all requests.
    """
    destination = parse_url(question.url)
    if isinstance(destination, Refusal):
        return ()
    has_method = destination.protocol not in WITHOUT_REQUEST
    request = Request(
        sandbox=question.sandbox,
        protocol=destination.protocol,
        host=destination.host,
        port=destination.port,
        method=question.method if has_method else None,
        path=destination.path if has_method else None,
    )
    return loaded.policy.decide_request(request).says


def _of(rules: Sequence[Rule], file: str) -> list[Rule]:
    return [rule for rule in rules if rule.file == file]


def _refuses(say: Say) -> bool:
    return say.rule is not None and say.verdict in {Verdict.DENY, Verdict.ASK}


def _agrees(answer: Explanation, verdict: Verdict) -> bool:
    """Whether the answer is what a rule of this verdict wants; a denial must come from a rule, not from silence."""
    if verdict is Verdict.ALLOW:
        return answer.allowed
    says = () if answer.decision is None else answer.decision.says
    return answer.verdict is Verdict.DENY and any(_refuses(say) and say.verdict is Verdict.DENY for say in says)
