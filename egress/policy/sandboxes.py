"""Rules that differ from sandbox to sandbox: the condition `sandboxes`, and templates in targets and paths.

A policy file may serve many sandboxes. For each it is written out before anything is compiled, so that judging a
request knows nothing of it:

1. a rule whose `sandboxes` does not name the sandbox is left out
2. `${sandbox.name}` and `${sandbox.label.KEY}` become the sandbox's values, which are one DNS label without dots: a
   value can fill in a target, never widen it
3. an allow whose template cannot be filled matches nothing; a deny or ask that cannot is told, and must not be used

What was not written out for a sandbox matches nothing as an allow, and everything as a deny or ask (`as_refusal`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from egress.policy.names import is_canonical_name
from egress.policy.values import AnyTarget, HostTarget, Rule, ScopeRules, Target
from egress.policy.vocabulary import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

# What stands for the value of a sandbox, in targets and paths.
TEMPLATE: Final = re.compile(r"\$\{sandbox\.(?:(name)|label\.([a-z][a-z0-9_-]{0,31}))\}")
_WORD: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_KEY: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_MARK: Final = "${"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox as rules see it: its name, and its labels by key. All are words (`is_sandbox_word`)."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()

    def value(self, label: str | None) -> str | None:
        """The value of a label, or with None the name; None: there is no such label."""
        return self.name if label is None else dict(self.labels).get(label)


# Who all clients are while no sandbox is configured.
DEFAULT_SANDBOX: Final = Sandbox("default")


@dataclass(frozen=True, slots=True)
class Unfilled:
    """A text of a rule that cannot be written out for a sandbox. `missing`: the label that it lacks, else too long."""

    rule: Rule
    text: str
    missing: str | None


def is_sandbox_word(text: str) -> bool:
    """Whether text may be a sandbox's name or a label's value: 1 to 63 of `a-z`, `0-9` and, inside, `-`."""
    return _WORD.fullmatch(text) is not None


def is_label_key(text: str) -> bool:
    """Whether text may be the key of a label."""
    return _KEY.fullmatch(text) is not None


def expand(scopes: Sequence[ScopeRules], sandbox: Sandbox) -> tuple[tuple[ScopeRules, ...], tuple[Unfilled, ...]]:
    """The rules as they hold for one sandbox, and what could not be written out.

    Scopes and rules that are the same for every sandbox are given back as they are, so that they are shared.
    """
    unfilled: list[Unfilled] = []
    found = tuple(_scope(scope, sandbox, unfilled) for scope in scopes)
    return found, tuple(unfilled)


def telling(scopes: Sequence[ScopeRules]) -> Callable[[Sandbox], Hashable]:
    """What tells one sandbox from another to these rules: alike there, they are the same written out for both."""
    rules = [rule for scope in scopes for rule in scope.rules if depends_on_sandbox(rule)]
    words = tuple(dict.fromkeys(word for rule in rules for word in rule.sandboxes or ()))
    texts = [text for rule in rules for text in _texts(rule)]
    labels = tuple(dict.fromkeys(found[2] for text in texts for found in TEMPLATE.finditer(text)))

    def tell(sandbox: Sandbox) -> Hashable:
        return tuple(_names(word, sandbox) for word in words), tuple(sandbox.value(label) for label in labels)

    return tell


def depends_on_sandbox(rule: Rule) -> bool:
    """Whether the rule is not the same for every sandbox."""
    return rule.sandboxes is not None or any(map(_is_template, _texts(rule)))


def as_refusal(rule: Rule) -> Rule | None:
    """The rule as it must hold where it was not written out: nothing for an allow, everything else for a refusal."""
    if not depends_on_sandbox(rule):
        return rule
    if rule.verdict is Verdict.ALLOW:
        return None
    targets = [Target(AnyTarget(), target.port) if _is_template(_name(target)) else target for target in rule.targets]
    # A path that cannot be read refuses every path (see `conditions`).
    return replace(rule, targets=tuple(targets), sandboxes=None)


def _scope(scope: ScopeRules, sandbox: Sandbox, unfilled: list[Unfilled]) -> ScopeRules:
    rules: list[Rule] = []
    changed = False
    for rule in scope.rules:
        found = _rule(rule, sandbox, unfilled) if depends_on_sandbox(rule) else rule
        changed = changed or found is not rule
        if found is not None:
            rules.append(found)
    return replace(scope, rules=tuple(rules)) if changed else scope


def _rule(rule: Rule, sandbox: Sandbox, unfilled: list[Unfilled]) -> Rule | None:
    if rule.sandboxes is not None and not any(_names(word, sandbox) for word in rule.sandboxes):
        return None
    targets = [_target(target, rule, sandbox, unfilled) for target in rule.targets]
    kept = tuple(target for target in targets if target is not None)
    paths = None
    if rule.paths is not None:
        filled = [_fill(path, rule, sandbox, unfilled) for path in rule.paths]
        paths = tuple(path for path in filled if path is not None)
    # A rule with targets or paths that are all gone names nothing; without `paths` at all it would name more.
    if not kept or paths == ():
        return None
    return replace(rule, targets=kept, paths=paths, sandboxes=None)


def _names(word: str, sandbox: Sandbox) -> bool:
    key, equals, value = word.partition("=")
    return (key, value) in sandbox.labels if equals else word == sandbox.name


def _target(target: Target, rule: Rule, sandbox: Sandbox, unfilled: list[Unfilled]) -> Target | None:
    what = target.what
    if not isinstance(what, HostTarget) or not _is_template(what.name):
        return target
    name = _fill(what.name, rule, sandbox, unfilled)
    if name is None:
        return None
    if not is_canonical_name(name):
        unfilled.append(Unfilled(rule, what.name, None))
        return None
    return replace(target, what=replace(what, name=name))


def _fill(text: str, rule: Rule, sandbox: Sandbox, unfilled: list[Unfilled]) -> str | None:
    missing = next((found[2] for found in TEMPLATE.finditer(text) if sandbox.value(found[2]) is None), None)
    if missing is not None:
        unfilled.append(Unfilled(rule, text, missing))
        return None
    return TEMPLATE.sub(lambda found: sandbox.value(found[2]) or "", text)


def _texts(rule: Rule) -> Iterable[str]:
    yield from (target.what.name for target in rule.targets if isinstance(target.what, HostTarget))
    yield from rule.paths or ()


def _name(target: Target) -> str:
    return target.what.name if isinstance(target.what, HostTarget) else ""


def _is_template(text: str) -> bool:
    return _MARK in text
