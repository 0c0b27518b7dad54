"""Policy files that another user owns, or could replace, are found."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from egress.config import foreign_owners

if TYPE_CHECKING:
    from pathlib import Path

STRANGER = 54_321


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy in a folder of its own."""
    path = tmp_path / "etc" / "policy.yaml"
    path.parent.mkdir()
    path.write_text("version: 1\n")
    return path


def test_files_of_root_and_of_the_own_user_pass(policy: Path) -> None:
    """Nobody else can change them."""
    assert foreign_owners([policy]) == ()


def test_a_file_of_another_user_is_named(policy: Path) -> None:
    """Seen from a user who owns nothing on the way."""
    if os.geteuid() == 0:
        os.chown(policy, STRANGER, STRANGER)
        found = foreign_owners([policy])
    else:
        found = foreign_owners([policy], user=STRANGER)
    assert any("owns this file" in problem.message for problem in found)
    assert all(problem.hint for problem in found)


def test_a_folder_behind_a_link_counts(policy: Path, tmp_path: Path) -> None:
    """A link into a folder of the sandbox's is as good as a file of the sandbox's."""
    link = tmp_path / "link.yaml"
    link.symlink_to(policy)
    if os.geteuid() == 0:
        os.chown(policy.parent, STRANGER, STRANGER)
        found = foreign_owners([link])
    else:
        found = foreign_owners([link], user=STRANGER)
    assert any(f"the folder {policy.parent}" in problem.message for problem in found)
