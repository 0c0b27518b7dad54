"""The keys under which rules' limits are counted: what was spent must not be forgotten when a policy is read anew.

A rule with a name is known by its scope, file and name; one without, by what it says besides its limits, its labels
and its line. Rules that are alike in that are told apart by their order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from egress.policy.values import Rule
    from egress.policy.vocabulary import Scope

# What may change without making it another rule.
_APART: Final = frozenset({"file", "line", "name", "limits", "annotate"})


class LimitKeys:
    """Gives each rule of one policy its key, in the order of the rules."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def key(self, scope: Scope, rule: Rule) -> str:
        """The key of one more rule."""
        known_by = f"name {rule.name}" if rule.name is not None else f"content {_digest(rule)}"
        key = f"{scope.value} {rule.file} {known_by}"
        self._seen[key] += 1
        return key if self._seen[key] == 1 else f"{key} #{self._seen[key]}"


def _digest(rule: Rule) -> str:
    said = [_plain(getattr(rule, field.name)) for field in fields(rule) if field.name not in _APART]
    return sha256(repr(said).encode()).hexdigest()[:32]


def _plain(value: object) -> object:
    # The order of a set differs from one process to the next.
    return sorted(map(str, value)) if isinstance(value, frozenset) else value
