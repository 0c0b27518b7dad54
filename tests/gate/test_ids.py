"""Decision ids: unique, in the order of time, of an alphabet that nothing has to escape."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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


def test_every_digit_of_the_random_part_takes_every_value() -> None:
    """80 bits, all of them: 16 digits of 5 bits each, none of which leans to one side."""
    ends = [new_decision_id(time_ms=1)[10:] for _ in range(4096)]
    for place in range(16):
        seen = [end[place] for end in ends]
        assert set(seen) == ALPHABET
        assert max(seen.count(digit) for digit in ALPHABET) < 4096 / 32 * 2


def test_the_time_is_in_the_first_ten_digits() -> None:
    """As 48 bits of milliseconds, most significant first."""
    digits = "0123456789abcdefghjkmnpqrstvwxyz"
    for moment in (0, 31, 32, 1_700_000_000_000, 2**48 - 1):
        made = new_decision_id(time_ms=moment)
        assert sum(digits.index(digit) << 5 * (9 - place) for place, digit in enumerate(made[:10])) == moment


def test_ids_are_unique_over_threads() -> None:
    """What was made in advance is given to one thread only."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: [new_decision_id(time_ms=1) for _ in range(2000)], range(8)))
    assert len({one for ids in made for one in ids}) == 16_000


FORK = """
import os
from egress.gate.ids import new_decision_id
new_decision_id()
if os.fork():
    os.wait()
print(*(new_decision_id(time_ms=1) for _ in range(300)), flush=True)
"""


def test_a_forked_process_makes_ids_of_its_own() -> None:
    """What the parent made in advance is the parent's."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=True, cwd=root
    )
    made = done.stdout.split()
    assert len(made) == 600
    assert len(set(made)) == 600
