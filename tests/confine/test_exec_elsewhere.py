"""What `egress exec` hides and holds stays so by every path that leads there, and when a file is replaced outside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rig.confined import Place, Road, places, running

from egress.confine.exec_aliases import Mounted, aliases, read_mounts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

pytestmark = pytest.mark.e2e

DENY = "version: 1\ndefault: deny\n"
ALLOW = "version: 1\ndefault: allow\n"
SECRET = "version: 1\ndefault: deny\nsecrets: {{key: {{{source}, hosts: [api.example]}}}}\n"
# The home a second time, one secret file alone, and a chroot's /proc, /run and terminals; then what is after them.
_MOUNTED = """
set -e
mount --bind "$0/home" "$0/again"
mount --bind "$0/home/token" "$0/alone"
mount -t proc proc "$0/proc"
mount --bind /run "$0/run"
mount --bind /dev/pts "$0/pts"
exec "$@"
"""
_TRIED = """
cd "$0"
cat again/state/egress/ca/ca-key.pem again/token alone
ls proc pts run
echo 'default: allow' >> again/policies/policy.yaml
mv again/policies/policy.yaml again/policies/other
mv again/policies again/other
touch again/policies/beside
echo 'default: allow' >> again/loose.yaml
mv again/loose.yaml again/another
"""


@pytest.fixture(params=list(Road))
def either(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A place of each road."""
    yield from places(request.param)


@pytest.fixture
def place() -> Iterator[Place]:
    """A place of a user's."""
    yield from places(Road.USER)


def policy_in(place: Place, folder: str, text: str = DENY) -> Path:
    """A policy in a folder of its own below the home."""
    (place.home / folder).mkdir(exist_ok=True)
    return place.put(f"{folder}/policy.yaml", text)


