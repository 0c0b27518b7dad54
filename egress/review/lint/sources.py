"""Checks policy files: loads them as a server would, and lints what loads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress.config import foreign_owners, load_policy
from egress.errors import ConfigError
from egress.review.lint.findings import Finding, Severity
from egress.review.lint.lint import lint
from egress.review.lint.loading import of_problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from egress.config import PolicySource, SecretDefinition


@dataclass(frozen=True, slots=True)
class Checked:
    """What checking policy files found, and how many rules they have (None: they do not load)."""

    findings: tuple[Finding, ...]
    rules: int | None = None

    def count(self, severity: Severity) -> int:
        """How many findings are of this severity."""
        return sum(finding.severity is severity for finding in self.findings)

    @property
    def usable(self) -> bool:
        """Whether a start or reload with these files would use them."""
        return self.rules is not None and not self.count(Severity.ERROR)


def check_sources(
    sources: Sequence[PolicySource], *, now: datetime, secrets: Mapping[str, SecretDefinition] | None = None
) -> Checked:
    """Check files as one policy. `secrets` are those of the server's configuration. No file's content raises."""
    try:
        loaded = load_policy(sources, secrets=secrets)
    except ConfigError as error:
        return unusable(error)
    owners = [of_problem(problem) for problem in foreign_owners(loaded.files)]
    return Checked((*owners, *lint(loaded, now=now)), loaded.rules)


def unusable(error: ConfigError) -> Checked:
    """The findings of an error that kept files from being loaded."""
    return Checked(tuple(of_problem(problem) for problem in error.problems))
