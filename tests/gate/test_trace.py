"""What a row tells of a decision beyond its columns: each scope's say, and the headers that were changed, by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from egress.gate.record import trace_of
from egress.policy import Decision, Injection, Reason, RuleRef, Say, Scope, Verdict

if TYPE_CHECKING:
    from typing import Any

ORG = Say(Scope.ORG, Verdict.ALLOW, Reason.RULE_ALLOW, RuleRef(Scope.ORG, "/etc/org.yaml", 12, "ceiling"))
TEAM = Say(Scope.TEAM, None, Reason.HOST_NOT_ALLOWED)
SANDBOX = Say(Scope.SANDBOX, Verdict.DENY, Reason.HOST_NOT_ALLOWED)


def decision(**more: Any) -> Decision:
    """A decision in which the rest is of no account."""
    return Decision(Verdict.ALLOW, Reason.RULE_ALLOW, "", **({"says": (ORG,)} | more))


def test_one_scope_and_no_header_need_no_trace() -> None:
    """The row has the rule, its file and line already."""
    assert trace_of(decision()) is None


def test_each_scope_is_heard_where_there_are_several() -> None:
    """By rule, by default, or with nothing to say."""
    trace = json.loads(trace_of(decision(says=(ORG, TEAM, SANDBOX))) or "")
    assert trace == {
        "says": [
            {
                "scope": "org",
                "verdict": "allow",
                "reason": "rule-allow",
                "rule": "ceiling",
                "file": "/etc/org.yaml",
                "line": 12,
            },
            {"scope": "team", "reason": "host-not-allowed"},
            {"scope": "sandbox", "verdict": "deny", "reason": "host-not-allowed"},
        ]
    }


def test_headers_are_told_by_name_and_never_by_value() -> None:
    """A literal that a rule puts on may be meant for the upstream alone."""
    told = trace_of(decision(inject=(Injection("X-Key", ("literal",)),), remove=("Cookie",)))
    assert json.loads(told or "") == {"set": ["X-Key"], "removed": ["Cookie"]}
    assert "literal" not in (told or "")
