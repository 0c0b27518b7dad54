"""Who may have written a file, and what is no text: refused before anything in it is believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from egress.config.reading import read_text


def make(folder: Path, mode: int = 0o600, name: str = "policy.yaml") -> Path:
    """A file of a mode."""
    path = folder / name
    path.write_text("version: 1\n")
    path.chmod(mode)
    return path


def test_private_file_is_read(tmp_path: Path) -> None:
    """Nothing to say of a file that only its owner writes."""
    found = read_text(make(tmp_path, 0o644))
    assert (found.text, found.problems, found.warnings) == ("version: 1\n", [], [])


def test_world_writable_file_is_refused(tmp_path: Path) -> None:
    """INVARIANT out-of-the-sandbox's-reach: the sandbox's user could write it."""
    found = read_text(make(tmp_path, 0o666))
    assert found.text is None
    assert "every user of this machine can change this file" in str(found.problems[0])
    assert "chmod o-w" in found.problems[0].hint


def test_world_writable_folder_is_refused(tmp_path: Path) -> None:
    """Whoever writes the folder replaces the file."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    found = read_text(make(folder))
    assert found.text is None
    assert str(folder) in found.problems[0].message


def test_sticky_folder_is_fine(tmp_path: Path) -> None:
    """As in /tmp: nobody replaces another user's file there."""
    folder = tmp_path / "sticky"
    folder.mkdir()
    folder.chmod(0o1777)
    assert read_text(make(folder)).text is not None


def test_link_into_a_writable_folder_is_refused(tmp_path: Path) -> None:
    """TAMPER-004: a link is followed, and where it ends is what counts."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    workspace.chmod(0o777)
    link = tmp_path / "policy.yaml"
    link.symlink_to(make(workspace, name="real.yaml"))
    assert read_text(link).text is None


def test_link_to_a_private_file_is_read(tmp_path: Path) -> None:
    """Links are ordinary (a mounted ConfigMap is made of them)."""
    link = tmp_path / "link.yaml"
    link.symlink_to(make(tmp_path))
    assert read_text(link).text == "version: 1\n"


@pytest.mark.parametrize(("group_offset", "warned"), [(0, False), (1, True)])
def test_group_writable_file_warns_unless_the_group_is_private(
    tmp_path: Path, group_offset: int, *, warned: bool
) -> None:
    """Many systems give each user a group of its own and umask 002: no news there."""
    path = make(tmp_path)
    try:
        os.chown(path, -1, os.geteuid() + group_offset)
    except PermissionError:
        pytest.skip("cannot run here: giving a file to a group that one is not in needs root")
    path.chmod(0o664)
    found = read_text(path)
    assert found.text is not None
    assert bool(found.warnings) is warned


def test_file_of_another_user_warns(tmp_path: Path) -> None:
    """Its owner can change it whatever the mode says; common in containers, so no error."""
    if os.geteuid() != 0:
        pytest.skip("cannot run here: giving a file to another user needs root")
    path = make(tmp_path)
    os.chown(path, 4242, -1)
    assert "user 4242 owns this file" in read_text(path).warnings[0].message


def test_missing_file_says_so(tmp_path: Path) -> None:
    """No traceback, a sentence."""
    assert read_text(tmp_path / "none.yaml").problems[0].message == "no such file"


def test_folder_device_fifo_and_loop_are_refused(tmp_path: Path) -> None:
    """None of them hangs or raises."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (tmp_path, fifo, Path("/dev/null"), loop, Path("a\0b")):
        found = read_text(path)
        assert found.text is None
        assert found.problems


@pytest.mark.parametrize(("size", "read"), [(10, True), (11, False)])
def test_size_is_bounded(tmp_path: Path, size: int, *, read: bool) -> None:
    """At the limit it is read, one byte over it is not."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    assert (read_text(path, limit=10).text is not None) is read
