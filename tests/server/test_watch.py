"""Watching files: a change of what they say is told once, when it has settled; anything else is not."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from egress.config import PolicySource, load_policy
from egress.config.recorded import Record, recording
from egress.errors import ConfigError
from egress.policy import Scope
from egress.server import watch as watch_module
from egress.server.watch import Watcher, fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

POLICY = "version: 1\nrules: [{allow: {file: hosts.txt}}]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As an orchestrator mounts files: links to a folder that is swapped as a whole."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.yaml").write_text(POLICY)
        (tmp_path / name / "hosts.txt").write_text(f"{name}.test\n")
    (tmp_path / "current").symlink_to("one")
    for name in ("policy.yaml", "hosts.txt"):
        (tmp_path / name).symlink_to(f"current/{name}")
    return tmp_path


def read(folder: Path) -> Record:
    """What a load reads."""
    record = Record()
    with recording(record):
        load_policy([PolicySource(Scope.SANDBOX, folder / "policy.yaml")])
    return record


def swap(folder: Path) -> None:
    """Another folder takes the place of the first, at once."""
    (folder / "new").symlink_to("two")
    (folder / "new").replace(folder / "current")


def edit(folder: Path) -> None:
    """In place, of the same length, at the time that it had."""
    path = folder / "one" / "hosts.txt"
    before = path.stat()
    path.write_text("eno.test\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(folder: Path) -> None:
    """As editors do: another file under the same name."""
    (folder / "one" / "new").write_text("other.test\n")
    (folder / "one" / "new").replace(folder / "one" / "hosts.txt")


def remove(folder: Path) -> None:
    """The file is gone."""
    (folder / "one" / "hosts.txt").unlink()


def open_up(folder: Path) -> None:
    """The same text, and everybody can change it: a load may refuse it."""
    (folder / "one" / "hosts.txt").chmod(0o666)


@pytest.mark.parametrize("change", [swap, edit, replace, remove, open_up])
def test_a_change_is_told_at_the_second_look_and_once(folder: Path, change: Callable[[Path], None]) -> None:
    """Whatever became of the load that it led to."""
    watcher = Watcher(read(folder).fingerprints)
    assert [watcher.look(), watcher.look()] == [False, False]
    change(folder)
    assert [watcher.look(), watcher.look(), watcher.look(), watcher.look()] == [False, True, False, False]


def test_files_are_watched_by_what_they_say(folder: Path) -> None:
    """Touched, or written again with the same bytes: nothing changed."""
    watcher = Watcher(read(folder).fingerprints)
    (folder / "one" / "hosts.txt").touch()
    replace(folder)
    (folder / "one" / "hosts.txt").write_text("one.test\n")
    assert [watcher.look(), watcher.look(), watcher.look()] == [False] * 3


def test_a_file_that_is_being_written_is_not_told_of(folder: Path) -> None:
    """Each look finds another half of it; once it stays, it is told."""
    watcher = Watcher(read(folder).fingerprints)
    for number in range(4):
        (folder / "one" / "hosts.txt").write_text("".join(f"n{n}.test\n" for n in range(number + 2)))
        assert not watcher.look()
    assert watcher.look()


def test_a_file_that_is_put_back_is_no_change(folder: Path) -> None:
    """Before anybody was told."""
    watcher = Watcher(read(folder).fingerprints)
    path = folder / "one" / "hosts.txt"
    path.write_text("two.test\n")
    assert not watcher.look()
    path.write_text("one.test\n")
    assert [watcher.look(), watcher.look(), watcher.look()] == [False] * 3


def test_after_a_refusal_the_files_of_before_are_still_watched(folder: Path) -> None:
    """A policy that is broken names no list, and a list that changes still matters once it is mended."""
    watcher = Watcher(read(folder).fingerprints)
    (folder / "one" / "policy.yaml").write_text("rules: [")
    assert [watcher.look(), watcher.look()] == [False, True]
    record = Record()
    with recording(record), pytest.raises(ConfigError):
        load_policy([PolicySource(Scope.SANDBOX, folder / "policy.yaml")])
    watcher.was_read(record.fingerprints, whole=False)
    assert set(watcher.files) == {folder / "policy.yaml", folder / "hosts.txt"}
    assert [watcher.look(), watcher.look()] == [False, False]
    (folder / "one" / "policy.yaml").write_text(POLICY)
    assert [watcher.look(), watcher.look()] == [False, True]
    watcher.was_read(read(folder).fingerprints, whole=True)
    assert [watcher.look(), watcher.look()] == [False, False]


def test_a_file_is_read_again_only_when_its_times_say_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at files that rest costs a `stat` each, whatever their size."""
    old = time.time() - 60
    for path in (folder / "one").iterdir():
        os.utime(path, (old, old))
    # The time of a change of the inode cannot be set, so the wait for it is shortened instead.
    monkeypatch.setattr(watch_module, "_UNSETTLED_NS", 0)
    watcher = Watcher(read(folder).fingerprints)
    watcher.look()
    asked: list[Path] = []
    monkeypatch.setattr(watch_module, "fingerprint_of", lambda path: asked.append(path) or fingerprint_of(path))
    watcher.look()
    assert asked == []
    edit(folder)
    watcher.look()
    assert asked == [folder / "hosts.txt"]


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A FIFO, a folder, a loop of links, a name that is none."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "fifo", tmp_path, tmp_path / "loop", tmp_path / "gone", tmp_path / "a\0b"):
        assert fingerprint_of(path) is None
