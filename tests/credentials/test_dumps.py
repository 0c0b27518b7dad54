"""A process that holds secrets leaves no core, and shows its memory and environment to no other of its user."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from egress.cli.main import app
from egress.config import ServerOverrides, load_server_config
from egress.server import run

if TYPE_CHECKING:
    from pathlib import Path

# As a user of its own: to root everything is readable. Its second self looks at the first.
LOOK = """
import os, resource, sys
from egress.credentials import forbid_dumps
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
    import ctypes
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
if sys.argv[1] == "forbid":
    forbid_dumps()
    assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
read, write = os.pipe()
first = os.getpid()
child = os.fork()
if child == 0:
    import ctypes
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
    for name in ("environ", "mem", "maps"):
        try:
            os.close(os.open(f"/proc/{first}/{name}", os.O_RDONLY))
            print(name, flush=True)
        except PermissionError:
            pass
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.parametrize(("argument", "seen"), [("forbid", []), ("leave", ["environ", "mem", "maps"])])
def test_no_other_process_of_the_user_sees_its_memory(argument: str, seen: list[str]) -> None:
    """Not even its environment as it was at the start; without the call, all of it would be there."""
    command = [sys.executable, "-c", LOOK, argument]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=dict(os.environ))
    assert (done.returncode, done.stdout.split()) == (0, seen), done.stderr


class Called(BaseException):
    """That it was called, before anything else."""


def refuse() -> None:
    """Stand for the call."""
    raise Called


def test_the_proxy_forbids_dumps_before_it_reads_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes that it forks inherit it."""
    monkeypatch.setattr(run, "forbid_dumps", refuse)
    config = load_server_config(None, ServerOverrides(state_dir=tmp_path / "state"), {})
    with pytest.raises(Called):
        run.serve(config, lambda _: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command", [["set", "x", "--host", "a.example.com"], ["list"], ["rm", "x"], ["rekey"], ["placeholder", "x"]]
)
def test_each_command_about_secrets_forbids_dumps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """Before it reads a key or a value."""
    monkeypatch.setattr("egress.credentials.forbid_dumps", refuse)
    monkeypatch.setenv("EGRESS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("EGRESS_SECRETS_KEY", "left alone")
    with pytest.raises(Called):
        CliRunner().invoke(app, ["secret", *command], input="x", catch_exceptions=False)
    assert os.environ["EGRESS_SECRETS_KEY"] == "left alone"
    assert list(tmp_path.iterdir()) == []
