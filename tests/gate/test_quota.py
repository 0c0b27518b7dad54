"""Counting under the limits of rules: never above over any stretch of time, hardly below, nothing kept for ever."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.gate.quota import KEYS_AT_MOST, Over, Quotas, Way, for_sandbox
from egress.gate.windows import SLOTS, Window
from egress.policy import Rate, Reason, RuleLimits

KEY = "sandbox policy.yaml name a"
STEPS = st.floats(0, 3, allow_nan=False)


def admitted(limits: RuleLimits, steps: list[float]) -> list[float]:
    """The moments at which a request was admitted, of those asked for."""
    quotas, now, passed = Quotas(), 1000.0, []
    for step in steps:
        now += step
        if quotas.admit("", ((KEY, limits),), now) is None:
            passed.append(now)
    return passed


def most_within(moments: list[float], seconds: float) -> int:
    """The most of them in any stretch of so many seconds, its end not counted."""
    return max((bisect_right(moments, start + seconds - 1e-9) - at for at, start in enumerate(moments)), default=0)


@given(st.integers(1, 8), st.sampled_from([1, 5, 60]), st.lists(STEPS, max_size=120))
def test_a_rate_is_never_exceeded_over_any_stretch_of_its_unit(count: int, seconds: int, steps: list[float]) -> None:
    """Wherever the stretch begins, not only from one full unit to the next."""
    passed = admitted(RuleLimits(requests=Rate(count, seconds)), steps)
    assert most_within(passed, seconds) <= count


@given(st.integers(1, 8), st.integers(1, 20), st.lists(STEPS, max_size=120))
def test_a_burst_and_its_refill_are_never_exceeded(count: int, burst: int, steps: list[float]) -> None:
    """In any stretch no more than the burst and what the stretch refills."""
    passed = admitted(RuleLimits(requests=Rate(count, 5), burst=burst), steps)
    for length in (0.0, 1.0, 5.0, 17.0):
        assert most_within(passed, length + 1e-6) <= burst + count / 5 * length + 1e-3


@pytest.mark.parametrize("burst", [None, 10])
def test_who_asks_all_the_time_gets_hardly_less_than_the_rate(burst: int | None) -> None:
    """At least 95% of it."""
    limits = RuleLimits(requests=Rate(100, 60), burst=burst)
    passed = admitted(limits, [0.05] * int(3600 / 0.05))
    assert len(passed) >= 0.95 * 100 * 60


@given(st.lists(st.tuples(STEPS, st.integers(1, 400)), max_size=100))
def test_bytes_are_never_exceeded_over_any_stretch(asked: list[tuple[float, int]]) -> None:
    """What was granted in any stretch of the unit is at most the limit, and all of it can be had."""
    limits = RuleLimits(upload=Rate(1000, 10))
    quotas, now, granted = Quotas(), 50.0, []
    for step, wanted in asked:
        now += step
        granted.append((now, quotas.take(KEY, limits, Way.UPLOAD, wanted, now)))
    for start, _ in granted:
        assert sum(count for at, count in granted if start <= at < start + 10 - 1e-9) <= 1000


@given(st.lists(st.tuples(STEPS, st.integers(1, 400), st.integers(0, 400)), max_size=60))
def test_what_is_given_back_is_never_forgotten_too_early(asked: list[tuple[float, int, int]]) -> None:
    """Bytes that passed in any stretch are at most the limit, also where some that were granted came back."""
    limits = RuleLimits(download=Rate(1000, 10))
    quotas, now, passed = Quotas(), 50.0, []
    for step, wanted, back in asked:
        now += step
        got = quotas.take(KEY, limits, Way.DOWNLOAD, wanted, now)
        quotas.give_back(KEY, limits, Way.DOWNLOAD, min(back, got))
        passed.append((now, got - min(back, got)))
    for start, _ in passed:
        assert sum(count for at, count in passed if start <= at < start + 10 - 1e-9) <= 1000


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=100))
def test_no_more_are_under_way_than_may_be(acts: list[tuple[str, bool]]) -> None:
    """Whoever holds them; a process that dies frees its own."""
    limits = ((KEY, RuleLimits(concurrent=3)),)
    quotas, open_by = Quotas(), dict.fromkeys("abc", 0)
    for holder, begins in acts:
        if begins:
            free = sum(open_by.values()) < 3
            assert (quotas.admit(holder, limits, 0.0) is None) is free
            open_by[holder] += free
        elif open_by[holder]:
            quotas.release(holder, limits)
            open_by[holder] -= 1
    quotas.gone("a")
    open_by["a"] = 0
    assert (quotas.admit("b", limits, 0.0) is None) is (sum(open_by.values()) < 3)


def test_all_limits_hold_and_a_refusal_counts_nothing() -> None:
    """Of two rules the one that is reached refuses, and nothing is taken of the other."""
    wide, narrow = ("org", RuleLimits(requests=Rate(3, 60))), ("team", RuleLimits(requests=Rate(1, 60)))
    quotas = Quotas()
    assert quotas.admit("", (wide, narrow), 0.0) is None
    for _ in range(9):
        assert quotas.admit("", (wide, narrow), 0.0) is not None
    assert [quotas.admit("", (wide,), 0.0) for _ in range(2)] == [None, None]
    assert quotas.admit("", (wide,), 0.0) is not None


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (RuleLimits(requests=Rate(1, 60)), Over(Reason.LIMIT_REQUESTS, "requests", 60 + 60 / SLOTS)),
        (RuleLimits(requests=Rate(1, 60), burst=1), Over(Reason.LIMIT_REQUESTS, "requests", 60.0)),
        (RuleLimits(concurrent=1), Over(Reason.LIMIT_REQUESTS, "concurrent")),
    ],
)
def test_a_refusal_says_when_to_come_again(limits: RuleLimits, expected: Over) -> None:
    """Then, and not before, the same is admitted."""
    quotas, keyed = Quotas(), ((KEY, limits),)
    assert quotas.admit("", keyed, 0.0) is None
    assert quotas.admit("", keyed, 0.0) == expected
    if expected.seconds is not None:
        assert quotas.admit("", keyed, expected.seconds - 0.01) is not None
        assert quotas.admit("", keyed, expected.seconds) is None


def test_a_spent_budget_refuses_new_requests_until_the_window_passes() -> None:
    """The reason names bytes, and which way."""
    limits = RuleLimits(download=Rate(100, 60))
    quotas, keyed = Quotas(), ((KEY, limits),)
    assert quotas.take(KEY, limits, Way.DOWNLOAD, 250, 0.0) == 100
    assert quotas.take(KEY, limits, Way.DOWNLOAD, 1, 0.0) == 0
    over = quotas.admit("", keyed, 30.0)
    assert over is not None
    assert (over.reason, over.limit) == (Reason.LIMIT_BYTES, "download")
    assert quotas.admit("", keyed, 30.0 + (over.seconds or 0)) is None


def test_each_sandbox_has_limits_of_its_own() -> None:
    """One that spent everything leaves another's alone."""
    limits = (("rule", RuleLimits(requests=Rate(1, 60))),)
    quotas = Quotas()
    assert [quotas.admit("", for_sandbox(name, limits), 0.0) is None for name in "aabb"] == [True, False, True, False]


