"""The lint of a loaded policy: every check, in the order of the files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.config import printable
from egress.review.lint.above import find_refused_above
from egress.review.lint.bound_secrets import find_secrets
from egress.review.lint.breadth import find_breadth
from egress.review.lint.findings import Code, Finding, Severity
from egress.review.lint.loading import of_warning
from egress.review.lint.unseen import find_bodies, find_case, find_expired, find_in_tunnels, find_questions
from egress.review.lint.unspoken import find_unspoken

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from egress.config import LoadedPolicy
    from egress.errors import Problem
    from egress.policy import ScopeRules


def lint(loaded: LoadedPolicy, *, now: datetime) -> list[Finding]:
    """Everything that there is to say of a policy, by file in the order of loading, then by line."""
    scopes = loaded.policy.scopes
    found = [of_warning(warning) for warning in loaded.warnings]
    told_by_loader = {finding.file for finding in found if finding.code is Code.REFUSAL_IN_TUNNEL}
    found += find_unspoken(scopes, {printable(str(include.file)) for include in loaded.includes})
    found += find_refused_above(scopes)
    found += find_secrets(scopes, loaded.secrets, [str(path) for path in loaded.files])
    for scope in scopes:
        found += find_breadth(scope)
        found += _in_tunnels(scope, told_by_loader)
        found += find_case(scope)
        found += find_expired(scope, now)
        found += find_questions(scope)
        found += find_bodies(scope)
    return in_order(found, [str(path) for path in loaded.files])


def problems_of(findings: Iterable[Finding], severity: Severity) -> list[Problem]:
    """The findings of one severity, in the form of every other problem of a file."""
    return [finding.problem() for finding in findings if finding.severity is severity]


def in_order(findings: Iterable[Finding], files: Sequence[str]) -> list[Finding]:
    """Each finding once, by file in the order given (others after), then by line and code."""
    places = {name: place for place, name in enumerate(files)}
    return sorted(
        dict.fromkeys(findings),
        key=lambda finding: (
            places.get(finding.file, len(places)),
            finding.file,
            finding.line or 0,
            finding.code.value,
            finding.message,
        ),
    )


def _in_tunnels(scope: ScopeRules, told: set[str]) -> Iterator[Finding]:
    """Without what the loader has said of a whole file already."""
    for finding in find_in_tunnels(scope):
        if finding.code is not Code.REFUSAL_IN_TUNNEL or finding.file not in told:
            yield finding
