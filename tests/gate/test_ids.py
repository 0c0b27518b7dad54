"""Decision ids: unique, in the order of time, of an alphabet that nothing has to escape."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from egress.gate.ids import new_decision_id

ALPHABET = frozenset("0123456789abcdefghjkmnpqrstvwxyz")
TIMES = st.integers(min_value=0, max_value=2**48 - 1)


@given(TIMES)
def test_an_id_is_26_characters_of_the_alphabet(moment: int) -> None:
    """No letter that is misread, nothing that a header, a file name or a URL would escape."""
    made = new_decision_id(time_ms=moment)
    assert len(made) == 26
    assert set(made) <= ALPHABET


@given(TIMES, TIMES)
def test_ids_sort_by_time(first: int, second: int) -> None:
    """Text order is time order, to the millisecond."""
    if first != second:
        earlier, later = sorted((first, second))
        assert new_decision_id(time_ms=earlier) < new_decision_id(time_ms=later)


def test_ids_are_unique_within_a_millisecond() -> None:
    """The random part tells apart what the clock cannot."""
    assert len({new_decision_id(time_ms=1) for _ in range(10_000)}) == 10_000


def test_an_id_of_now_is_later_than_one_of_a_second_ago() -> None:
    """Without a given time, the clock is the wall's."""
    import time

    assert new_decision_id() > new_decision_id(time_ms=time.time_ns() // 1_000_000 - 1000)
