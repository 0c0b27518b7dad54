"""From the rules of scopes to a compiled policy: scopes merged and ordered, every target in the index."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from egress.policy.compiled import CompiledRule, entries_of
from egress.policy.decide import Policy
from egress.policy.index import Index
from egress.policy.limit_keys import LimitKeys
from egress.policy.sandboxes import as_refusal
from egress.policy.values import ScopeRules
from egress.policy.vocabulary import Mode, Scope, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from egress.policy.compiled import Entry

_RANK: Final = {scope: rank for rank, scope in enumerate(Scope)}
_STRICTNESS: Final = {Verdict.ALLOW: 0, Verdict.ASK: 1, Verdict.DENY: 2}
# Targets of one rule that are compiled in one go.
_REST_EVERY: Final = 250


def compile_policy(
    scopes: Sequence[ScopeRules], *, digest: str, clock: Callable[[], float], rest: Callable[[], None] | None = None
) -> Policy:
    """The policy of these scopes, in any order. Several of one scope become one list, strictest default and TLS.

    `rest` is called now and then, so that a thread which compiles beside other work can give way to it.
    """
    # A scope that can only narrow stays apart: what stands before it in one list would keep it from narrowing.
    merged: dict[tuple[Scope, bool], ScopeRules] = {}
    for written in scopes:
        # To report is to let pass, which is no narrowing.
        own = replace(written, mode=Mode.ENFORCE) if written.narrows else written
        key = own.scope, own.narrows
        seen = merged.get(key)
        merged[key] = own if seen is None else _merge(seen, own)
    ordered = sorted(merged.values(), key=lambda own: (_RANK[own.scope], own.narrows))
    index = _build_index(tuple(ordered), rest or _no_rest)
    return Policy(tuple(ordered), index, digest, clock=clock)


def _merge(first: ScopeRules, second: ScopeRules) -> ScopeRules:
    defaults = [own.default for own in (first, second) if own.default is not None]
    modes = [own.tls for own in (first, second) if own.tls is not None]
    return ScopeRules(
        scope=first.scope,
        rules=first.rules + second.rules,
        default=max(defaults, key=_STRICTNESS.__getitem__, default=None),
        tls=max(modes, default=None),
        # Enforcing is the stricter.
        mode=first.mode if first.mode is second.mode else Mode.ENFORCE,
        narrows=first.narrows,
        resolvers=first.resolvers or second.resolvers,
    )


def _no_rest() -> None:
    """Go on."""


def _build_index(scopes: tuple[ScopeRules, ...], rest: Callable[[], None]) -> Index:
    index = Index()
    order = 0
    keys = LimitKeys()
    for place, scope in enumerate(scopes):
        for rule in filter(None, map(as_refusal, scope.rules)):
            compiled = CompiledRule(rule, scope, place)
            if rule.limits is not None:
                compiled.limits = (keys.key(scope.scope, rule), rule.limits)
            # One entry for all targets of a rule on one port: a list of any size costs no more than its names.
            entries: dict[int | None, list[tuple[Entry]]] = {}
            rest()
            for number, target in enumerate(rule.targets, start=1):
                if number % _REST_EVERY == 0:
                    rest()
                if target.port not in entries:
                    entries[target.port] = [(entry,) for entry in entries_of(order, compiled, target.port)]
                    order += len(entries[target.port])
                for alone in entries[target.port]:
                    index.add(target, alone)
    return index
