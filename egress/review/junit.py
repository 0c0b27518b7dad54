"""Results of cases as JUnit XML, the form that CI systems read: a suite for each file, a test case for each case.

XML has no way to write most control characters, so every text is made printable first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from egress.config import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.review.verify import CaseResult, FileResult


def junit_text(files: Sequence[FileResult]) -> str:
    """The XML document, with a final newline. A file that could not be used is one case in error."""
    root = ET.Element("testsuites", _counts(files))
    root.set("name", "egress policy test")
    for file in files:
        suite = ET.SubElement(root, "testsuite", {"name": printable(file.file)} | _counts([file]))
        for result in file.results:
            _add_case(suite, result)
        if file.problems:
            unusable = _element(suite, "testcase", classname=file.file, name="the file can be used", file=file.file)
            error = _element(unusable, "error", message=str(file.problems[0]), type="unusable")
            error.text = "\n".join(printable(str(problem)) for problem in file.problems)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _add_case(suite: ET.Element, result: CaseResult) -> None:
    case = result.case
    name = f"{case.name}: {case.request}" if case.name else case.request
    element = _element(suite, "testcase", classname=case.file, name=name, file=case.file, line=str(case.line))
    if result.passed:
        return
    said = "; ".join(f"{each.what}: expected {each.expected}, found {each.found}" for each in result.mismatches)
    failure = _element(element, "failure", message=f"{case.file}:{case.line}: {said}", type=result.mismatches[0].what)
    failure.text = printable(result.telling)


def _element(parent: ET.Element, tag: str, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, tag, {key: printable(value) for key, value in attributes.items()})


def _counts(files: Sequence[FileResult]) -> dict[str, str]:
    unusable = sum(bool(file.problems) for file in files)
    return {
        "tests": str(sum(len(file.results) for file in files) + unusable),
        "failures": str(sum(file.failed for file in files)),
        "errors": str(unusable),
    }
