"""The two halves of the suite: every test is in one of them, and a half that fails fails the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tools.run_suite import PARTS, run

ROOT = Path(__file__).parent.parent


def _python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [("pass", "pass", 0), ("exit(1)", "pass", 1), ("pass", "exit(1)", 1), ("pass", "import os; os.abort()", 6)],
)
def test_a_part_that_fails_fails_the_whole(first: str, second: str, code: int) -> None:
    """Whichever it is, and however it ends."""
    assert run([_python(first), _python(second)]) == code


def test_what_both_say_is_seen() -> None:
    """The second's words follow the first's."""
    lines = [
        "import sys",
        f"sys.path.insert(0, {str(ROOT / 'tests')!r})",
        "from tools.run_suite import run",
        "run([[sys.executable, '-c', 'print(1)'], [sys.executable, '-c', 'print(2)']])",
    ]
    done = subprocess.run(_python("\n".join(lines)), capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["1", "2"]


def test_the_parts_are_each_others_complement() -> None:
    """No test is in neither."""
    first, second = PARTS
    assert second == f"not ({first})"
