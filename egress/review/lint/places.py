"""Targets as places, and two indexes over them, so that no rule is compared with every other.

- `Covering`: which earlier rules name all that a target names.
- `Reach`: in which regions any of some rules could name a part of what a target names.

A target is taken apart into places that an index holds or does not hold as a whole: `.example.com` is a name and what
is below it, `**` is every name and (in a deny or ask) every address.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, auto
from typing import TYPE_CHECKING, Final, NamedTuple, assert_never

from egress.policy import AnyTarget, HostTarget, NetworkTarget, Target, Verdict
from egress.review.lint.covering import STRICTNESS, Shape, conditions_cover
from egress.review.lint.region import Regions, View, may_speak, must_stop, unite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.policy import Network, Rule

# How many rules of one place a rule is compared with; further ones are not looked at.
MOST_COMPARED: Final = 100

_NONE: Final[frozenset[int]] = frozenset()
_NO_COVERS: Final[list[Cover]] = []


class Kind(IntEnum):
    """What a place is: a name, all names below one, any name, any address, or an address or range."""

    NAME = auto()
    BELOW = auto()
    ANY_NAME = auto()
    ANY_ADDRESS = auto()
    RANGE = auto()


class Place(NamedTuple):
    """A part of a target. `name` for names, `network` for ranges."""

    kind: Kind
    name: str = ""
    network: Network | None = None


@dataclass(slots=True, eq=False)
class Cover:
    """A rule at a place: its number in the scope, the regions in which it speaks, and the ports that those hold.

    `stops`: it speaks about every request there, whatever that turns out to be.
    """

    order: int
    shape: Shape
    regions: Regions
    first: int
    last: int
    stops: bool


type Covers = Cover | list[Cover]


def make_cover(order: int, shape: Shape, port: int | None) -> Cover:
    """A rule at the places of its targets with this port of their own."""
    regions = may_speak(shape.rule, port)
    known = regions[View.KNOWN]
    first, last = (known[0][0], known[-1][1]) if known else (0, 0)
    return Cover(order, shape, regions, first, last, must_stop(shape.rule, known))


def places_of(target: Target, verdict: Verdict) -> tuple[Place, ...]:
    """The places that a target of a rule of this verdict names."""
    match target.what:
        case HostTarget(name, exact, below):
            if exact and below:
                return (Place(Kind.NAME, name), Place(Kind.BELOW, name))
            return (Place(Kind.NAME if exact else Kind.BELOW, name),)
        case AnyTarget():
            names = Place(Kind.ANY_NAME)
            return (names,) if verdict is Verdict.ALLOW else (names, Place(Kind.ANY_ADDRESS))
        case NetworkTarget(network):
            return (Place(Kind.RANGE, network=network),)
        case _:
            assert_never(target.what)


def parents(name: str) -> Iterator[str]:
    """Each name that this one is below, the nearest first."""
    dot = name.find(".")
    while dot >= 0:
        yield name[dot + 1 :]
        dot = name.find(".", dot + 1)


@dataclass(slots=True)
class Covering:
    """The rules seen so far, by the place that they name.

    `crowded` are the numbers of those that were not compared with all the others at a place.
    """

    filled: bool = False
    _names: dict[str, Covers] = field(default_factory=dict)
    _below: dict[str, Covers] = field(default_factory=dict)
    _any_name: list[Cover] = field(default_factory=list)
    _any_address: list[Cover] = field(default_factory=list)
    _ranges: dict[tuple[int, int], dict[int, Covers]] = field(default_factory=dict)
    crowded: set[int] = field(default_factory=set)

    def add(self, place: Place, cover: Cover) -> None:
        """Add a rule at a place. Those without conditions stand first, since they cover most."""
        self.filled = True
        match place.kind:
            case Kind.NAME:
                _add(self._names, place.name, cover)
            case Kind.BELOW:
                _add(self._below, place.name, cover)
            case Kind.ANY_NAME:
                _insert(self._any_name, cover)
            case Kind.ANY_ADDRESS:
                _insert(self._any_address, cover)
            case Kind.RANGE:
                version, length, value = _key(place)
                _add(self._ranges.setdefault((version, length), {}), value, cover)
            case _:
                assert_never(place.kind)

    def holding(self, place: Place, own: Cover) -> Iterator[Cover]:
        """The rules that name all of the place, and whose conditions hold wherever those of `own` do."""
        for covers in self._lists_around(place, own.shape.verdict):
            several = covers if isinstance(covers, list) else (covers,)
            if len(several) > MOST_COMPARED:
                self.crowded.add(own.order)
            for cover in several[:MOST_COMPARED]:
                if cover.first <= own.last and own.first <= cover.last and _speaks_for(cover.shape, own.shape, place):
                    yield cover

    def _lists_around(self, place: Place, verdict: Verdict) -> Iterator[Covers]:
        match place.kind:
            case Kind.NAME | Kind.BELOW:
                own = self._names if place.kind is Kind.NAME else self._below
                yield own.get(place.name, _NO_COVERS)
                if self._below:
                    for parent in parents(place.name):
                        yield self._below.get(parent, _NO_COVERS)
                yield self._any_name
            case Kind.ANY_NAME:
                yield self._any_name
            case Kind.ANY_ADDRESS:
                yield self._any_address
            case Kind.RANGE:
                yield from self._ranges_around(place)
                if verdict is Verdict.ALLOW:
                    yield self._any_address
            case _:
                assert_never(place.kind)

    def _ranges_around(self, place: Place) -> Iterator[Covers]:
        version, length, value = _key(place)
        for (known, outer), table in self._ranges.items():
            if known == version and outer <= length:
                yield table.get(value >> (length - outer), _NO_COVERS)


@dataclass(slots=True)
class Reach:
    """Where any of some rules could speak, by place. Filled first, then asked."""

    _regions: list[Regions] = field(default_factory=list)
    _numbers: dict[Regions, int] = field(default_factory=dict)
    _names: dict[str, set[int]] = field(default_factory=dict)
    _below: dict[str, set[int]] = field(default_factory=dict)
    _under: dict[str, set[int]] = field(default_factory=dict)
    _any_name: set[int] = field(default_factory=set)
    _every_name: set[int] = field(default_factory=set)
    _every_address: set[int] = field(default_factory=set)
    _found: dict[frozenset[int], Regions] = field(default_factory=dict)

    def add(self, rule: Rule) -> None:
        """Add a rule with all its targets."""
        numbers = {port: self._number(may_speak(rule, port)) for port in {target.port for target in rule.targets}}
        for target in rule.targets:
            for place in places_of(target, rule.verdict):
                self._add(place, numbers[target.port])

    def at(self, place: Place) -> Regions:
        """Where rules could speak about a part of the place, for each view. Any address is as near as every other."""
        met = frozenset(self._meeting(place))
        found = self._found.get(met)
        if found is None:
            each = [self._regions[number] for number in met]
            known, opaque, odd_path, odd_method, odd_both = (unite(regions[view] for regions in each) for view in View)
            found = self._found[met] = (known, opaque, odd_path, odd_method, odd_both)
        return found

    def _number(self, regions: Regions) -> int:
        number = self._numbers.setdefault(regions, len(self._regions))
        if number == len(self._regions):
            self._regions.append(regions)
        return number

    def _add(self, place: Place, number: int) -> None:
        if place.kind in {Kind.RANGE, Kind.ANY_ADDRESS}:
            self._every_address.add(number)
            return
        self._every_name.add(number)
        if place.kind is Kind.ANY_NAME:
            self._any_name.add(number)
            return
        own = self._names if place.kind is Kind.NAME else self._below
        own.setdefault(place.name, set()).add(number)
        for parent in parents(place.name):
            self._under.setdefault(parent, set()).add(number)

    def _meeting(self, place: Place) -> set[int]:
        match place.kind:
            case Kind.ANY_NAME:
                return self._every_name
            case Kind.ANY_ADDRESS | Kind.RANGE:
                return self._every_address
            case Kind.NAME | Kind.BELOW:
                met = set(self._any_name)
                if self._below:
                    for parent in parents(place.name):
                        met |= self._below.get(parent, _NONE)
                if place.kind is Kind.NAME:
                    return met | self._names.get(place.name, _NONE)
                return met | self._below.get(place.name, _NONE) | self._under.get(place.name, _NONE)
            case _:
                assert_never(place.kind)


def _add[Key](table: dict[Key, Covers], key: Key, cover: Cover) -> None:
    # Most places are named once: a list for each of them would be most of the memory.
    known = table.setdefault(key, cover)
    if known is not cover:
        table[key] = _insert(known if isinstance(known, list) else [known], cover)


def _insert(covers: list[Cover], cover: Cover) -> list[Cover]:
    if cover.shape.plain:
        covers.insert(0, cover)
    else:
        covers.append(cover)
    return covers


def _speaks_for(outer: Shape, inner: Shape, place: Place) -> bool:
    """Whether `outer`, which comes first, speaks wherever `inner` would.

    A deny or ask of a range also holds for what a name resolves to, wherever it stands, and there a deny comes before
    an ask: only a range that refuses as strictly does the same, and `**`, which names no address of a name, does not.
    """
    if place.kind is Kind.RANGE and STRICTNESS[outer.verdict] < STRICTNESS[inner.verdict]:
        return False
    return conditions_cover(outer, inner)


def _key(place: Place) -> tuple[int, int, int]:
    network = place.network
    if network is None:
        raise AssertionError("a place of the kind RANGE has a network")
    return (
        network.version,
        network.prefixlen,
        int(network.network_address) >> (network.max_prefixlen - network.prefixlen),
    )
