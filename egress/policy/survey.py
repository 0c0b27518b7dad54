"""What the scopes could say of a destination before its request is known: the base of the name step.

For each scope, the set of what it might say over all requests. Scopes are taken to be independent of each other, which
can only turn a yes or a no into a maybe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.policy.conditions import SAYING, SAYS_ALLOW, SAYS_NOTHING, possible
from egress.policy.vocabulary import Certainty, TlsMode, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.policy.conditions import CompiledRule, Entry, Question
    from egress.policy.values import ScopeRules


class Survey:
    """What the scopes could say of a destination, over all requests: a set of sayings for each scope."""

    __slots__ = ("definite", "mode", "needs_inside", "sayings")

    def __init__(self, scopes: int) -> None:
        self.sayings = [0] * scopes
        self.definite: list[CompiledRule | None] = [None] * scopes
        self.needs_inside = False
        self.mode: TlsMode | None = None

    @property
    def tunnels(self) -> bool:
        """Whether TLS stays closed: `auto` opens it where a rule that could match needs the inside."""
        return self.mode is TlsMode.TUNNEL or (self.mode is TlsMode.AUTO and not self.needs_inside)

    def stricter(self, mode: TlsMode) -> None:
        """Hold the TLS mode of one more rule that could allow."""
        self.mode = mode if self.mode is None else max(self.mode, mode)

    def certainty(self) -> Certainty:
        """NO if no combination of sayings allows, YES if every one does."""
        together = 0
        agreed = False
        for sayings in self.sayings:
            if not sayings & (SAYS_ALLOW | SAYS_NOTHING):
                return Certainty.NO
            agreed = agreed or sayings == SAYS_ALLOW
            together |= sayings
        if not together & SAYS_ALLOW:
            return Certainty.NO
        return Certainty.YES if agreed and together <= SAYS_ALLOW | SAYS_NOTHING else Certainty.MAYBE


def take_survey(entries: Sequence[Entry], question: Question, scopes: Sequence[ScopeRules]) -> Survey:
    """Go through the rules that name the destination; in each scope up to the first that must match."""
    survey = Survey(len(scopes))
    spoken = -1
    for entry in entries:
        rule = entry.rule
        if rule.scope == spoken:
            continue
        could, must, needs_inside = possible(entry, question)
        if not could:
            continue
        survey.sayings[rule.scope] |= rule.saying
        survey.needs_inside = survey.needs_inside or needs_inside
        if rule.allows:
            survey.stricter(rule.tls)
        if must:
            spoken = rule.scope
            survey.definite[spoken] = rule
    for place, scope in enumerate(scopes):
        if survey.definite[place] is None:
            survey.sayings[place] |= SAYING[scope.default]
            if scope.default is Verdict.ALLOW:
                survey.stricter(TlsMode.INSPECT if scope.tls is None else scope.tls)
    return survey
