"""The law across scopes: from what each scope said to one decision.

1. deny, if any scope says deny: the highest that does is named;
2. else ask, if any says ask;
3. else allow, if any says allow: TLS mode the strictest, headers, rewrites and signatures merged, the higher scope
   winning a conflict, every rule's limits, and HTTP/2 if any asks for it;
4. nothing said at all: deny.

A scope in report mode refuses nothing by itself: where only such scopes refuse, the request passes, without a header
changed, to public addresses, and is recorded as one that would be denied. It is rewritten all the same: else it would
go where no scope that allows it sends it.

INVARIANT scopes-only-narrow: no scope's allow is looked at before every scope's deny and ask.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from egress.policy.bodies import told
from egress.policy.decision import Decision, RuleRef, Say
from egress.policy.reasons import TEXTS, Reason
from egress.policy.rewrites import merged
from egress.policy.unreadable import agreed
from egress.policy.vocabulary import Protocol, TlsMode, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.policy.compiled import CompiledRule
    from egress.policy.request import Request
    from egress.policy.signing import Signing
    from egress.policy.values import Injection, KeyedLimits, Rewrite, Swap

_RULE_ALLOWS = TEXTS[Reason.RULE_ALLOW].sentence
_DEFAULT_ALLOWS = TEXTS[Reason.DEFAULT_ALLOW].sentence
# A method is a token, so it prints; it may still be as long as a head.
_LONGEST_METHOD = 32


def strictest(says: Sequence[Say]) -> Say | None:
    """The say that decides, or None if no scope said anything."""
    ask = allow = None
    for say in says:
        verdict = say.verdict
        if verdict is Verdict.DENY:
            return say
        if verdict is Verdict.ASK:
            ask = ask or say
        elif verdict is Verdict.ALLOW and (allow is None or (allow.rule is None and say.rule is not None)):
            allow = say
    return ask or allow


def allow(
    say: Say, says: tuple[Say, ...], rules: Sequence[CompiledRule], default_tls: Sequence[TlsMode], *, opaque: bool
) -> Decision:
    """The allow that the scopes agree on. `default_tls` holds the modes of the scopes that allow by default."""
    mode = max((*(rule.tls for rule in rules), *default_tls), default=TlsMode.INSPECT)
    if mode is TlsMode.AUTO:
        mode = TlsMode.TUNNEL if opaque else TlsMode.INSPECT
    by_default = say.rule is None
    return Decision(
        verdict=Verdict.ALLOW,
        reason=Reason.DEFAULT_ALLOW if by_default else Reason.RULE_ALLOW,
        detail=_DEFAULT_ALLOWS if by_default else _RULE_ALLOWS,
        says=says,
        rule=say.rule,
        rules=tuple([rule.rule for rule in rules]),
        tls=mode,
        inject=_merge_inject(rules),
        remove=_merge_remove(rules),
        http2=any(rule.http2 for rule in rules),
        labels=_merge_labels(rules),
        rewrite=_merge_rewrite(rules),
        sign=_merge_sign(rules),
        limits=_all_limits(rules),
        swap=_all_swaps(rules),
        scrub=rules[0].rule.scrub if len(rules) == 1 else agreed([rule.rule for rule in rules]),
    )


def refuse(
    request: Request, verdict: Verdict, reason: Reason, says: tuple[Say, ...], rule: RuleRef | None = None
) -> Decision:
    """A decision that lets nothing pass, with a sentence for people."""
    return Decision(verdict, reason, _detail(request, reason), says, rule, labels=_object_of(says, rule))


def report(
    request: Request,
    refused: Decision,
    says: Sequence[Say],
    reporting: Sequence[TlsMode | None],
    rules: Sequence[CompiledRule],
) -> Decision:
    """What becomes of a refusal. `reporting` has the TLS mode of each scope in report mode, None for the others."""
    softened = tuple(
        say if mode is None or say.verdict is Verdict.ALLOW else _soft(say)
        for say, mode in zip(says, reporting, strict=True)
    )
    say = strictest(softened)
    if say is None or say.verdict is None:
        return refused
    if say.verdict is not Verdict.ALLOW:
        return refuse(request, say.verdict, say.reason, tuple(says), say.rule or say.nearest)
    modes = [mode for mode, own in zip(reporting, softened, strict=True) if mode is not None and own.rule is None]
    passed = allow(say, softened, rules, modes, opaque=request.method is None)
    detail = f"Passed in report mode. {refused.detail}"
    return replace(
        passed,
        reason=Reason.WOULD_DENY,
        detail=detail,
        rule=refused.rule,
        inject=(),
        remove=(),
        sign=None,
        swap=(),
        labels=refused.labels,
    )


def muted(say: Say) -> Say:
    """What a scope that can only narrow says by itself: its allow is nothing."""
    return Say(say.scope, None, Reason.HOST_NOT_ALLOWED) if say.verdict is Verdict.ALLOW else say


def _soft(say: Say) -> Say:
    return Say(say.scope, Verdict.ALLOW, Reason.WOULD_DENY, None, say.rule or say.nearest)


def _object_of(says: Sequence[Say], rule: RuleRef | None) -> tuple[tuple[str, str], ...]:
    # A rule that only came closest did not speak, and labels nothing.
    return () if rule is None or all(say.rule is not rule for say in says) else rule.labels


def _merge_labels(rules: Sequence[CompiledRule]) -> tuple[tuple[str, str], ...]:
    if len(rules) == 1:
        return rules[0].rule.annotate
    merged: dict[str, str] = {}
    for rule in rules:
        for name, value in rule.rule.annotate:
            merged.setdefault(name, value)
    return tuple(merged.items())


def _merge_inject(rules: Sequence[CompiledRule]) -> tuple[Injection, ...]:
    if len(rules) == 1:
        return rules[0].rule.inject
    merged: dict[str, Injection] = {}
    for rule in rules:
        for injection in rule.rule.inject:
            merged.setdefault(injection.header.lower(), injection)
    return tuple(merged.values())


def _merge_rewrite(rules: Sequence[CompiledRule]) -> Rewrite | None:
    if len(rules) == 1:
        return rules[0].rule.rewrite
    return merged([rule.rule.rewrite for rule in rules if rule.rule.rewrite is not None])


def _merge_sign(rules: Sequence[CompiledRule]) -> Signing | None:
    # One signature a request: two would each have to cover the other.
    return next((rule.rule.sign for rule in rules if rule.rule.sign is not None), None)


def _merge_remove(rules: Sequence[CompiledRule]) -> tuple[str, ...]:
    if len(rules) == 1:
        return rules[0].remove
    merged: dict[str, str] = {}
    for rule in rules:
        for header in rule.remove:
            merged.setdefault(header.lower(), header)
    return tuple(merged.values())


def _all_swaps(rules: Sequence[CompiledRule]) -> tuple[Swap, ...]:
    if len(rules) == 1:
        return rules[0].rule.swap
    return tuple(dict.fromkeys(swap for rule in rules for swap in rule.rule.swap))


def _all_limits(rules: Sequence[CompiledRule]) -> KeyedLimits:
    return tuple([rule.limits for rule in rules if rule.limits is not None])


def _detail(request: Request, reason: Reason) -> str:  # noqa: C901, PLR0911 -- one return a reason
    host = request.host.text
    match reason:
        case Reason.HOST_NOT_ALLOWED:
            return f"No rule allows `{host}`."
        case Reason.ADDRESS_NOT_ALLOWED:
            return f"No rule allows the address {host}; a host rule covers its name only."
        case Reason.PORT_NOT_ALLOWED:
            return f"A rule allows `{host}`, but not on port {request.port}."
        case Reason.METHOD_NOT_ALLOWED if request.method is not None:
            return f"A rule allows `{host}`, but not with {request.method[:_LONGEST_METHOD]}."
        case Reason.METHOD_NOT_ALLOWED | Reason.PATH_NOT_ALLOWED if request.method is None:
            return f"A rule allows `{host}` for some requests only, and what a tunnel carries cannot be seen."
        case Reason.PROTOCOL_NOT_ALLOWED if request.protocol is Protocol.DNS:
            return f"A rule allows `{host}`, but no DNS questions for it."
        case Reason.PROTOCOL_NOT_ALLOWED if request.method is None:
            return f"A rule allows `{host}`, but not as an unseen {request.protocol} connection."
        case Reason.PROTOCOL_NOT_ALLOWED:
            return f"A rule allows `{host}`, but not with {request.protocol} on port {request.port}."
        case Reason.BODY_NOT_ALLOWED if request.body is not None:
            return f"A rule allows `{host}`, but not what the body asks for: {told(request.body)}."
        case Reason.RULE_DENY:
            return f"A rule denies this request to `{host}`."
        case Reason.APPROVAL_REQUIRED:
            return f"A rule asks a person before a request to `{host}`; approvals are not available, so it is refused."
        case _:
            return TEXTS[reason].sentence
