"""docs/threat-model.md as data: every threat has a test that exists, or a class of the corpus."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from functools import cache

import pytest
from corpus_runner.waiting import WAITING_IDS
from documents import ROOT

ROW = re.compile(r"^\| T(\d+) \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Threat:
    """One row: its number, and what shows that it is covered."""

    number: int
    shown_by: tuple[str, ...]


THREATS = [
    Threat(int(match[1]), tuple(re.findall(r"`([^`]+)`", match[4])))
    for match in ROW.finditer((ROOT / "docs" / "threat-model.md").read_text())
]


@cache
def functions(name: str) -> frozenset[str]:
    """Name the test functions of one file."""
    tree = ast.parse((ROOT / name).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@cache
def classes() -> frozenset[str]:
    """Name the classes of the corpus of which at least one case is run."""
    cases = json.loads((ROOT / "tests/corpus/bypass_cases.json").read_text())
    return frozenset(case["class"] for case in cases if case["id"] not in WAITING_IDS)


def is_real(token: str) -> bool:
    """Tell whether one entry of the last column names something that exists."""
    kind, _, name = token.partition(":")
    if kind == "corpus":
        return name in classes()
    file, _, function = token.partition("::")
    return file.startswith("tests/") and (ROOT / file).is_file() and function in functions(file)


def test_every_threat_has_its_row_once_and_in_order() -> None:
    """The table is complete: T1 to T49, none twice, none missing."""
    assert [threat.number for threat in THREATS] == list(range(1, 50))


@pytest.mark.parametrize("threat", THREATS, ids=[f"T{threat.number}" for threat in THREATS])
def test_what_shows_a_threat_covered_exists(threat: Threat) -> None:
    """Each entry of the last column is a test in its file, or a class of the corpus."""
    assert threat.shown_by
    assert [token for token in threat.shown_by if not is_real(token)] == []
