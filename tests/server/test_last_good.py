"""The last good policy on disk: whole or not at all, of the same files, from nobody but the proxy's own user."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from egress.config import PolicySource
from egress.errors import StateError
from egress.policy import Scope
from egress.server import last_good
from egress.server.last_good import FOLDER, drop, find, keep, sources_of, stage

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCES = sources_of((PolicySource(Scope.ORG, Path("/etc/org.yaml")), PolicySource(Scope.SANDBOX, Path("own.yaml"))))
CONTENTS = {Path("/etc/org.yaml"): b"version: 1\n", Path("/etc/hosts.txt"): "b\u00fccher.test\n".encode()}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with something kept."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    stage(folder, SOURCES, CONTENTS, "d1")
    keep(folder)
    return folder


def test_what_is_kept_comes_back(state: Path) -> None:
    """Texts, digest, sources; a policy file that was named without its folder is known by the whole path."""
    kept = find(state, SOURCES)
    assert kept is not None
    assert kept.texts == {path: data.decode() for path, data in CONTENTS.items()}
    assert (kept.digest, kept.sources) == ("d1", SOURCES)
    assert all(Path(path).is_absolute() for _, path in SOURCES)


def test_it_is_its_users_alone(state: Path) -> None:
    """File and folder, whatever the umask."""
    before = os.umask(0)
    try:
        stage(state, SOURCES, CONTENTS, "d2")
        keep(state)
    finally:
        os.umask(before)
    (file,) = (state / FOLDER).iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((state / FOLDER).stat().st_mode) == 0o700


def test_what_is_staged_only_is_not_kept(state: Path) -> None:
    """It was loaded, and never in force."""
    stage(state, SOURCES, CONTENTS, "d2")
    kept = find(state, SOURCES)
    assert kept is not None
    assert kept.digest == "d1"


def test_nothing_kept_is_nothing(tmp_path: Path, state: Path) -> None:
    """A first start, and one after everything was dropped."""
    assert find(tmp_path, SOURCES) is None
    drop(tmp_path)
    drop(state)
    assert find(state, SOURCES) is None


def test_what_cannot_be_written_whole_is_not_there(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full: nothing is staged, so nothing can be kept, and a part is never taken for the whole."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(last_good.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        stage(state, SOURCES, CONTENTS, "d2")
    assert [path.name for path in (state / FOLDER).iterdir()] == ["policy.json"]
    with pytest.raises(FileNotFoundError):
        keep(state)


def the_file(state: Path) -> Path:
    """What is kept."""
    return state / FOLDER / "policy.json"


def rewritten(state: Path, **changed: object) -> None:
    """Other values, with a sum that is right."""
    import hashlib

    values = json.loads(the_file(state).read_bytes().partition(b"\n")[2]) | changed
    body = json.dumps(values).encode()
    the_file(state).write_bytes(b"sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def linked(state: Path) -> None:
    """A link to a copy."""
    the_file(state).rename(state / "copy")
    the_file(state).symlink_to(state / "copy")


def linked_folder(state: Path) -> None:
    """The same, for the folder."""
    (state / FOLDER).rename(state / "copy")
    (state / FOLDER).symlink_to(state / "copy")


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (lambda state: os.truncate(the_file(state), 100), "damaged"),
    "empty": (lambda state: the_file(state).write_bytes(b""), "damaged"),
    "one byte changed": (
        lambda state: the_file(state).write_bytes(the_file(state).read_bytes().replace(b"version: 1", b"version: 2")),
        "damaged",
    ),
    "no texts": (lambda state: rewritten(state, texts=None), "damaged"),
    "texts that are a list": (lambda state: rewritten(state, texts=[]), "damaged"),
    "no moment": (lambda state: rewritten(state, moment=None), "damaged"),
    "another format": (lambda state: rewritten(state, format=2), "another version"),
    "other files": (lambda state: rewritten(state, sources=[["sandbox", "/etc/org.yaml"]]), "other policy files"),
    "readable by others": (lambda state: the_file(state).chmod(0o644), "open to other users"),
    "writable by others": (lambda state: the_file(state).chmod(0o602), "open to other users"),
    "a folder that is open to others": (lambda state: (state / FOLDER).chmod(0o755), "open to other users"),
    "a state folder that others can change": (lambda state: state.chmod(0o703), "changed by other users"),
    "a link": (linked, "cannot be read"),
    "a folder that is a link": (linked_folder, "cannot be read"),
    "a folder": (lambda state: (the_file(state).unlink(), the_file(state).mkdir(0o700)), "no file of ours"),
}


@pytest.mark.parametrize(("change", "told"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_what_anybody_could_have_changed_is_not_used(state: Path, change: Callable[[Path], object], told: str) -> None:
    """INVARIANT out of the sandbox's reach: it says why, and is as good as not there."""
    change(state)
    with pytest.raises(StateError, match=told):
        find(state, SOURCES)


@pytest.mark.parametrize("what", ["file", "folder", "state"])
def test_what_belongs_to_another_user_is_not_used(state: Path, what: str) -> None:
    """Who owns it can have written it, whatever its mode says."""
    if os.geteuid() != 0:
        pytest.skip("cannot run here: needs root, to give files away")
    os.chown({"file": the_file(state), "folder": state / FOLDER, "state": state}[what], 65534, 65534)
    with pytest.raises(StateError, match=r"belongs to user 65534|changed by other users"):
        find(state, SOURCES)
