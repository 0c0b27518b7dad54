"""What the viewer needs of a policy, and does not know: what it says of a row today, and a rule put into its file.

The command line gives it; without `--policy` there is none, and the viewer loads neither policies nor their parser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from egress.audit import AuditRow

type Verb = Literal["allow", "deny"]


@dataclass(frozen=True, slots=True)
class Today:
    """What the policy says now to what a row asked: a verdict, and labelled values."""

    verdict: str
    told: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Wish:
    """The rule that a person would have: which of the choices (0: the narrowest), for how long, and why."""

    verb: Verb
    choice: int = 0
    ttl: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change that could be written. `choices` are the rules to choose from, the narrowest first.

    `refused`: why this one cannot be written; None if it can. `change` is the desk's own.
    """

    choices: tuple[str, ...]
    diff: tuple[str, ...]
    notes: tuple[str, ...]
    refused: str | None
    change: object = None


class Desk(Protocol):
    """A policy at hand. Every method may read files and take a while; each raises EgressError alone."""

    @property
    def file(self) -> str:
        """The file that rules are written to, as people know it."""

    def closed(self) -> str | None:
        """Why nothing can be written to the file; None if it can."""

    def today(self, row: AuditRow) -> Today:
        """What the policy says now to what this row asked."""

    def propose(self, row: AuditRow, wish: Wish) -> Proposal:
        """The change for this row."""

    def write(self, proposal: Proposal) -> None:
        """Write the change, unless the file is no longer what the proposal was made for."""
