"""The lint: what in a policy does not hold as written, or holds wider than meant. Fast at any size.

All of it is pure but `sources`, which reads files.
"""

from __future__ import annotations

from egress.review.lint.documents import findings_json, findings_sarif
from egress.review.lint.findings import TITLES, Code, Finding, Severity
from egress.review.lint.lint import lint, problems_of
from egress.review.lint.sources import Checked, check_loaded, check_sources, unusable

__all__ = [
    "TITLES",
    "Checked",
    "Code",
    "Finding",
    "Severity",
    "check_loaded",
    "check_sources",
    "findings_json",
    "findings_sarif",
    "lint",
    "problems_of",
    "unusable",
]
