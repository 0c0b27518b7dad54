"""Every code has a page, and the examples on it are true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from egress.review.lint import TITLES, Code

from .build import checked, codes

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
PAGES = ROOT / "docs" / "lint"
FENCE = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
SCOPE = re.compile(r"# scope (\w+)\n")
# What no short text of a policy shows: modes of files, warnings that are not known yet, and a hundred rules.
WITHOUT_POLICY = {Code.UNUSABLE_FILE, Code.WRITABLE_BY_OTHERS, Code.DOUBTFUL_VALUE, Code.NOT_ALL_COMPARED}


def examples(section: str) -> Iterator[tuple[Code, tuple[tuple[str, str], ...]]]:
    """The policies under a heading of each page, with their scopes."""
    for code in Code:
        text = (ROOT / code.page).read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
        blocks = FENCE.findall(text)
        if blocks:
            scopes = [SCOPE.match(block) for block in blocks]
            yield code, tuple(zip([found[1] if found else "sandbox" for found in scopes], blocks, strict=True))


BAD, GOOD = list(examples("Example")), list(examples("What to do"))


def test_every_code_has_a_page_and_no_page_is_orphaned() -> None:
    """One page a code, besides the index, which has them all in order."""
    assert {path.name for path in PAGES.iterdir()} == {f"{code.value}.md" for code in Code} | {"README.md"}
    assert set(TITLES) == set(Code)
    index = (PAGES / "README.md").read_text()
    places = [
        index.index(f"[`{code.value}`]({code.value}.md) | {code.severity.value} | {TITLES[code]} |") for code in Code
    ]
    assert places == sorted(places)


@pytest.mark.parametrize("code", list(Code))
def test_a_page_explains_its_code(code: Code) -> None:
    """Title, code and severity, an example, and what to do."""
    page = (ROOT / code.page).read_text()
    assert page.startswith(f"# {TITLES[code]}\n\nCode: `{code.value}` · severity: {code.severity.value}\n")
    assert "## Example\n" in page
    assert "## What to do\n" in page
    assert max(map(len, page.splitlines())) <= 120


def test_every_code_that_a_policy_can_show_is_shown() -> None:
    """No page is without examples but those about what no short policy shows."""
    assert {code for code, _ in BAD} == set(Code) - WITHOUT_POLICY


@pytest.mark.parametrize(("code", "policy"), BAD, ids=[code for code, _ in BAD])
def test_the_example_of_a_page_has_its_finding(code: Code, policy: tuple[tuple[str, str], ...], tmp_path: Path) -> None:
    """What the page shows is found, and nothing worse than it."""
    found = checked(tmp_path, *policy)
    assert code.value in codes(found)
    assert {finding.code for finding in found.findings if finding.code[0] == "E"} <= {code}


@pytest.mark.parametrize(("code", "policy"), GOOD, ids=[code for code, _ in GOOD])
def test_what_a_page_proposes_has_no_finding(code: Code, policy: tuple[tuple[str, str], ...], tmp_path: Path) -> None:
    """Whoever does what the page says is told nothing more, of this code or another."""
    assert code
    assert codes(checked(tmp_path, *policy)) == []
