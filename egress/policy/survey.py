"""What the scopes could say of a destination before its request is known: the base of the name step.

For each scope, the set of what it might say over all requests. Scopes are taken to be independent of each other, which
can only turn a yes or a no into a maybe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.policy.compiled import SAYING, SAYS_ALLOW, SAYS_NOTHING
from egress.policy.conditions import possible
from egress.policy.vocabulary import Certainty, Mode, TlsMode, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.policy.compiled import CompiledRule, Entry
    from egress.policy.conditions import Question
    from egress.policy.values import ScopeRules


class Silence:
    """What a scope says where no rule of it speaks: a saying, and the TLS mode of a default that allows."""

    __slots__ = ("mode", "saying")

    def __init__(self, scope: ScopeRules) -> None:
        stated = TlsMode.INSPECT if scope.tls is None else scope.tls
        reports = scope.mode is Mode.REPORT
        self.saying = SAYS_ALLOW if reports else SAYING[scope.default]
        if scope.narrows and self.saying == SAYS_ALLOW:
            self.saying = SAYS_NOTHING
        self.mode = stated if reports or scope.default is Verdict.ALLOW else None


class Survey:
    """The sayings of each scope as a set of bits, and the rule that speaks in it at the latest."""

    __slots__ = ("definite", "http2", "mode", "needs_inside", "sayings")

    def __init__(
        self,
        sayings: list[int],
        definite: list[CompiledRule | None],
        mode: TlsMode | None,
        *,
        needs_inside: bool,
        http2: bool,
    ) -> None:
        self.sayings = sayings
        self.definite = definite
        self.mode = mode
        self.needs_inside = needs_inside
        self.http2 = http2

    @property
    def tunnels(self) -> bool:
        """Whether TLS stays closed: `auto` opens it where a rule that could match needs the inside."""
        return self.mode is TlsMode.TUNNEL or (self.mode is TlsMode.AUTO and not self.needs_inside)

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


def take_survey(entries: Sequence[Entry], question: Question, silences: Sequence[Silence]) -> Survey:
    """Go through the rules that name the destination; in each scope up to the first that must match."""
    sayings = [0] * len(silences)
    definite: list[CompiledRule | None] = [None] * len(silences)
    mode: TlsMode | None = None
    inside = http2 = False
    spoken = -1
    for entry in entries:
        rule = entry.rule
        if rule.scope == spoken:
            continue
        could, must, needs_inside = possible(entry, question)
        if not could:
            continue
        sayings[rule.scope] |= rule.saying
        inside = inside or needs_inside
        if rule.allows:
            http2 = http2 or rule.http2
            if mode is None or rule.tls > mode:
                mode = rule.tls
        if must:
            spoken = rule.scope
            definite[spoken] = rule
    for place, silence in enumerate(silences):
        if definite[place] is None:
            sayings[place] |= silence.saying
            if silence.mode is not None and (mode is None or silence.mode > mode):
                mode = silence.mode
    return Survey(sayings, definite, mode, needs_inside=inside, http2=http2)
