"""A rule from a row of the audit: as narrow as the request, and never what a hostile row would make of it."""

from __future__ import annotations

import pytest

from egress.errors import EgressError
from egress.gate.ids import new_decision_id
from egress.policy import Verdict
from egress.review import DECISION_ID
from egress.review.edit import NewRule
from egress.review.row_rule import rule_for

ROW = {"host": "api.example.com", "port": 443, "protocol": "https", "method": "GET", "path": "/v1/items"}

# What is different in the row, and the rule.
RULES = (
    ({}, NewRule(Verdict.ALLOW, ("api.example.com",), ("443",), ("GET",), ("/v1/items",))),
    ({"port": 8443}, NewRule(Verdict.ALLOW, ("api.example.com",), ("8443",), ("GET",), ("/v1/items",))),
    ({"method": None, "path": None}, NewRule(Verdict.ALLOW, ("api.example.com",), ("443",))),
    ({"method": "CONNECT", "path": None}, NewRule(Verdict.ALLOW, ("api.example.com",), ("443",))),
    (
        {"protocol": "wss"},
        NewRule(Verdict.ALLOW, ("api.example.com",), ("443",), ("GET",), ("/v1/items",), ("wss",)),
    ),
    (
        {"protocol": "dns", "port": 53, "method": "TXT", "path": None},
        NewRule(Verdict.ALLOW, ("api.example.com",), protocol=("dns",)),
    ),
    *(
        (
            {"protocol": "dns", "port": 53, "method": kind, "path": None},
            NewRule(Verdict.ALLOW, ("api.example.com",)),
        )
        for kind in ("A", "AAAA", "HTTPS", "SVCB")
    ),
    (
        {"protocol": "tcp", "port": 5432, "method": None, "path": None},
        NewRule(Verdict.ALLOW, ("api.example.com",), ("5432",), protocol=("tcp",)),
    ),
    ({"host": "2001:db8::1"}, NewRule(Verdict.ALLOW, ("2001:db8::1",), ("443",), ("GET",), ("/v1/items",))),
    ({"path": "/a%20b"}, NewRule(Verdict.ALLOW, ("api.example.com",), ("443",), ("GET",), ("/a%20b",))),
)


@pytest.mark.parametrize(("changed", "rule"), RULES)
def test_a_row_gives_the_narrowest_rule(changed: dict[str, str | int | None], rule: NewRule) -> None:
    """The host itself, one port, one method, one whole path."""
    assert rule_for(ROW | changed, Verdict.ALLOW) == rule


def test_a_deny_of_a_row_is_of_its_host_and_port() -> None:
    """What is refused is the destination, not one request of it."""
    assert rule_for(ROW, Verdict.DENY) == NewRule(Verdict.DENY, ("api.example.com",), ("443",))


def test_a_deny_of_a_question_is_of_questions() -> None:
    """Whatever its type."""
    row = ROW | {"protocol": "dns", "port": 53, "method": "A", "path": None}
    assert rule_for(row, Verdict.DENY) == NewRule(Verdict.DENY, ("api.example.com",), protocol=("dns",))


# What a sandbox may have sent, or another program written.
HOSTILE = (
    {"host": None},
    {"host": "**"},
    {"host": "*.example.com"},
    {"host": ".example.com"},
    {"host": "10.0.0.0/8"},
    {"host": "a\n- allow: b"},
    {"port": None},
    {"method": "GET, POST"},
    {"method": "get"},
    {"path": "/**"},
    {"path": "/a/../b"},
    {"path": "/a//b"},
    {"path": "/a…[+9000]"},
    {"path": "//"},
)


@pytest.mark.parametrize("changed", HOSTILE)
def test_a_row_that_is_not_one_request_gives_no_rule(changed: dict[str, str | int | None]) -> None:
    """A pattern in a row would be a permission for more than was asked."""
    with pytest.raises(EgressError, match="this row"):
        rule_for(ROW | changed, Verdict.ALLOW)


def test_ids_of_decisions_are_known_and_hosts_are_not_taken_for_one() -> None:
    """An id has no dot and 26 characters."""
    assert DECISION_ID.match(new_decision_id())
    for host in ("api.example.com", "localhost", "10.0.0.0/8", "2001:db8::1", "**", "a" * 27):
        assert DECISION_ID.match(host) is None
