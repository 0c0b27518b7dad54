"""What the policy core answers: a decision, by which rules, and what each scope said. All immutable, all plain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.policy.vocabulary import TlsMode, Verdict

if TYPE_CHECKING:
    from egress.policy.reasons import Reason
    from egress.policy.signing import Signing
    from egress.policy.values import Address, Injection, KeyedLimits, Rewrite, Rule, Swap
    from egress.policy.vocabulary import Certainty, Scope, Unreadable


@dataclass(frozen=True, slots=True)
class RuleRef:
    """Where a rule stands, for people and for the audit; `labels` are those that it annotates."""

    scope: Scope
    file: str
    line: int | None
    name: str | None = None
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Say:
    """What one scope said. `verdict` None: nothing. `rule` None with a verdict: its default.

    `nearest` is the allow rule that named the destination and came closest, where none of the scope's rules spoke;
    `reason` then says what it lacked.
    """

    scope: Scope
    verdict: Verdict | None
    reason: Reason
    rule: RuleRef | None = None
    nearest: RuleRef | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The core's answer: verdict, reason and rule are set together in every branch.

    `rule` is the rule that spoke, or where nothing did, the allow rule that came closest. `rules` are the allowing
    rules of each scope that allowed by a rule, highest scope first; the address step is held to all of them. `inject`
    and `remove` are merged over those scopes, and `http2` is True if any of their rules says so. `labels` are those
    that the rules annotate. `limits` are those of all the allowing rules, `swap` is what they swap. `rewrite`, if there
    is one, has the request judged again before anything goes up: see `Policy.follow`. `detail` is one sentence for
    people, safe to print. `needs_body`: a rule's condition on the body was asked and the body is not known, so this is
    the answer for a body that nobody can read. `sign`: how it is signed, as the highest scope says whose rule signs.
    `scrub` is what the rules agree on.
    """

    verdict: Verdict
    reason: Reason
    detail: str
    says: tuple[Say, ...]
    rule: RuleRef | None = None
    rules: tuple[Rule, ...] = ()
    tls: TlsMode = TlsMode.INSPECT
    inject: tuple[Injection, ...] = ()
    remove: tuple[str, ...] = ()
    http2: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    rewrite: Rewrite | None = None
    limits: KeyedLimits = ()
    needs_body: bool = False
    sign: Signing | None = None
    swap: tuple[Swap, ...] = ()
    scrub: Unreadable | None = None

    @property
    def allowed(self) -> bool:
        """True only for the verdict `allow`."""
        return self.verdict is Verdict.ALLOW

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of the secrets that it has put on, once each: injected, signed with, swapped."""
        names = [name for injection in self.inject for name in injection.secrets]
        names += () if self.sign is None else (self.sign.secret,)
        return tuple(dict.fromkeys([*names, *[swap.secret for swap in self.swap]]))


@dataclass(frozen=True, slots=True)
class NameDecision:
    """What a destination's name alone tells.

    `certainty` NO: `decision` is the denial to give. MAYBE: the request decides, only the client's own handshake goes
    on, and `decision` is a denial that says no more. YES: allowed whatever the request, unless a later step narrows.
    `tls` says what to do with a TLS hello: TUNNEL passes it unopened (the tunnel's own decision comes from
    `decide_request` with method None), INSPECT opens it; AUTO never comes out. `http2` is True if TLS is opened and any
    allow rule that could match the destination asks for HTTP/2: which rule will speak is known only after the choice.
    """

    certainty: Certainty
    decision: Decision
    tls: TlsMode = TlsMode.INSPECT
    http2: bool = False


@dataclass(frozen=True, slots=True)
class AddressDecision:
    """Which of the resolved addresses may be dialled, in the resolver's order; none means `decision` denies."""

    addresses: tuple[Address, ...]
    decision: Decision
    dropped: tuple[tuple[Address, str], ...] = field(default=())
