"""The rule of tests/conftest.py: a skip fails the run unless the machine cannot run the test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parent / "conftest.py"


def run(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Run pytest with our conftest on one test module."""
    (folder / "conftest.py").write_text(CONFTEST.read_text())
    (folder / "test_it.py").write_text(body)
    (folder / "pytest.ini").write_text(f"[pytest]\nmarkers = e2e\npythonpath = {CONFTEST.parent}\n")
    off = [part for name in ("cacheprovider", "randomly", "anyio") for part in ("-p", f"no:{name}")]
    command = [sys.executable, "-m", "pytest", "-q", *off, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=folder)


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("def test_a(): pass\n", 0, "1 passed"),
        ("import pytest\ndef test_a(): pytest.skip('later')\n", 1, "skipped, which fails the run: later"),
        ("import pytest\n@pytest.mark.skip(reason='later')\ndef test_a(): pass\n", 1, "fails the run: later"),
        ("import pytest\npytest.skip('whole', allow_module_level=True)\n", 1, "fails the run: whole"),
        ("import pytest\ndef test_b(): pass\ndef test_a(): pytest.skip('cannot run here: no root')\n", 0, "no root"),
    ],
)
def test_a_skip_fails_the_run_unless_the_machine_cannot_run_it(tmp_path: Path, body: str, code: int, said: str) -> None:
    """Each way to skip is seen, and only the stated prefix excuses it, in print."""
    result = run(tmp_path, body)
    assert (result.returncode, said in result.stdout) == (code, True), result.stdout
