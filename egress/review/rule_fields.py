"""Which parts of a rule say something, by the name of their field, whatever fields rules have.

Who converts or places a rule must not pass over a condition that it does not know: so a field that is new here counts
as stated wherever it is not at its default.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from functools import cache
from typing import TYPE_CHECKING, Final

from egress.policy import Rule, depends_on_sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping
    from dataclasses import Field

# What every rule has, and what only people read.
_IDENTITY: Final = frozenset({"verdict", "targets", "file", "line", "name", "annotate", "origin"})
# What happens to a request that the rule allows, and how it is carried: nothing that it must meet.
_ACTIONS: Final = frozenset(
    {"tls", "inject", "remove", "swap", "strip_own", "rewrite", "sign", "addresses", "http2", "limits", "scrub"}
)


def stated(rule: Rule) -> frozenset[str]:
    """The fields of a rule that are not at their defaults, without its verdict, targets, place and name."""
    return frozenset(name for name, default in _defaults().items() if getattr(rule, name) != default)


def conditions(rule: Rule) -> frozenset[str]:
    """What a request must meet besides the rule's targets. A field that is not known here counts."""
    found = stated(rule) - _ACTIONS
    return found | {"sandboxes"} if depends_on_sandbox(rule) else found


@cache
def _defaults() -> Mapping[str, object]:
    return {field.name: _default(field) for field in fields(Rule) if field.name not in _IDENTITY}


def _default(field: Field[object]) -> object:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default
