"""Rules that allow what a higher scope always denies: they can never let anything pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.policy import Mode, Scope, Verdict
from egress.review.lint.covering import Shape, make_shape
from egress.review.lint.findings import Code, Finding, of_rule
from egress.review.lint.places import Cover, Covering, Place, Reach, make_cover, places_of
from egress.review.lint.region import EMPTY, View, intersect, subtract
from egress.review.lint.wording import line_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from egress.policy import Rule, ScopeRules, Target


@dataclass(slots=True)
class _Above:
    """A higher scope: where it could say something else than deny, its denies, and those with no such rule before them.

    `foremost` hold whatever comes later in the scope; the others only where nothing else of the scope could pass.
    """

    scope: Scope
    default: Verdict | None
    passes: Reach = field(default_factory=Reach)
    denies: Covering = field(default_factory=Covering)
    foremost: Covering = field(default_factory=Covering)

    def denier(self, target: Target, own: Cover) -> Rule | Scope | None:
        """The rule that denies all of the target, or the scope if its default does."""
        found: Rule | Scope | None = None
        for place in places_of(target, own.shape.verdict):
            found = _denying(self.foremost, place, own)
            if found is None and not intersect(own.regions[View.KNOWN], self.passes.at(place)[View.KNOWN]):
                found = _denying(self.denies, place, own) or (self.scope if self.default is Verdict.DENY else None)
            if found is None:
                return None
        return found


def _denying(denies: Covering, place: Place, own: Cover) -> Rule | None:
    left = own.regions[View.KNOWN]
    for cover in denies.holding(place, own):
        left = subtract(left, cover.regions[View.KNOWN])
        if left == EMPTY:
            return cover.shape.rule
    return None


def find_refused_above(scopes: Sequence[ScopeRules]) -> Iterator[Finding]:
    """Allow rules of which a higher scope denies every target."""
    above: list[_Above] = []
    for own in scopes:
        for rule in own.rules if above else ():
            if rule.verdict is Verdict.ALLOW:
                yield from _finding(rule, make_shape(rule, own.tls), above)
        # A scope in report mode refuses nothing.
        if own is not scopes[-1] and own.mode is not Mode.REPORT:
            above.append(_summary(own))


def _finding(rule: Rule, shape: Shape, above: Sequence[_Above]) -> Iterator[Finding]:
    covers = {port: make_cover(0, shape, port) for port in {target.port for target in rule.targets}}
    for higher in above:
        denier: Rule | Scope | None = None
        for target in rule.targets:
            denier = higher.denier(target, covers[target.port])
            if denier is None:
                break
        if denier is not None:
            why = "allows none of it" if isinstance(denier, Scope) else f"denies it, on {line_of(denier, rule)}"
            message = f"scope {higher.scope} {why}, so this allow lets nothing pass"
            yield of_rule(Code.REFUSED_ABOVE, rule, message, "remove it, or have the higher scope allow it")
            return


def _summary(own: ScopeRules) -> _Above:
    found = _Above(own.scope, own.default)
    for order, rule in enumerate(own.rules):
        if rule.verdict is not Verdict.DENY:
            found.passes.add(rule)
            continue
        shape = make_shape(rule, own.tls)
        covers = {port: make_cover(order, shape, port) for port in {target.port for target in rule.targets}}
        for target in rule.targets:
            for place in places_of(target, rule.verdict):
                cover = covers[target.port]
                found.denies.add(place, cover)
                if not intersect(cover.regions[View.KNOWN], found.passes.at(place)[View.KNOWN]):
                    found.foremost.add(place, cover)
    return found
