"""The parts of the suite: every test is in one of them, and a part that fails fails the whole."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tools.run_suite import FOLDERS, PARTS, TESTS, compile_once, run

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


@pytest.mark.parametrize("e2e", [False, True])
@pytest.mark.parametrize("folder", [None, *FOLDERS])
def test_every_test_is_in_one_part(*, e2e: bool, folder: str | None) -> None:
    """Not in none, and not in two; and that part reads the folder where it is."""
    marks = {"e2e": e2e} | {mark: mark == folder for mark in FOLDERS}
    ((_, where),) = [(part, where) for part, where in PARTS.items() if eval(part, {}, marks)]  # noqa: S307 -- words of our own
    left_out = {text.removeprefix("--ignore=") for text in where if text.startswith("--ignore=")}
    read = set(where) - {f"--ignore={text}" for text in left_out}
    folders = set(map(str, FOLDERS.get(folder or "", (TESTS / "elsewhere",))))
    assert folders.isdisjoint(left_out)
    assert not read or folders <= read


def test_signals_that_a_shell_ignores_reach_what_is_started() -> None:
    """A shell ignores them for what it puts into the background; the programs of tests are interrupted by them."""
    asked = "import signal; print([signal.getsignal(one) is signal.SIG_IGN for one in (2, 3, 1)])"
    lines = [
        "import signal, subprocess, sys",
        f"sys.path.insert(0, {str(ROOT / 'tests')!r})",
        "from tools.run_suite import SIGNALS, heed_signals",
        "[signal.signal(number, signal.SIG_IGN) for number in SIGNALS]",
        "heed_signals()",
        f"subprocess.run([sys.executable, '-c', {asked!r}], check=True)",
    ]
    done = subprocess.run(_python("\n".join(lines)), capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split("\n")[0] == "[False, False, False]"


def test_programs_find_the_package_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the environment keeps Python from writing what it compiled."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    compiled = Path(importlib.util.cache_from_source(str(ROOT / "egress" / "errors.py")))
    compiled.unlink(missing_ok=True)
    compile_once()
    assert compiled.is_file()
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ
