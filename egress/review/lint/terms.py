"""The terms of a rule that narrow it: which hold one rule to fewer requests than another.

Terms that this lint does not know count as narrowing: a rule that has one is never taken to speak for another.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Final

from egress.policy import Rule, depends_on_sandbox

if TYPE_CHECKING:
    from datetime import datetime

    from egress.policy import GraphqlCondition, McpCondition

# The fields of a rule that the lint understands, or that say nothing of which requests it speaks about.
KNOWN_TERMS: Final = frozenset(
    {
        "verdict",
        "targets",
        "file",
        "line",
        "name",
        "ports",
        "methods",
        "paths",
        "protocols",
        "tls",
        "inject",
        "remove",
        "addresses",
        "http2",
        "ignore_case",
        "query",
        "headers",
        "mcp",
        "graphql",
        "until",
        "annotate",
        "rewrite",
        "limits",
        "scrub",
        "sandboxes",
        "sign",
        "swap",
        "strip_own",
    }
)

# Every other field, and its value where a rule does not state it.
_OTHERS: Final = tuple(
    (field.name, None if field.default is MISSING else field.default)
    for field in fields(Rule)
    if field.name not in KNOWN_TERMS
)

type Pairs = tuple[tuple[str, str | None], ...]


def until(rule: Rule) -> datetime | None:
    """The moment from which the rule matches nothing."""
    return rule.until


def ignores_case(rule: Rule) -> bool:
    """Whether the rule's `paths` hold for every spelling in upper and lower case."""
    return rule.ignore_case


def query(rule: Rule) -> Pairs | None:
    """Conditions on the query; None: none."""
    return rule.query


def headers(rule: Rule) -> Pairs | None:
    """Conditions on the headers, whose names are the same in any case; None: none."""
    return None if rule.headers is None else tuple((name.lower(), pattern) for name, pattern in rule.headers)


def bodies(rule: Rule) -> tuple[McpCondition | None, GraphqlCondition | None]:
    """Conditions on the body."""
    return rule.mcp, rule.graphql


def unknown_terms(rule: Rule) -> bool:
    """Whether the rule states something that this lint does not know."""
    # A template names another host or path for each sandbox.
    return depends_on_sandbox(rule) or any(getattr(rule, name) != default for name, default in _OTHERS)


def stated_inside(rule: Rule) -> bool:
    """Whether the rule states a condition on the inside of a request besides its method and path."""
    return any(each is not None for each in (query(rule), headers(rule), *bodies(rule)))


def inside_terms(rule: Rule) -> bool:
    """Whether the rule asks for more of the inside of a request than its method and path."""
    return stated_inside(rule) or unknown_terms(rule)
