"""Rows: what events have in common is made once, and is never another event's."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.audit import DecisionEvent, OutcomeEvent
from egress.audit.row import COLUMNS, DECISIONS, INTEGERS, OUTCOMES, decision_row, outcome_row, packed, unpacked
from egress.audit.text import storable

WORDS = st.sampled_from(["", "GET", "example.com", "\x1b[31m", "\u202e", "\ud800", "é" * 200, "x" * 3000, "***"])
NUMBERS = st.sampled_from([0, 1, 443, 2**63, -(2**70), 2**63 - 1])
LONGER = {
    "sandbox": 512,
    "rule": 512,
    "file": 2048,
    "host": 512,
    "path": 2048,
    "query": 2048,
    "sni": 512,
    "labels": 2048,
    "rewritten": 2048,
    "trace": 2048,
} | {
    "detail": 512,
    "error": 512,
}
REQUIRED = {"id", "sandbox", "client", "verdict", "reason"}


def values(table: str) -> st.SearchStrategy[dict[str, object]]:
    """Values for every column but `secrets`."""
    kinds: dict[str, st.SearchStrategy[object]] = {}
    for column in COLUMNS[table]:
        kind: st.SearchStrategy[object] = NUMBERS if column in INTEGERS else WORDS
        optional = column not in REQUIRED and column != "time_us"
        kinds[column] = kind | st.none() if optional else kind
    kinds.pop("secrets", None)
    return st.fixed_dictionaries(kinds)


def fitted(column: str, value: object) -> object:
    """The value as its column stores it."""
    if value is None:
        return None
    if isinstance(value, int):
        return min(max(value, -(2**63)), 2**63 - 1)
    return storable(str(value), LONGER.get(column, 128))


@given(st.lists(values(DECISIONS), min_size=1, max_size=4))
def test_each_value_of_a_decision_is_stored_in_its_own_column(events: list[dict[str, object]]) -> None:
    """Whatever other decisions had in common with it; each twice."""
    for _ in range(2):
        for given_values in events:
            row = decision_row(DecisionEvent(**given_values, secrets=("one", "\x00")))  # type: ignore[arg-type]
            stored = dict(zip(COLUMNS[DECISIONS], row, strict=True))
            assert stored.pop("secrets") == '["one", "\\\\x00"]'
            assert stored == {column: fitted(column, value) for column, value in given_values.items()}


@given(values(OUTCOMES))
def test_each_value_of_an_outcome_is_stored_in_its_own_column(given_values: dict[str, object]) -> None:
    """Within the limits of its column."""
    stored = dict(zip(COLUMNS[OUTCOMES], outcome_row(OutcomeEvent(**given_values)), strict=True))  # type: ignore[arg-type]
    assert stored == {column: fitted(column, value) for column, value in given_values.items()}


def test_a_value_that_cannot_be_looked_up_is_stored_all_the_same() -> None:
    """Making a row never fails: a list where a tuple belongs is no reason to lose a decision."""
    event = DecisionEvent(
        id="1",
        time_us=1,
        sandbox="s",
        client="c",
        verdict="deny",
        reason="r",
        secrets=["one"],  # type: ignore[arg-type]
    )
    assert decision_row(event)[COLUMNS[DECISIONS].index("secrets")] == '["one"]'


@pytest.mark.parametrize("number", [True, HTTPStatus.FORBIDDEN])
def test_a_number_of_another_kind_is_a_number(number: int) -> None:
    """As the database gives it back: packed as it is, it would have another hash, or none."""
    asked = DecisionEvent(id="1", time_us=1, sandbox="s", client="c", verdict="deny", reason="r", port=number)
    ended = OutcomeEvent(id="1", time_us=1, status=number)
    for table, row in ((DECISIONS, decision_row(asked)), (OUTCOMES, outcome_row(ended))):
        assert unpacked(packed(table, row)) == (table, row)
        assert {type(value) for value in row} == {str, int, type(None)}