def test_other_paths_lead_to_nothing_else(either: Place) -> None:
    """Bind mounts of a folder above or of the file itself; the machine's /proc, /run and terminals in a chroot."""
    policy = policy_in(either, "policies", SECRET.format(source="file: ../token"))
    # In a folder that the user needs, so that the file alone is held.
    loose = either.put("loose.yaml", "watch: false\n")
    either.put("token", "canary").chmod(0o666)
    for name in ("again", "proc", "run", "pts"):
        (either.top / name).mkdir()
    (either.top / "alone").touch()
    options = ("--quiet", "--policy", str(policy), "--config", str(loose))
    line = either.command(*options, argv=["sh", "-c", _TRIED, str(either.top)])
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", _MOUNTED, str(either.top), *line],
        cwd=either.work,
        env=either.env(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["proc:", "pts:", "run:"], done.stderr
    assert policy.read_text() == SECRET.format(source="file: ../token")
    assert list(policy.parent.iterdir()) == [policy]
    assert loose.read_text() == "watch: false\n"
    assert (either.home / "token").read_text() == "canary"


def waiting(place: Place, policy: Path, then: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """A command that waits until it is told to go on, and does something."""
    os.mkfifo(place.work / "fifo")
    (place.work / "fifo").chmod(0o666)
    return running(place, policy, f"echo ready; read l < fifo; {then}", stderr=subprocess.PIPE)


def replace(policy: Path) -> None:
    """As an editor does: another file, under the same name, of the same owner."""
    owner = policy.stat()
    new = policy.with_suffix(".new")
    new.write_text(DENY + "# replaced\n")
    os.chown(new, owner.st_uid, owner.st_gid)
    new.replace(policy)


def test_a_policy_that_is_replaced_outside_stays_read_only(place: Place) -> None:
    """Its cover goes with the file that it lay over; the folder's stays. Nothing can be put beside it either."""
    policy = policy_in(place, "policies")
    with waiting(
        place, policy, f"echo 'default: allow' >> {policy}; mv {policy} {policy}.old; touch {policy}.2"
    ) as process:
        replace(policy)
        (place.work / "fifo").write_text("go\n")
        _, said = process.communicate(timeout=30)
    assert policy.read_text() == DENY + "# replaced\n"
    assert said.count("Read-only file system") == 3
    assert sorted(path.name for path in policy.parent.iterdir()) == ["policy.yaml"]


def test_a_policy_that_could_be_written_since_is_told(place: Place) -> None:
    """Where the command works its folder stays open: who replaced the file reads that he should look at it."""
    policy = place.put("policy.yaml", DENY)
    with waiting(place, policy, "true") as process:
        replace(policy)
        (place.work / "fifo").write_text("go\n")
        _, said = process.communicate(timeout=30)
    assert f"`{policy}` was replaced while the command ran" in said
    assert f"`{policy}` was replaced" not in place.run("--policy", str(policy), argv=["true"]).stderr


@pytest.mark.parametrize(("folder", "refused"), [(".", True), ("policies", False)])
def test_only_a_policy_that_stays_read_only_is_watched(place: Place, folder: str, *, refused: bool) -> None:
    """A change of the command's own would count at once."""
    policy = policy_in(place, folder)
    done = place.run("--quiet", "--watch", "--policy", str(policy), argv=["echo", "ran"])
    assert done.stdout == ("" if refused else "ran\n")
    assert ("with --watch the command could change the policy" in " ".join(done.stderr.split())) is refused


def test_nothing_is_put_beside_the_record(place: Place) -> None:
    """A journal there, of the command's making, would be played back into it at the next start."""
    policy = policy_in(place, "policies")
    (place.home / "record").mkdir()
    record = place.home / "record" / "audit.db"
    script = f"echo canary > {record}-journal; ls {record.parent}"
    done = place.run("--quiet", "--policy", str(policy), "--audit", str(record), argv=["sh", "-c", script])
    assert "audit.db" in done.stdout.split(), done.stderr
    assert not record.with_name("audit.db-journal").exists()


@pytest.mark.parametrize("named", ["[{}]", "[sh, {}]"])
def test_a_program_of_the_proxys_cannot_be_changed(place: Place, named: str) -> None:
    """It is run for a secret, outside, while the command runs; itself, or by an interpreter."""
    (place.home / "tools").mkdir()
    program = place.put("tools/token", "#!/bin/sh\necho canary\n")
    program.chmod(0o755)
    policy = policy_in(place, "policies", SECRET.format(source=f"command: {named.format(program)}"))
    script = f"echo 'touch /escaped' >> {program}; mv {program} {program}.old; mv {program.parent} {place.home}/other"
    done = place.run("--quiet", "--policy", str(policy), argv=["sh", "-c", script])
    assert program.read_text() == "#!/bin/sh\necho canary\n", done.stderr


def test_a_program_that_could_be_put_in_front_is_refused(place: Place) -> None:
    """By a folder of the PATH that the command can write to, there or not."""
    policy = policy_in(place, "policies", SECRET.format(source="command: [cat, /dev/null]"))
    path = f"{place.home}/.local/bin:{os.environ['PATH']}"
    done = place.run("--policy", str(policy), argv=["echo", "ran"], env={"PATH": path})
    assert done.stdout == ""
    assert "where the command could put another" in " ".join(done.stderr.split())
    assert place.run("--quiet", "--policy", str(policy), argv=["echo", "ran"]).stdout == "ran\n"


def test_no_descriptor_above_the_limit_comes_along(place: Place) -> None:
    """The limit was lowered after it was opened: a folder, from which `..` leads out."""
    policy = policy_in(place, "policies")
    line = place.command("--quiet", "--policy", str(policy), argv=["sh", "-c", "ls /proc/self/fd"])
    opening = "import os, resource, sys\nos.dup2(os.open('/', os.O_RDONLY), 3000)\n"
    opening += "resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000))\nos.execvp(sys.argv[1], sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", opening, *line],
        cwd=place.work,
        env=place.env(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "3000" not in done.stdout.split()
    assert "0" in done.stdout.split()


TABLE = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 8:1 /home /srv/with\\040space rw - ext4 /dev/sda1 rw
23 21 0:5 / /proc rw - proc proc rw
garbage
"""


def test_a_table_of_mounts_is_read() -> None:
    """With spaces in names, optional fields or none; a line that is none is left out."""
    assert read_mounts(TABLE) == [
        Mounted("8:1", Path("/"), Path("/"), "ext4"),
        Mounted("8:1", Path("/home"), Path("/srv/with space"), "ext4"),
        Mounted("0:5", Path("/"), Path("/proc"), "proc"),
    ]


def test_only_what_is_the_same_file_is_an_alias(tmp_path: Path) -> None:
    """What the table suggests, and another mount covers, is not: it is another file."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "file").touch()
    (tmp_path / "two" / "file").hardlink_to(tmp_path / "one" / "file")
    (tmp_path / "one" / "other").touch()
    (tmp_path / "two" / "other").touch()
    known = [Mounted("8:1", Path("/"), Path("/"), "ext4"), Mounted("8:1", tmp_path / "one", tmp_path / "two", "ext4")]
    paths = [tmp_path / "one" / name for name in ("file", "other", "gone")]
    assert aliases(paths, known) == {tmp_path / "two" / "file": tmp_path / "one" / "file"}
    piece = [known[0], Mounted("8:1", tmp_path / "one" / "file", tmp_path / "two" / "file", "ext4")]
    assert aliases([tmp_path / "one"], piece) == {tmp_path / "two" / "file": tmp_path / "one" / "file"}
