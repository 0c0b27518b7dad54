"""Findings about rules that never speak: from their `Fate` to a code and a sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from egress.review.lint.findings import Code, Finding, of_rule
from egress.review.lint.order import fates
from egress.review.lint.places import MOST_COMPARED
from egress.review.lint.wording import first_lines, some

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from egress.policy import Rule, ScopeRules
    from egress.review.lint.order import Fate

# A rule with more targets than this is a list, to which rules before it are meant as exceptions.
LIST: Final = 100


# What a preset's rule may well be: a file that includes the preset says more, or says it first.
_OF_PRESETS: Final = {Code.ALLOW_NEVER_HOLDS, Code.DUPLICATE_RULE, Code.REDUNDANT_RULE}


def find_unspoken(scopes: Sequence[ScopeRules], presets: Collection[str] = ()) -> Iterator[Finding]:
    """What there is to say of rules, or targets of them, that never speak. `presets` are the files of presets."""
    crowded: list[Rule] = []
    for fate in fates(scopes):
        if fate.crowded:
            crowded.append(fate.rule)
        for finding in _findings(fate):
            yield _of_preset(finding) if finding.file in presets and finding.code in _OF_PRESETS else finding
    if crowded:
        which = f"{len(crowded)}, from this one on," if len(crowded) > 1 else "this one"
        message = f"more than {MOST_COMPARED} rules name one place: {which} had no look at all the others"
        yield of_rule(Code.NOT_ALL_COMPARED, crowded[0], message, "join rules that differ in one list, as `paths`")


def _of_preset(finding: Finding) -> Finding:
    """Whoever includes a preset cannot remove one of its rules, and need not."""
    return replace(finding, code=Code.PRESET_DECIDED_ALREADY, hint="nothing, if that is what you mean")


def _findings(fate: Fate) -> Iterator[Finding]:
    rule = fate.rule
    needless = len(fate.needless) + len(fate.repeated)
    if not rule.targets:
        return
    if fate.needless and needless == len(rule.targets):
        yield _whole(fate)
        return
    if len(fate.nowhere) + len(fate.repeated) == len(rule.targets):
        if fate.nowhere:
            message = "no rule allows any of what this rule would deny, so it changes nothing"
            yield of_rule(Code.NOTHING_TO_REFUSE, rule, message, "keep it if it guards what is added later")
        return
    yield from _parts(fate)


def _whole(fate: Fate) -> Finding:
    rule = fate.rule
    if fate.weaker:
        first = fate.weaker[0]
        message = f"this {rule.verdict} never holds: the rule on {first_lines(fate.weaker, rule)} comes first"
        message += f" and says {first.verdict} to all that it names"
        return of_rule(Code.REFUSAL_NEVER_HOLDS, rule, message, "move it before that rule; the first match decides")
    where = first_lines(fate.by, rule)
    if any(blocker.verdict is not rule.verdict for blocker in fate.by):
        message = f"this {rule.verdict} never holds: the rule on {where} comes first and refuses all that it names"
        return of_rule(Code.ALLOW_NEVER_HOLDS, rule, message, "remove it, or move it before that rule")
    if any(_same(blocker, rule) for blocker in fate.by):
        return of_rule(Code.DUPLICATE_RULE, rule, f"the rule on {where} is the same", "remove one of them")
    message = f"the rule on {where} comes first and says {rule.verdict} to all that this rule names"
    return of_rule(Code.REDUNDANT_RULE, rule, message, "remove it, or move it before that rule if it does more")


def _parts(fate: Fate) -> Iterator[Finding]:
    rule = fate.rule
    unheeded = fate.unheeded if len(rule.targets) <= LIST else []
    if unheeded:
        message = f"this {rule.verdict} does not hold for {some(unheeded)}: the rule on"
        message += f" {first_lines(fate.weaker, rule)} comes first and says {fate.weaker[0].verdict}"
        yield of_rule(Code.TARGET_NOT_REFUSED, rule, message, "move it before that rule; the first match decides")
    skipped = set(unheeded)
    decided = [target for target in fate.needless if target not in skipped]
    if decided:
        message = f"earlier rules decide already about {some(decided)}"
        yield of_rule(
            Code.TARGET_DECIDED_ALREADY, rule, message, "remove it here, if that is not meant as an exception"
        )
    if fate.repeated:
        message = f"another target of this rule names {some(fate.repeated)} already"
        yield of_rule(Code.TARGET_DECIDED_ALREADY, rule, message, "remove it")


def _same(one: Rule, other: Rule) -> bool:
    plain = replace(other, file=one.file, line=one.line, name=one.name, targets=one.targets)
    return plain == one and set(one.targets) == set(other.targets)
