"""Findings for programs: JSON in a shape of our own, and SARIF 2.1.0 (OASIS, 27 March 2020) for code scanning.

Both hold every finding. The JSON's shape is described in docs/guides/lint.md; keys are added to it, never renamed.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from egress.review.lint.findings import TITLES, Code, Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

SARIF_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


def findings_json(findings: Sequence[Finding], *, version: str) -> dict[str, object]:
    """`version` is the program's. `usable`: whether a policy with these findings can be used."""
    counts = {severity.value: sum(f.severity is severity for f in findings) for severity in Severity}
    return {
        "version": 1,
        "egress": version,
        "usable": not counts[Severity.ERROR.value],
        "counts": counts,
        "findings": [_json(finding) for finding in findings],
    }


def findings_sarif(findings: Sequence[Finding], *, version: str) -> dict[str, object]:
    """One run, with a rule for each code that was found. A path that is not absolute is relative to the folder."""
    codes = sorted({finding.code for finding in findings})
    driver = {"name": "egress", "semanticVersion": version, "rules": [_rule(code) for code in codes]}
    places = {code: place for place, code in enumerate(codes)}
    results = [_result(finding, places[finding.code]) for finding in findings]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _json(finding: Finding) -> dict[str, object]:
    return {
        "code": finding.code.value,
        "severity": finding.severity.value,
        "file": finding.file,
        "line": finding.line,
        "where": finding.where or None,
        "message": finding.message,
        "hint": finding.hint or None,
        "page": finding.code.page,
    }


def _rule(code: Code) -> dict[str, object]:
    return {
        "id": code.value,
        "name": "".join(part.capitalize() for part in code.name.split("_")),
        "shortDescription": {"text": TITLES[code]},
        "help": {"text": f"See {code.page}."},
        "defaultConfiguration": {"level": code.severity.value},
    }


def _result(finding: Finding, place: int) -> dict[str, object]:
    parts = [finding.where, finding.message] if finding.where else [finding.message]
    text = ": ".join(parts) + (f"; {finding.hint}" if finding.hint else "")
    physical: dict[str, object] = {"artifactLocation": {"uri": _uri(finding.file)}}
    if finding.line is not None:
        physical["region"] = {"startLine": finding.line}
    return {
        "ruleId": finding.code.value,
        "ruleIndex": place,
        "level": finding.severity.value,
        "message": {"text": text},
        "locations": [{"physicalLocation": physical}],
    }


def _uri(file: str) -> str:
    """A path as a URI reference: a colon in the first segment of a relative path would read as a scheme."""
    path = PurePosixPath(file)
    return f"file://{quote(str(path))}" if path.is_absolute() else quote(str(path))
