"""Replaying a record: what would change, counted, and what cannot be asked again."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from egress.config import LoadedPolicy, PolicySource, load_policy
from egress.policy import Sandbox, Scope
from egress.review import Recorded, replay
from egress.review import replay as replay_function

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GET = Recorded("GET", "https", "https", "api.example.com", 443, "/v1", "agent", None)


def written(tmp_path: Path, rules: str, name: str) -> LoadedPolicy:
    """A policy of these rules."""
    path = tmp_path / name
    path.write_text(f"version: 1\nrules:\n{rules}")
    return load_policy([PolicySource(Scope.SANDBOX, path)])


CHANGES = [
    # old, new, row, kind and example
    (
        "  - allow: api.example.com\n",
        "  - {allow: api.example.com, methods: [POST]}\n",
        GET,
        ("newly denied", "GET https://api.example.com/v1"),
    ),
    ("  - deny: x.test\n", "  - allow: api.example.com\n", GET, ("newly allowed", "GET https://api.example.com/v1")),
    ("  - allow: api.example.com\n", "  - {allow: api.example.com, methods: [GET]}\n", GET, None),
    # refused at the CONNECT: what it would have asked for is not known
    (
        "  - deny: x.test\n",
        "  - {allow: api.example.com, methods: [GET]}\n",
        replace(GET, method=None, path=None),
        ("now depends on the request", "https://api.example.com"),
    ),
    (
        "  - deny: x.test\n",
        "  - allow: api.example.com\n",
        replace(GET, method=None, path=None),
        ("newly allowed", "https://api.example.com"),
    ),
    # a tunnel that would be opened
    (
        "  - {allow: api.example.com, tls: tunnel}\n",
        "  - allow: api.example.com\n",
        replace(GET, method=None, path=None),
        ("TLS carried otherwise", "https://api.example.com"),
    ),
    (
        "  - {allow: api.example.com:5432, protocol: tcp}\n",
        "  - deny: x.test\n",
        Recorded(None, None, "tcp", "api.example.com", 5432, None, "agent", None),
        ("newly denied", "tcp://api.example.com:5432"),
    ),
    (
        "  - {allow: api.example.com, protocol: [https, wss]}\n",
        "  - {allow: api.example.com, protocol: https}\n",
        replace(GET, protocol="wss"),
        ("newly denied", "GET wss://api.example.com/v1"),
    ),
    # by the address that was dialled
    (
        "  - allow: api.example.com\n",
        "  - deny: 93.184.0.0/16\n  - allow: api.example.com\n",
        replace(GET, address="93.184.216.34"),
        ("newly denied", "GET https://api.example.com/v1, resolving to 93.184.216.34"),
    ),
    # a row of another program's, without the protocol
    (
        "  - allow: api.example.com\n",
        "  - deny: x.test\n",
        replace(GET, protocol=None),
        ("newly denied", "GET https://api.example.com/v1"),
    ),
]


@pytest.mark.parametrize(("old", "new", "row", "expected"), CHANGES)
def test_each_recorded_decision_is_asked_of_both(
    tmp_path: Path, old: str, new: str, row: Recorded, expected: tuple[str, str] | None
) -> None:
    """One row, and the group that it makes."""
    found = replay([row], written(tmp_path, old, "old.yaml"), written(tmp_path, new, "new.yaml"))
    assert (found.asked, found.unread) == (1, 0)
    groups = [(group.kind.value, group.example) for group in found.changes.in_order()]
    assert groups == ([] if expected is None else [expected])
    assert found.same == (expected is None)


UNREAD = [
    replace(GET, host=None),
    replace(GET, host="a..example.com"),
    replace(GET, host="\\x1b[2J"),
    replace(GET, port=None),
    replace(GET, port=0),
    replace(GET, port=99_999),
    replace(GET, protocol=None, scheme=None),
    replace(GET, protocol="quic", scheme=None),
    replace(GET, path="/aaa…[+3000]"),
    replace(GET, method="AAA…[+3000]"),
]


@pytest.mark.parametrize("row", UNREAD)
def test_what_cannot_be_read_again_is_counted_and_never_guessed(tmp_path: Path, row: Recorded) -> None:
    """Refused unread, stored cut, or written by something else."""
    old, new = (
        written(tmp_path, "  - allow: api.example.com\n", "old.yaml"),
        written(tmp_path, "  - deny: '**'\n", "new.yaml"),
    )
    found = replay([replace(row, count=7)], old, new)
    assert (found.asked, found.unread, found.same) == (0, 7, True)


def test_rows_are_counted_by_the_rules_that_spoke(tmp_path: Path) -> None:
    """Counts of the record, not of the distinct requests."""
    old = written(tmp_path, "  - {name: a, allow: [api.example.com, b.test]}\n", "old.yaml")
    new = written(tmp_path, "  - {name: a, allow: b.test}\n", "new.yaml")
    rows = [
        replace(GET, count=3),
        replace(GET, path="/v2", count=4),
        replace(GET, host="b.test", count=9),
        replace(GET, count=1),
    ]
    found = replay(rows, old, new)
    (group,) = found.changes.in_order()
    assert (group.requests, found.asked) == (8, 17)
    assert group.old.startswith("allow, a, ")
    assert group.new == "deny, no rule (host-not-allowed)"


def test_memory_does_not_grow_with_the_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Rows are taken as they come, and what is remembered of them is bounded."""
    monkeypatch.setattr(import_module("egress.review.replay"), "_REMEMBERED_AT_MOST", 3)
    old, new = (
        written(tmp_path, "  - allow: api.example.com\n", "old.yaml"),
        written(tmp_path, "  - deny: x.test\n", "new.yaml"),
    )
    seen: list[int] = []

    def rows() -> Iterator[Recorded]:
        for number in range(50):
            seen.append(number)
            yield replace(GET, path=f"/{number % 10}")

    found = replay_function(rows(), old, new)
    assert len(seen) == 50
    (group,) = found.changes.in_order()
    assert group.requests == 50


OF_ONE = "  - {allow: api.example.com, sandboxes: [agent], methods: [GET]}\n"
OF_LABEL = '  - deny: "${sandbox.label.team}.example.com"\n  - allow: api.example.com\n'


def test_a_connect_is_asked_of_the_policy_of_its_sandbox(tmp_path: Path) -> None:
    """A rule for the sandbox that asked is one that stands there; for another it is none."""
    connect = replace(GET, method=None, path=None)
    old, new = written(tmp_path, "  - deny: x.test\n", "old.yaml"), written(tmp_path, OF_ONE, "new.yaml")
    for sandbox, kinds in (("agent", ["now depends on the request"]), ("other", [])):
        found = replay([replace(connect, sandbox=sandbox)], old, new)
        assert [group.kind.value for group in found.changes.in_order()] == kinds


def test_what_a_sandbox_of_unknown_labels_asked_is_not_guessed(tmp_path: Path) -> None:
    """A denial that cannot be written out for it says nothing; one whose labels are known is asked."""
    old, new = written(tmp_path, "  - deny: x.test\n", "old.yaml"), written(tmp_path, OF_LABEL, "new.yaml")
    found = replay([GET], old, new)
    assert (found.asked, found.unread, found.same) == (0, 1, True)
    known = replace(new, sandboxes={"agent": Sandbox("agent", (("team", "web"),))})
    found = replay([GET], old, known)
    assert (found.asked, found.unread, found.same) == (1, 0, False)
