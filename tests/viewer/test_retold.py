"""A row told again: what each scope said and which headers were changed, also of a file that is another program's."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from egress.audit import AuditRow
from egress.viewer.retold import trace

BARE = dict.fromkeys(field.name for field in fields(AuditRow))
REQUIRED = {
    "seq": 1,
    "id": "a1",
    "time_us": 1_790_000_000_000_000,
    "state": "done",
    "sandbox": "ci",
    "client": "::1",
    "verdict": "deny",
    "reason": "rule-deny",
    "secrets": (),
    "count": 1,
}


def told(written: str | None) -> list[tuple[str, str]]:
    """The steps of a row with that trace."""
    return trace(AuditRow(**(BARE | REQUIRED | {"trace": written})))  # type: ignore[arg-type]


def test_each_scope_has_a_line() -> None:
    """Its verdict and place, its default, or that it says nothing."""
    says = [
        {"scope": "org", "verdict": "allow", "reason": "rule-allow", "rule": "ceiling", "file": "org.yaml", "line": 3},
        {"scope": "team", "verdict": "deny", "reason": "host-not-allowed"},
        {"scope": "sandbox", "reason": "host-not-allowed"},
    ]
    steps = told(json.dumps({"says": says, "set": ["X-Key"], "removed": ["Cookie", "A"]}))
    assert ("  org", "allow: ceiling, org.yaml:3") in steps
    assert ("  team", "deny, by its default") in steps
    assert ("  sandbox", "says nothing (host-not-allowed)") in steps
    assert ("headers", "set: X-Key; removed: Cookie, A") in steps


@pytest.mark.parametrize("written", [None, "", "[]", "{", '{"says": 1, "set": {}}', '{"says": [1, {}], "removed": 7}'])
def test_a_trace_of_another_form_is_left_out(written: str | None) -> None:
    """A record that somebody else wrote neither breaks the pane nor is believed."""
    assert not [step for step in told(written) if step[0] == "headers"]
