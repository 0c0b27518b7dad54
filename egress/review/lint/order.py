"""Rules that never speak, because of an earlier rule of their scope.

Within a scope the first rule that matches speaks. So a rule is needless where others that come first speak about all
that it names: about every place, in every region and view. What no rule of any scope could let pass need not be spoken
for: there a deny or ask changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from egress.policy import HostTarget, Mode, Target, Verdict
from egress.review.lint.covering import STRICTNESS, Shape, carries_alike, make_shape
from egress.review.lint.places import Cover, Covering, Kind, Place, Reach, make_cover, parents, places_of
from egress.review.lint.region import EVERYWHERE, NOWHERE, Regions, View, demands, intersect, subtract

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from egress.policy import Rule, ScopeRules


@dataclass(slots=True)
class Fate:
    """What becomes of one rule: which of its targets never speak, and which rules speak in their place.

    `nowhere` are the targets of a deny that no rule could let pass; `repeated` those that the rule itself names
    in another of its targets. `crowded`: it was not compared with every earlier rule of its places.
    """

    rule: Rule
    needless: list[Target] = field(default_factory=list)
    blockers: dict[int, Shape] = field(default_factory=dict)
    unheeded: list[Target] = field(default_factory=list)
    nowhere: list[Target] = field(default_factory=list)
    repeated: list[Target] = field(default_factory=list)
    crowded: bool = False

    @property
    def by(self) -> tuple[Rule, ...]:
        """The rules that speak in its place, in the order of the file."""
        return tuple(shape.rule for _, shape in sorted(self.blockers.items()))

    @property
    def weaker(self) -> tuple[Rule, ...]:
        """Those of them that are less strict than the rule."""
        return tuple(rule for rule in self.by if STRICTNESS[rule.verdict] < STRICTNESS[self.rule.verdict])


def fates(scopes: Sequence[ScopeRules]) -> Iterator[Fate]:
    """The fate of every rule, scope by scope, in order."""
    passing = Passing(scopes)
    for scope in scopes:
        covering = Covering()
        for order, rule in enumerate(scope.rules):
            yield _fate(order, make_shape(rule, scope.tls), covering, passing)


class Passing:
    """Where any scope could say something less strict than a rule: that which the rule keeps from passing.

    A scope in report mode lets pass whatever it would refuse, so where there is one everything counts.
    """

    def __init__(self, scopes: Sequence[ScopeRules]) -> None:
        rules = [rule for scope in scopes for rule in scope.rules]
        defaults = [scope.default for scope in scopes if scope.default is not None]
        self._reach: dict[Verdict, Reach] = {}
        self._by_default: dict[Verdict, bool] = {}
        reports = any(scope.mode is Mode.REPORT for scope in scopes)
        for verdict in {rule.verdict for rule in rules} - {Verdict.ALLOW}:
            strictness = STRICTNESS[verdict]
            self._by_default[verdict] = reports or any(STRICTNESS[default] < strictness for default in defaults)
            reach = self._reach[verdict] = Reach()
            for rule in rules:
                if STRICTNESS[rule.verdict] < strictness:
                    reach.add(rule)

    def at(self, place: Place, verdict: Verdict) -> Regions:
        """Where something could pass that a rule of this verdict would refuse."""
        if verdict is Verdict.ALLOW or place.kind is Kind.RANGE or self._by_default[verdict]:
            return EVERYWHERE
        return self._reach[verdict].at(place)


def _fate(order: int, shape: Shape, covering: Covering, passing: Passing) -> Fate:
    rule = shape.rule
    fate = Fate(rule)
    asked: dict[int | None, tuple[Regions, Cover]] = {}
    own = _Own()
    live: list[tuple[Place, Cover]] = []
    for target in rule.targets:
        if target.port not in asked:
            asked[target.port] = demands(rule, target.port), make_cover(order, shape, target.port)
        wanted, cover = asked[target.port]
        places = places_of(target, rule.verdict)
        if own.repeats(target, places):
            fate.repeated.append(target)
            continue
        spoken = _spoken_for(places, wanted, cover, covering, passing)
        if spoken is None:
            fate.nowhere.append(target)
        elif spoken:
            _note(fate, target, spoken)
        if not spoken:
            live += [(place, cover) for place in places]
    for place, cover in live:
        covering.add(place, cover)
    fate.crowded = order in covering.crowded
    return fate


def _note(fate: Fate, target: Target, spoken: Sequence[Cover]) -> None:
    fate.needless.append(target)
    for cover in spoken:
        fate.blockers.setdefault(cover.order, cover.shape)
    if any(STRICTNESS[cover.shape.verdict] < STRICTNESS[fate.rule.verdict] for cover in spoken):
        fate.unheeded.append(target)


def _spoken_for(
    places: Sequence[Place], wanted: Regions, own: Cover, covering: Covering, passing: Passing
) -> list[Cover] | None:
    """The rules that together speak about all places; none if something is left; None if nothing could pass there."""
    verdict = own.shape.verdict
    limited = [(place, _both(wanted, passing.at(place, verdict))) for place in places]
    limited = [(place, left) for place, left in limited if left != NOWHERE]
    if not limited and verdict is Verdict.DENY:
        return None
    whole = [(place, wanted) for place in places]
    spoken = _speaking(limited or whole, own, covering)
    # An ask is a way to pass itself: where nothing that lets pass comes before it, all of it counts.
    if verdict is Verdict.ASK and not any(_is_weaker(cover.shape, own.shape) for cover in spoken):
        return _speaking(whole, own, covering)
    return spoken


def _is_weaker(one: Shape, other: Shape) -> bool:
    return STRICTNESS[one.verdict] < STRICTNESS[other.verdict]


def _speaking(wanted: Sequence[tuple[Place, Regions]], own: Cover, covering: Covering) -> list[Cover]:
    if not covering.filled:
        return []
    used: list[Cover] = []
    for place, regions in wanted:
        left = regions
        for cover in covering.holding(place, own):
            rest = _without(left, cover, own.shape)
            if rest != left:
                used.append(cover)
                left = rest
            if left == NOWHERE:
                break
        if left != NOWHERE:
            return []
    return used


def _both(one: Regions, other: Regions) -> Regions:
    return one if other is EVERYWHERE else _intersected(one, other)


@lru_cache(maxsize=4_096)
def _intersected(one: Regions, other: Regions) -> Regions:
    known, opaque, odd_path, odd_method, odd_both = (intersect(one[view], other[view]) for view in View)
    return (known, opaque, odd_path, odd_method, odd_both)


def _without(left: Regions, cover: Cover, shape: Shape) -> Regions:
    speaks = cover.regions
    if cover.shape.verdict is shape.verdict and not cover.stops and not carries_alike(cover.shape, shape):
        return left
    return _subtracted(left, speaks)


@lru_cache(maxsize=4_096)
def _subtracted(left: Regions, speaks: Regions) -> Regions:
    known, opaque, odd_path, odd_method, odd_both = (subtract(left[view], speaks[view]) for view in View)
    return (known, opaque, odd_path, odd_method, odd_both)


class _Own:
    """The places that one rule has named so far, each with its port."""

    def __init__(self) -> None:
        self._names: set[tuple[str, int | None]] = set()
        self._below: set[tuple[str, int | None]] = set()
        self._others: set[tuple[Place, int | None]] = set()

    def repeats(self, target: Target, places: Sequence[Place]) -> bool:
        """Whether the rule named all of this already; remembers it."""
        what, port = target.what, target.port
        if not isinstance(what, HostTarget):
            repeated = all((place, port) in self._others for place in places)
            self._others.update((place, port) for place in places)
            return repeated
        key = what.name, port
        above = bool(self._below) and any((parent, port) in self._below for parent in parents(what.name))
        repeated = above or ((not what.exact or key in self._names) and (not what.below or key in self._below))
        if what.exact:
            self._names.add(key)
        if what.below:
            self._below.add(key)
        return repeated
