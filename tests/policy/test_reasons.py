"""Every reason has a text for people and a page, and no page is orphaned."""

from __future__ import annotations

from pathlib import Path

import pytest

from egress.policy import TEXTS, Reason

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "reasons"
SECTIONS = ("## When it happens", "## Example", "## What to do")


def test_every_reason_has_a_text_and_no_text_is_orphaned() -> None:
    """One row a reason."""
    assert set(TEXTS) == set(Reason)


def test_every_reason_has_a_page_and_no_page_is_orphaned() -> None:
    """One page a reason, besides the index."""
    assert {path.name for path in PAGES.iterdir()} == {f"{reason.value}.md" for reason in Reason} | {"README.md"}


@pytest.mark.parametrize("reason", list(Reason))
def test_a_text_says_what_happened_and_what_to_do(reason: Reason) -> None:
    """A short title, one plain sentence, a hint for every denial, and a status that fits."""
    text = TEXTS[reason]
    allowed = reason in {Reason.RULE_ALLOW, Reason.DEFAULT_ALLOW, Reason.WOULD_DENY, Reason.IDENTITY_PLACEHOLDER}
    assert 0 < len(text.title) <= 40
    assert text.sentence.endswith(".")
    assert bool(text.hint) is (not allowed or reason is Reason.WOULD_DENY)
    assert (text.status == 200) is allowed
    assert text.sentence.isascii()
    assert text.hint.isascii()


@pytest.mark.parametrize("reason", list(Reason))
def test_a_page_explains_its_reason(reason: Reason) -> None:
    """Title and code, when it happens, an example, and what to do."""
    page = (ROOT / reason.page).read_text(encoding="utf-8")
    assert page.startswith(f"# {TEXTS[reason].title}\n\nReason code: `{reason.value}`")
    assert all(section in page for section in SECTIONS)
    assert TEXTS[reason].sentence in page
    assert max(map(len, page.splitlines())) <= 120


def test_the_index_of_the_pages_lists_every_reason() -> None:
    """Also in the order of the table."""
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    places = [index.index(f"]({reason.value}.md)") for reason in Reason]
    assert places == sorted(places)
