"""What `egress exec` refuses to start, before anything of the command runs, and what it says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rig.confined import UID, Place, Road, places

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

DENY = "version: 1\ndefault: deny\n"


@pytest.fixture
def roots() -> Iterator[Place]:
    """A place of root's."""
    yield from places(Road.ROOT)


@pytest.fixture
def users() -> Iterator[Place]:
    """A place of a user's."""
    yield from places(Road.USER)


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """What it said; the command, which would print, did not run."""
    assert done.returncode in {1, 2}, done.stderr
    assert done.stdout == ""
    return " ".join(done.stderr.split())


def test_a_policy_with_another_name_is_refused(users: Place) -> None:
    """Through a hard link the command could write it."""
    policy = users.put("policy.yaml", DENY)
    (users.work / "link.yaml").hardlink_to(policy)
    done = users.run("--policy", str(policy), argv=["echo", "ran"])
    assert "this file has another name" in refusal(done)


def test_a_policy_by_a_link_that_can_be_turned_is_refused(users: Place) -> None:
    """The command could turn it to a policy of its own, for the next start."""
    policy = users.put("policy.yaml", DENY)
    users.work.chmod(0o755)
    (users.work / "link.yaml").symlink_to(policy)
    done = users.run("--policy", "link.yaml", argv=["echo", "ran"])
    assert f"could turn the link `{users.work}/link.yaml`" in refusal(done)


def test_a_policy_that_everybody_can_write_is_refused(roots: Place) -> None:
    """As by `egress run`."""
    policy = roots.put("policy.yaml", DENY)
    policy.chmod(0o666)
    assert "can change this file" in refusal(roots.run("--policy", str(policy), argv=["echo", "ran"]))


def test_no_policy_is_taken_from_the_working_folder(users: Place) -> None:
    """A file that has the name of the shipped one, and would allow everything, is not what decides."""
    for name in ("coding-agent", "coding-agent.yaml", "egress.yaml", "policy.yaml"):
        (users.work / name).write_text("version: 1\ndefault: allow\n")
    script = "curl -sS -o /dev/null -w '%{http_code}' http://other.example/"
    assert users.run(argv=["sh", "-c", script]).stdout == "403"


def test_a_working_folder_that_is_hidden_is_refused(users: Place) -> None:
    """The command would stand in the state folder."""
    users.state.mkdir(parents=True)
    users.work.rmdir()
    users.work = users.state
    assert "is kept from it" in refusal(users.run(argv=["echo", "ran"]))


@pytest.mark.parametrize("user", ["root", "0"])
def test_the_command_is_never_root(roots: Place, user: str) -> None:
    """By name or number."""
    assert "never root" in refusal(roots.run("--user", user, argv=["echo", "ran"]))


def test_a_user_becomes_no_other(users: Place) -> None:
    """That takes root."""
    assert "only root can" in refusal(users.run("--user", "nobody", argv=["echo", "ran"]))


def test_a_machine_that_cannot_confine_is_told_what_it_lacks(roots: Place) -> None:
    """No network namespaces: refused with what to do; with --unconfined it runs, and says what is not enforced."""
    policy = roots.put("policy.yaml", DENY)
    for options, ran in ((), ""), (("--unconfined",), "ran\n"):
        line = roots.command("--policy", str(policy), *options, argv=["echo", "ran"])
        script = 'echo 0 > /proc/sys/user/max_net_namespaces && exec "$@"'
        done = subprocess.run(
            ["unshare", "-Ur", "sh", "-c", script, "sh", *line],
            cwd=roots.work,
            env=roots.env(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == ran
        assert ("UNCONFINED" in done.stderr) is bool(options)
        assert ("there may be no more namespaces" in done.stderr) is not bool(options)
        assert ("--unconfined" in done.stderr) is not bool(options)


def test_an_unconfined_command_has_the_files_too(roots: Place) -> None:
    """Those for apt, wget and Java, in the folder of its start, which goes with it."""
    policy = roots.put("policy.yaml", DENY)
    script = 'cat "$APT_CONFIG" && echo "$WGETRC"'
    done = roots.run("--policy", str(policy), "--unconfined", argv=["sh", "-c", script])
    assert "Acquire::https::CaInfo" in done.stdout
    assert not Path(done.stdout.splitlines()[-1]).exists()


def test_who_called_sudo_runs_the_command(roots: Place) -> None:
    """By SUDO_UID, which sudo sets; --user wins over it."""
    name = subprocess.run(["id", "-nu", "1"], capture_output=True, text=True, check=True).stdout.strip()
    policy = roots.put("policy.yaml", DENY)
    done = roots.run("--policy", str(policy), argv=["id", "-nu"], env={"SUDO_UID": "1"})
    assert done.stdout == f"{name}\n"
    named = roots.run("--policy", str(policy), "--user", "nobody", argv=["id", "-nu"], env={"SUDO_UID": "1"})
    assert named.stdout == "nobody\n"
    assert os.getuid() != UID


def test_an_allowed_socket_stays(users: Place) -> None:
    """With the variable that names it; another one does not."""
    users.put("policy.yaml", DENY)
    serve = (
        "import socket, sys\nsocks = [socket.socket(socket.AF_UNIX) for _ in sys.argv[1:]]\n"
        "for sock, name in zip(socks, sys.argv[1:]):\n    sock.bind(name); sock.listen()\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    names = [str(users.home / name) for name in ("agent.sock", "other.sock")]
    connect = "import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print('connected')"
    with subprocess.Popen(
        ["python3", "-c", serve, *names], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        script = f'/usr/bin/env python3 -c "{connect}" "$SSH_AUTH_SOCK"; python3 -c "{connect}" {names[1]}'
        options = ("--policy", str(users.home / "policy.yaml"), "--allow-socket", names[0])
        done = users.run(*options, argv=["sh", "-c", script], env={"SSH_AUTH_SOCK": names[0]})
        server.communicate("")
    assert done.stdout == "connected\n"
    assert "ConnectionRefusedError" in done.stderr
