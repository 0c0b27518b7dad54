"""Sandboxes that were registered at run time, in a generation: without reading any file anew.

What all sandboxes have in common is in the generation as it was written, so that a sandbox is added or taken away
while the files are being edited, broken or gone.
"""

from __future__ import annotations

import hashlib
import operator
from typing import TYPE_CHECKING

from egress.config import read_session, wall_clock, written_out
from egress.gate.generation import Generation
from egress.gate.roster import Member, Roster
from egress.policy import compile_policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.config import SandboxDefinition
    from egress.policy import Policy, ScopeRules


def enrolled(previous: Generation, registered: Sequence[SandboxDefinition]) -> Generation:
    """The next generation, with these registered and no others. Raises ConfigError for one that cannot be.

    Whoever was there before keeps the very same policy.
    """
    before = () if previous.roster is None else previous.roster.members
    known = {member.definition.name: member for member in before if member.definition.registered}
    members = [member for member in before if not member.definition.registered]
    for own in registered:
        kept = known.get(own.name)
        if kept is None or kept.definition != own:
            kept = enrol(previous.policy, previous.common, own)
        members.append(kept)
    number, policy, roster = previous.number + 1, previous.policy, Roster(members)
    return Generation(number, policy, previous.credentials, previous.files, roster, previous.common)


def enrol(common: Policy, scopes: tuple[ScopeRules, ...], own: SandboxDefinition) -> Member:
    """A registered sandbox with its policy: what all have in common, narrowed by its session. Raises ConfigError."""
    whole = scopes
    digest = common.digest
    if own.session:
        whole = (*scopes, read_session(own.session, own.name))
        digest = hashlib.sha256(f"{digest}\n{own.session}".encode("utf-8", "surrogatepass")).hexdigest()
    found = written_out(whole, own.sandbox)
    if len(found) == len(common.scopes) and all(map(operator.is_, found, common.scopes)):
        return Member(own, common)
    return Member(own, compile_policy(found, digest=digest, clock=wall_clock))