def test_what_counts_for_nothing_any_more_is_forgotten() -> None:
    """A million keys over a day leave as many as one window saw."""
    limits = RuleLimits(requests=Rate(5, 60), burst=2, upload=Rate(10, 60))
    quotas = Quotas()
    for number in range(20_000):
        quotas.admit("", ((f"key {number}", limits),), number * 1.0)
    assert len(quotas) < 3000


def test_beyond_the_bound_nothing_new_is_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known goes on."""
    monkeypatch.setattr("egress.gate.quota.KEYS_AT_MOST", 3)
    assert KEYS_AT_MOST > 3
    quotas, limits = Quotas(), RuleLimits(requests=Rate(5, 3600))
    answers = [quotas.admit("", ((f"key {number}", limits),), 0.0) for number in range(5)]
    assert [over is None for over in answers] == [True, True, True, False, False]
    assert quotas.admit("", (("key 0", limits),), 0.0) is None


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 9)), max_size=40))
def test_windows_that_are_merged_count_as_one(acts: list[tuple[float, int]]) -> None:
    """Two halves of what was taken, told to a third, are the whole."""
    whole, halves, now = Window(10), (Window(10), Window(10)), 100.0
    for at, (step, units) in enumerate(acts):
        now += step
        whole.add(units, now)
        halves[at % 2].add(units, now)
    merged = Window(10)
    for half in halves:
        merged.merge(half.slots())
    assert merged.taken(now) == whole.taken(now)
    assert all(first <= second for (first, _), (second, _) in pairwise(merged.slots()))
