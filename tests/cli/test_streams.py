"""What is printed never goes into a file of ours: standard streams that are closed are none's."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LOOK = """
import json, os, sys
from egress.cli.streams import hold_streams
hold_streams()
opened = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
print("printed", flush=True)
print("complained", file=sys.stderr, flush=True)
sys.stdin.read()
os.system("echo from a child; echo and more >&2; cat")
sys.exit(opened)
"""


@pytest.mark.parametrize("closed", [(), (0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)], ids=str)
def test_a_closed_stream_is_no_file_that_is_opened_later(closed: tuple[int, ...], tmp_path: os.PathLike[str]) -> None:
    """Ours or a child's; those that are open stay as they are."""
    file = os.path.join(tmp_path, "file")  # noqa: PTH118
    redirected = " ".join(f"{number}{'<' if not number else '>'}&-" for number in closed)
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, "-c", LOOK, file],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode >= 3, done.stderr
    with open(file, encoding="utf-8") as written:  # noqa: PTH123
        assert written.read() == ""
    assert done.stdout == ("" if 1 in closed else "printed\nfrom a child\n")
    assert done.stderr == ("" if 2 in closed else "complained\nand more\n")
