"""A generation: one policy with the secrets that belong to it, swapped as a whole.

INVARIANT reload-is-atomic: a request is judged by one generation from its first step to its last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from egress.credentials import CredentialStore
    from egress.policy import Policy


@dataclass(frozen=True, slots=True)
class Generation:
    """`number` counts from 1 and grows with each reload. `files`: all that it was made of, where that is known."""

    number: int
    policy: Policy
    credentials: CredentialStore
    files: tuple[Path, ...] = ()
