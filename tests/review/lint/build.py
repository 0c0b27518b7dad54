"""Policies for the tests of the lint, from YAML text as people write it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from egress.config import PolicySource
from egress.policy import Scope
from egress.review.lint import check_sources

if TYPE_CHECKING:
    from pathlib import Path

    from egress.policy import Rule
    from egress.review.lint import Checked

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def checked(folder: Path, *texts: str | tuple[str, str]) -> Checked:
    """Check texts as one policy: of scope sandbox, or (scope, text). `version: 1` is added."""
    (folder / "lists").mkdir(exist_ok=True)
    (folder / "lists" / "empty.txt").write_text("# none\n")
    sources = []
    for number, given in enumerate(texts):
        scope, text = ("sandbox", given) if isinstance(given, str) else given
        path = folder / f"{scope}{number}.yaml"
        path.write_text(f"version: 1\n{text}")
        sources.append(PolicySource(Scope(scope), path))
    return check_sources(sources, now=NOW)


def codes(found: Checked) -> list[str]:
    """The codes of the findings, in order."""
    return [finding.code.value for finding in found.findings]


def with_terms(rule: Rule, **terms: object) -> Rule:
    """The rule with further terms."""
    return replace(rule, **terms)  # type: ignore[arg-type]
