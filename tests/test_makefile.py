"""`make setup` with a Python that only pretends: when it builds, when it does not, and what an accident leaves."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Answers the questions of the Makefile as a Python of version VERSION would, and notes what pip was told. `fail` beside
# it makes pip fail.
PRETENDER = """#!/bin/sh
here=$(dirname "$0")
case "$*" in
  *"%d.%d.%d"*) echo VERSION ;;
  *"sys.exit"*) [ VERSION_MINOR -lt 12 ] && exit 1; exit 0 ;;
  "-m venv .venv"*) echo venv >> LOG; mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  *"-m pip"*) echo pip >> LOG; [ ! -e FAIL ] ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder with what `make setup` reads, and a Python that pretends."""

    folder: Path

    def python(self, version: str) -> str:
        """Make a Python that says it has this version; give its path."""
        path = self.folder / f"python-{version}"
        text = PRETENDER.replace("VERSION_MINOR", version.split(".")[1]).replace("VERSION", version)
        path.write_text(text.replace("LOG", str(self.folder / "log")).replace("FAIL", str(self.folder / "fail")))
        path.chmod(0o755)
        return str(path)

    def setup(self, *arguments: str, target: str = "setup", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `make setup`, or another target."""
        inherited = {
            name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "PYTHON"}
        }
        return subprocess.run(
            ["make", target, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=self.folder,
            env=inherited | environment,
        )

    def done(self) -> list[str]:
        """Give what was built since the last call."""
        log = self.folder / "log"
        words = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return words


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Give a fresh checkout, with no .venv."""
    for name in ("Makefile", "pyproject.toml", "requirements-dev.lock"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return Checkout(tmp_path)


BUILT = ["venv", "pip", "pip"]


@pytest.mark.parametrize("python", ["3.11.7", "2.7.18", "none"])
def test_a_python_that_is_too_old_or_missing_is_named_with_what_to_install(checkout: Checkout, python: str) -> None:
    """Nothing is made, the exit code is an error, and one line says which Python is needed and how to name it."""
    path = str(checkout.folder / "none") if python == "none" else checkout.python(python)
    result = checkout.setup(f"PYTHON={path}")
    assert result.returncode != 0
    first = result.stderr.splitlines()[0]
    assert "Python 3.12 or later" in first
    assert "PYTHON=python3.13" in first
    assert ("does not run" if python == "none" else f"is {python}:") in first
    assert not (checkout.folder / ".venv").exists()


def test_setup_builds_once_and_then_does_nothing(checkout: Checkout) -> None:
    """The second call finds everything done, says nothing, and runs neither venv nor pip."""
    python = checkout.python("3.13.0")
    assert checkout.setup(f"PYTHON={python}").returncode == 0
    assert checkout.done() == BUILT
    again = checkout.setup(f"PYTHON={python}")
    assert (again.returncode, again.stdout, again.stderr, checkout.done()) == (0, "", "", [])


def test_a_set_up_that_failed_is_begun_anew(checkout: Checkout) -> None:
    """INVARIANT: a half-made .venv is never taken for a whole one."""
    python = checkout.python("3.13.0")
    (checkout.folder / "fail").touch()
    assert checkout.setup(f"PYTHON={python}").returncode != 0
    assert checkout.done() == ["venv", "pip"]
    (checkout.folder / ".venv" / "leftover").touch()
    (checkout.folder / "fail").unlink()
    assert checkout.setup(f"PYTHON={python}").returncode == 0
    assert checkout.done() == BUILT
    assert not (checkout.folder / ".venv" / "leftover").exists()


def test_a_changed_lock_is_installed_into_what_is_there(checkout: Checkout) -> None:
    """New pins bring .venv up to date; if that fails, the next call does not believe it is done."""
    python = checkout.python("3.13.0")
    checkout.setup(f"PYTHON={python}")
    checkout.done()
    with (checkout.folder / "requirements-dev.lock").open("a") as lock:
        lock.write("# changed\n")
    (checkout.folder / "fail").touch()
    assert checkout.setup(f"PYTHON={python}").returncode != 0
    (checkout.folder / "fail").unlink()
    checkout.done()
    assert checkout.setup(f"PYTHON={python}").returncode == 0
    assert "pip" in checkout.done()


def test_another_python_or_another_place_means_another_environment(checkout: Checkout, tmp_path: Path) -> None:
    """A Python that is named is held to, and a copied .venv, which points at its old place, is made anew."""
    checkout.setup(f"PYTHON={checkout.python('3.13.0')}")
    checkout.done()
    newer = checkout.python("3.14.0")
    assert checkout.setup(PYTHON=newer).returncode == 0
    assert checkout.done() == BUILT
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements-dev.lock", ".venv"):
        (checkout.folder / name).rename(moved / name)
    assert Checkout(moved).setup(f"PYTHON={newer}").returncode == 0
    assert checkout.done() == BUILT


def test_the_sdks_get_an_environment_of_their_own_once(checkout: Checkout) -> None:
    """From their lock; made anew when that changes, and after an accident. INVARIANT: as for .venv."""
    lock = checkout.folder / "tests" / "sdk" / "requirements.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("one==1\n")
    python = f"PYTHON={checkout.python('3.13.0')}"
    assert checkout.setup(python, target="sdk").returncode == 0
    assert checkout.done() == [*BUILT, "venv", "pip"]
    again = checkout.setup(python, target="sdk")
    assert (again.returncode, again.stdout, checkout.done()) == (0, "", [])
    lock.write_text("one==2\n")
    (checkout.folder / "fail").touch()
    assert checkout.setup(python, target="sdk").returncode != 0
    assert checkout.done() == ["venv", "pip"]
    (checkout.folder / ".venv-sdk" / "leftover").touch()
    (checkout.folder / "fail").unlink()
    assert checkout.setup(python, target="sdk").returncode == 0
    assert checkout.done() == ["venv", "pip"]
    assert not (checkout.folder / ".venv-sdk" / "leftover").exists()
