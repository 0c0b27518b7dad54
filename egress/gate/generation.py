"""A generation: the policies of all sandboxes with the secrets that belong to them, swapped as a whole.

INVARIANT reload-is-atomic: a request is judged by one generation from its first step to its last.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.gate.roster import digest_of
from egress.policy import Mode

if TYPE_CHECKING:
    from pathlib import Path

    from egress.config import SandboxDefinition
    from egress.credentials import CredentialStore
    from egress.gate.roster import Roster
    from egress.policy import Policy, Scope, ScopeRules


@dataclass(frozen=True, slots=True)
class Generation:
    """`number` counts from 1 and grows with each reload. `files`: all that it was made of, where that is known.

    `roster` None: all clients are one sandbox, which `policy` judges. Else each has its own, and `policy` is what their
    files have in common. `common` are those files' rules as they are written, for sandboxes that come later. `digest`
    names all of it in the audit.
    """

    number: int
    policy: Policy
    credentials: CredentialStore
    files: tuple[Path, ...] = ()
    roster: Roster | None = None
    common: tuple[ScopeRules, ...] = ()
    digest: str = field(init=False, default="")

    def __post_init__(self) -> None:
        """Work the digest out once: every row has it."""
        digest = self.policy.digest if self.roster is None else self.roster.digest
        object.__setattr__(self, "digest", digest)

    def policy_of(self, sandbox: str) -> Policy | None:
        """What judges a sandbox's requests; None: there is no such sandbox."""
        return self.policy if self.roster is None else self.roster.policies.get(sandbox)

    @property
    def registered(self) -> tuple[SandboxDefinition, ...] | None:
        """The sandboxes that were registered at run time; None: clients are not told apart."""
        members = None if self.roster is None else self.roster.members
        return None if members is None else tuple(own.definition for own in members if own.definition.registered)

    @property
    def files_digest(self) -> str:
        """What the files say, whoever is registered at the moment."""
        roster = self.roster
        configured = () if roster is None else tuple(own for own in roster.members if not own.definition.registered)
        return digest_of(configured) if configured else self.policy.digest

    @property
    def reporting(self) -> tuple[Scope, ...]:
        """The scopes that report in place of refusing, of whichever sandbox, once each."""
        policies = (self.policy, *(() if self.roster is None else self.roster.policies.values()))
        distinct = {id(policy): policy for policy in policies}.values()
        scopes = (scope for policy in distinct for scope in policy.scopes)
        return tuple(dict.fromkeys(scope.scope for scope in scopes if scope.mode is Mode.REPORT))

    @property
    def expiries(self) -> tuple[float, ...]:
        """When rules of any policy expire, in seconds since 1970, soonest first."""
        if self.roster is None:
            return self.policy.expiries
        policies = {id(policy): policy for policy in self.roster.policies.values()}
        return tuple(sorted({moment for policy in policies.values() for moment in policy.expiries}))
