"""A policy that is loaded: what it was made of, and what it is for one sandbox or at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from egress.config.clock import wall_clock
from egress.config.wording import quoted
from egress.errors import ConfigError, Problem
from egress.policy import Sandbox, Verdict, compile_policy, expand

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from egress.config.presets import Inclusion
    from egress.config.secrets_model import SecretDefinition
    from egress.policy import Policy, ScopeRules, Unfilled


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A policy ready to judge, the secrets that its rules may name, every file it was made of, and what to look at.

    `files` are those of presets and of the tools' configuration too. `includes` are the presets with their parameters.
    `policy` is as the files have it: where it depends on the sandbox, ask `of`, which gives it as it holds for one.
    `sandboxes` are those with labels, by name, that are asked about by their names alone.
    """

    policy: Policy
    secrets: Mapping[str, SecretDefinition]
    files: tuple[Path, ...]
    warnings: tuple[Problem, ...]
    includes: tuple[Inclusion, ...] = ()
    sandboxes: Mapping[str, Sandbox] = field(default_factory=dict)
    clock: Callable[[], float] = wall_clock
    _written: dict[Sandbox, Policy] = field(default_factory=dict, init=False, repr=False, compare=False)
    _moments: dict[datetime, LoadedPolicy] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def rules(self) -> int:
        """How many rules there are, over all scopes."""
        return sum(len(scope.rules) for scope in self.policy.scopes)

    def of(self, sandbox: Sandbox | str) -> Policy:
        """The policy as it holds for one sandbox; the same object wherever it is the same for all.

        Raises ConfigError for a denial that cannot be written out for it.
        """
        known = self.sandboxes.get(sandbox, Sandbox(sandbox)) if isinstance(sandbox, str) else sandbox
        if known not in self._written:
            self._written[known] = policy_of(self.policy, known, clock=self.clock)
        return self._written[known]

    def as_of(self, moment: datetime) -> LoadedPolicy:
        """The policy as it holds at a moment (aware); itself where no rule expires."""
        if not self.policy.expiries:
            return self
        if moment not in self._moments:
            clock = moment.timestamp
            compiled = compile_policy(self.policy.scopes, digest=self.policy.digest, clock=clock)
            self._moments[moment] = replace(self, policy=compiled, clock=clock)
        return self._moments[moment]


def policy_of(
    policy: Policy, sandbox: Sandbox, *, whole: bool = False, clock: Callable[[], float] = wall_clock
) -> Policy:
    """A policy as it holds for one sandbox; itself if that is the same. `whole`: nothing may be left out of it.

    Raises ConfigError for what cannot be written out: a denial, or with `whole` anything.
    """
    scopes = written_out(policy.scopes, sandbox, whole=whole)
    if all(mine is theirs for mine, theirs in zip(scopes, policy.scopes, strict=True)):
        return policy
    return compile_policy(scopes, digest=policy.digest, clock=clock)


def written_out(scopes: Sequence[ScopeRules], sandbox: Sandbox, *, whole: bool = False) -> tuple[ScopeRules, ...]:
    """Rules as they hold for one sandbox. Raises ConfigError, as `policy_of` does."""
    found, unfilled = expand(scopes, sandbox)
    problems = [_unfilled(item, sandbox) for item in unfilled if whole or item.rule.verdict is not Verdict.ALLOW]
    if problems:
        raise ConfigError(problems)
    return found


def _unfilled(item: Unfilled, sandbox: Sandbox) -> Problem:
    rule = item.rule
    if item.missing is None:
        message = f"{quoted(item.text)} is no host with the values of the sandbox `{sandbox.name}`"
        return Problem(rule.file, rule.line, rule.verdict.value, message, "give it shorter values")
    message = f"{quoted(item.text)} cannot be filled in: the sandbox `{sandbox.name}` has no label `{item.missing}`"
    hint = "give it the label, or keep the rule to those that have it with `sandboxes`"
    return Problem(rule.file, rule.line, rule.verdict.value, message, hint)
