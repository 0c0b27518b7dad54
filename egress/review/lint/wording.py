"""How findings name targets and rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from egress.review.spelling import target_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.policy import Rule, Target

_SHOWN: Final = 3


def some(targets: Sequence[Target]) -> str:
    """The first few of them, in backticks, and how many more."""
    return some_of([f"`{target_text(target)}`" for target in targets[: _SHOWN + 1]], len(targets))


def some_of(texts: Sequence[str], count: int | None = None) -> str:
    """The first few of these texts, and how many more of `count` (None: of these)."""
    count = len(texts) if count is None else count
    if count <= _SHOWN:
        return ", ".join(texts)
    return f"{', '.join(texts[:_SHOWN])} and {count - _SHOWN} more"


def line_of(rule: Rule, other: Rule) -> str:
    """Where `rule` stands, as a reader of `other` would say it."""
    place = rule.file if rule.line is None else f"line {rule.line}"
    if rule.line is not None and rule.file != other.file:
        place = f"line {rule.line} of {rule.file}"
    return place


def first_lines(rules: Sequence[Rule], other: Rule) -> str:
    """Where the first of some rules stands, and that there are others."""
    place = line_of(rules[0], other)
    return place if len(rules) == 1 else f"{place} and {len(rules) - 1} other{'' if len(rules) == 2 else 's'}"  # noqa: PLR2004 -- one other
