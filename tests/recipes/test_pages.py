"""The pages themselves: whole policies without a finding, the parts that each has, and an index that lists them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from documents import ROOT, blocks, links
from rig.recipes import FOLDER, policies

from egress.config import PolicySource, load_policy
from egress.policy import Reason, Scope
from egress.review.lint import lint

if TYPE_CHECKING:
    from pathlib import Path

PAGES = sorted(page.name for page in FOLDER.glob("*.md") if page.name != "README.md")
# The others are about clients in a sandbox.
OF_THE_AUDIT = {"datasette.md"}
CLIENTS = [page for page in PAGES if page not in OF_THE_AUDIT]
HEADINGS = ["What the sandbox holds", "The policy", "Commands", "What can go wrong", "What this does not cover"]


@pytest.mark.parametrize(("page", "policy"), [(page, policy) for page in PAGES for policy in policies(page)])
def test_a_policy_of_a_page_loads_and_the_lint_finds_nothing(page: str, policy: str, tmp_path: Path) -> None:
    """Not even a note: it is what people copy. Each has a secret."""
    path = tmp_path / page.replace(".md", ".yaml")
    path.write_text(policy)
    loaded = load_policy([PolicySource(Scope.SANDBOX, path)])
    assert loaded.warnings == ()
    assert lint(loaded, now=datetime(2026, 1, 1, tzinfo=UTC)) == []
    assert loaded.secrets


@pytest.mark.parametrize("page", CLIENTS)
def test_a_page_has_all_its_parts(page: str) -> None:
    """In this order, with a policy under its heading; and what can go wrong names reasons that exist."""
    text = (FOLDER / page).read_text()
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == HEADINGS
    assert len(policies(page)) == len(blocks(FOLDER / page, "yaml"))
    told = {link.rsplit("/", 1)[-1].removesuffix(".md") for link in links(FOLDER / page) if "/reasons/" in link}
    assert told
    assert told <= {reason.value for reason in Reason}


def test_the_index_lists_every_page_and_the_guide_links_to_it() -> None:
    """A page that nothing leads to is not there."""
    assert sorted(set(links(FOLDER / "README.md")) & set(PAGES)) == PAGES
    assert "../recipes/README.md" in links(ROOT / "docs" / "guides" / "credentials.md")
