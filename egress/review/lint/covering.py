"""Whether one rule's conditions hold wherever another's do. Ports and protocols are `region`'s, targets `places`'.

"Yes" is certain; "no" may only mean that it was too much to find out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from egress.policy import PathPattern, TlsMode, Verdict, compile_path
from egress.review.lint import terms

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from egress.policy import Rule

# Above this many pairs of patterns none is looked at.
_MOST_PAIRS: Final = 10_000
STRICTNESS: Final = {Verdict.ALLOW: 0, Verdict.ASK: 1, Verdict.DENY: 2}


@dataclass(frozen=True, slots=True)
class Paths:
    """A rule's `paths`: those without a `*` as texts, the others as patterns. `readable`: every one could be read."""

    exact: frozenset[str]
    patterns: tuple[PathPattern, ...]
    readable: bool


@dataclass(slots=True, eq=False)
class Shape:
    """A rule with what comparing it needs: its verdict, the TLS mode in force, and its terms, worked out once.

    `folded` are its paths in lower case. `inside`: it states a condition on the inside of a request.
    """

    rule: Rule
    verdict: Verdict
    tls: TlsMode
    unknown: bool
    inside: bool
    until: datetime | None
    pairs: tuple[frozenset[tuple[str, str | None]] | None, ...]
    bodies: tuple[object | None, ...]
    paths: Paths | None
    folded: Paths | None
    ignores_case: bool

    @property
    def plain(self) -> bool:
        """Whether the rule has no condition but its ports and protocols."""
        return not self.inside and self.until is None


def make_shape(rule: Rule, scope_tls: TlsMode | None) -> Shape:
    """The shape of a rule whose scope states this TLS mode."""
    mode = rule.tls if rule.tls is not None else scope_tls
    folds = terms.ignores_case(rule)
    stated = (terms.query(rule), terms.headers(rule))
    return Shape(
        rule=rule,
        verdict=rule.verdict,
        tls=TlsMode.INSPECT if mode is None else mode,
        unknown=terms.unknown_terms(rule),
        inside=rule.methods is not None or rule.paths is not None or terms.inside_terms(rule),
        until=terms.until(rule),
        bodies=terms.bodies(rule),
        pairs=tuple(None if pairs is None else frozenset(pairs) for pairs in stated),
        paths=None if rule.paths is None else _read(rule.paths),
        folded=None if rule.paths is None else _read([path.lower() for path in rule.paths]),
        ignores_case=folds,
    )


def conditions_cover(outer: Shape, inner: Shape) -> bool:
    """Whether `outer`'s conditions hold on every request on which `inner`'s do."""
    if outer.unknown or not _lasts(outer.until, inner.until):
        return False
    if not outer.inside:
        return True
    mine, theirs = outer.rule.methods, inner.rule.methods
    if mine is not None and (theirs is None or not theirs <= mine):
        return False
    # On a value that is doubtful, repeated or unreadable a deny or ask holds and an allow does not.
    doubtful = outer.verdict is Verdict.ALLOW and inner.verdict is not Verdict.ALLOW
    for stated, other in zip(outer.pairs, inner.pairs, strict=True):
        if stated is not None and (doubtful or other is None or not stated <= other):
            return False
    # One condition on a body is compared with another as it is written, no further.
    for wanted, given in zip(outer.bodies, inner.bodies, strict=True):
        if wanted is not None and (doubtful or wanted != given):
            return False
    return outer.paths is None or _paths_cover(outer, inner)


def carries_alike(outer: Shape, inner: Shape) -> bool:
    """Whether `inner` adds nothing to how a connection is opened, which is chosen before any rule is known to speak."""
    if inner.verdict is not Verdict.ALLOW:
        return True
    return outer.tls >= inner.tls and (outer.rule.http2 or not inner.rule.http2)


def pattern_covers(outer: PathPattern, inner: PathPattern) -> bool:
    """Whether `outer` matches every path that `inner` matches."""
    if outer.segments == inner.segments:
        return True
    if inner.exact is not None:
        return outer.matches(inner.exact)
    if outer.below is not None:
        prefix = outer.segments[:-1]
        return len(inner.segments) > len(prefix) and inner.segments[: len(prefix)] == prefix
    if ... in outer.segments or ... in inner.segments or len(outer.segments) != len(inner.segments):
        return False
    return all(
        mine == theirs or (mine is None and theirs != "")
        for mine, theirs in zip(outer.segments, inner.segments, strict=True)
    )


def _lasts(mine: datetime | None, theirs: datetime | None) -> bool:
    return mine is None or (theirs is not None and theirs <= mine)


def _paths_cover(outer: Shape, inner: Shape) -> bool:
    mine = outer.folded if outer.ignores_case else outer.paths
    theirs = inner.folded if outer.ignores_case else inner.paths
    if mine is None or theirs is None or (inner.ignores_case and not outer.ignores_case):
        return False
    if not mine.readable or not theirs.readable or (theirs.patterns and not mine.patterns):
        return False
    others = theirs.exact - mine.exact
    if len(mine.patterns) * (len(others) + len(theirs.patterns)) > _MOST_PAIRS:
        return False
    return all(any(one.matches(path) for one in mine.patterns) for path in others) and all(
        any(pattern_covers(one, other) for one in mine.patterns) for other in theirs.patterns
    )


def _read(texts: Sequence[str]) -> Paths:
    compiled = [compile_path(text) for text in texts]
    patterns = [pattern for pattern in compiled if isinstance(pattern, PathPattern)]
    return Paths(
        exact=frozenset(pattern.exact for pattern in patterns if pattern.exact is not None),
        patterns=tuple(pattern for pattern in patterns if pattern.exact is None),
        readable=len(patterns) == len(compiled),
    )
