"""git over https through the proxy: clone, and a push of several megabytes."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from harness.station import KEY

if TYPE_CHECKING:
    from pathlib import Path

    from harness.station import Station

IDENTITY = {
    "GIT_AUTHOR_NAME": "Tester",
    "GIT_AUTHOR_EMAIL": "tester@example.test",
    "GIT_COMMITTER_NAME": "Tester",
    "GIT_COMMITTER_EMAIL": "tester@example.test",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
}


def test_git_clones_and_pushes_through_the_proxy(station: Station, tmp_path: Path) -> None:
    """A clone and a push of 12 MB (chunked, with Expect: 100-continue) pass; a denied host is refused with a reason."""
    bare = station.nginx.repositories / "tool.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True)
    subprocess.run(["git", "-C", str(bare), "config", "http.receivepack", "true"], check=True)

    def git(*words: str, cwd: Path = tmp_path) -> str:
        done = station.run("git", *words, cwd=cwd, **IDENTITY)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    window = station.window()
    git("clone", "https://allowed.test/git/tool.git", "work")
    work = tmp_path / "work"
    work.joinpath("noise.bin").write_bytes(os.urandom(12 << 20))
    git("checkout", "-q", "-b", "main", cwd=work)
    git("add", ".", cwd=work)
    git("commit", "-q", "-m", "noise", cwd=work)
    git("-c", "http.postBuffer=1048576", "push", "-q", "origin", "main", cwd=work)
    git("clone", "-q", "https://allowed.test/git/tool.git", "again")
    assert (tmp_path / "again/noise.bin").read_bytes() == work.joinpath("noise.bin").read_bytes()
    seen = window.seen()
    assert any("git-receive-pack" in one["line"] for one in seen)
    assert {one["key"] for one in seen} == {KEY}
    assert window.verdicts(len(seen)) == ["allow"] * len(seen)

    window = station.window()
    done = station.run("git", "clone", "https://evil.test/git/tool.git", "not", cwd=tmp_path, **IDENTITY)
    assert done.returncode != 0
    assert "403" in done.stderr
    assert window.verdicts(1) == ["deny"]
