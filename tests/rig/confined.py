"""`egress exec` as both kinds of user, in a folder of its own that the command's user can reach.

The test's interpreter may stand where only root can read: then it is shown to the others, in a mount namespace of the
test's own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT: Final = Path(__file__).parents[2]
ENTRY: Final = (sys.executable, "-c", "from egress.cli.main import main; main()")
# Of nobody, and with no entry in the list of users.
UID: Final = 51_234
_SHOWN: Final = """
set -e
mount --make-rprivate /
mkdir -p /mnt/egress-exec-test
mount --bind "$0" /mnt/egress-exec-test
mount -t tmpfs -o mode=755 egress-exec-test "$1"
mkdir -p "$0"
mount --move /mnt/egress-exec-test "$0"
shift
exec "$@"
"""


class Road(StrEnum):
    """Who starts it: root, who drops to another user, or a user without any privilege."""

    ROOT = "root"
    USER = "user"


def require_namespaces() -> None:
    """Skip where this machine can make no namespaces."""
    if os.geteuid() or subprocess.run(["unshare", "-nmpf", "true"], check=False, capture_output=True).returncode:
        pytest.skip("cannot run here: needs root and namespaces")


class Place:
    """A home with a policy, a state folder and a working folder; all of it gone at the end."""

    def __init__(self, road: Road) -> None:
        self.road = road
        self.top = Path(tempfile.mkdtemp(prefix="egress-exec-", dir="/srv"))
        self.top.chmod(0o755)
        self.home = self.top / "home"
        self.work = self.home / "work"
        self.state = self.home / "state" / "egress"
        self.work.mkdir(parents=True)
        self.state.parent.mkdir()
        self.work.chmod(0o777)

    def put(self, name: str, text: str) -> Path:
        """A file below the home."""
        path = self.home / name
        path.write_text(text)
        path.chmod(0o644)
        return path

    def command(self, *options: str, argv: Sequence[str]) -> list[str]:
        """The whole command line, with what makes it this road's."""
        if self.road is Road.USER:
            subprocess.run(["chown", "-R", f"{UID}:{UID}", self.home], check=True)
        line = [*ENTRY, "exec", "--state-dir", str(self.state), *options, "--", *argv]
        if self.road is Road.USER:
            line = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", *line]
        prefix = Path(sys.base_prefix)
        closed = [folder for folder in prefix.parents if not folder.stat().st_mode & 0o001]
        if not closed:
            return line
        return ["unshare", "-m", "sh", "-c", _SHOWN, str(prefix), str(closed[0]), *line]

    def env(self, **more: str) -> dict[str, str]:
        """What it is started with."""
        path = os.environ["PATH"]
        return {"PATH": path, "HOME": str(self.home), "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT), **more}

    def run(
        self, *options: str, argv: Sequence[str], stdin: str = "", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            self.command(*options, argv=argv),
            cwd=self.work,
            env=self.env(**(env or {})),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )


@contextlib.contextmanager
def running(place: Place, policy: Path, script: str, *, stderr: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """A script of the shell that runs inside, and has said `ready`."""
    line = place.command("--quiet", "--policy", str(policy), argv=["sh", "-c", script])
    process = subprocess.Popen(line, cwd=place.work, env=place.env(), stdout=subprocess.PIPE, stderr=stderr, text=True)
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def places(road: Road) -> Iterator[Place]:
    """One, for a fixture."""
    require_namespaces()
    place = Place(road)
    try:
        yield place
    finally:
        _remove(place.top)


def _remove(folder: Path) -> None:
    """Remove a folder in which a run may be clearing up still."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
            return
        time.sleep(0.1)
    shutil.rmtree(folder)
