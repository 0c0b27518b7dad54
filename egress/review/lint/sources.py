"""Checks policy files: loads them as a server would, and says what keeps them from being used or is doubtful.

`check_loaded` is asked by a start, a reload and `egress policy check` alike, so that these never disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress.config import foreign_owners, load_policy
from egress.errors import ConfigError
from egress.review.lint.findings import Finding, Severity
from egress.review.lint.lint import lint, problems_of
from egress.review.lint.loading import of_problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from egress.config import LoadedPolicy, PolicySource, SecretDefinition
    from egress.errors import Problem


@dataclass(frozen=True, slots=True)
class Checked:
    """What checking policy files found, and how many rules they have (None: they do not load)."""

    findings: tuple[Finding, ...]
    rules: int | None = None

    def count(self, severity: Severity) -> int:
        """How many findings are of this severity."""
        return sum(finding.severity is severity for finding in self.findings)

    def problems(self, severity: Severity) -> list[Problem]:
        """The findings of this severity, in the form of every other problem of a file."""
        return problems_of(self.findings, severity)

    @property
    def usable(self) -> bool:
        """Whether a start or reload with these files would use them."""
        return self.rules is not None and not self.count(Severity.ERROR)


def check_loaded(loaded: LoadedPolicy, *, now: datetime, kept: bool = False) -> Checked:
    """What there is to say of a policy that loads.

    `kept`: it was judged by an earlier start, and kept, so whose the files are now does not matter.
    """
    owners = () if kept else foreign_owners(loaded.files)
    return Checked((*map(of_problem, owners), *lint(loaded, now=now)), loaded.rules)


def check_sources(
    sources: Sequence[PolicySource],
    *,
    now: datetime,
    secrets: Mapping[str, SecretDefinition] | None = None,
    presets: Sequence[Path] = (),
) -> Checked:
    """Check files as one policy. `secrets` and `presets` are the server's. No file's content raises."""
    try:
        return check_loaded(load_policy(sources, secrets=secrets, presets=presets), now=now)
    except ConfigError as error:
        return unusable(error)


def unusable(error: ConfigError) -> Checked:
    """The findings of an error that kept files from being loaded."""
    return Checked(tuple(of_problem(problem) for problem in error.problems))
