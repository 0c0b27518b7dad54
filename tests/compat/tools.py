"""Where the clients' programs are, and how `make compat` gets those that are missing.

Packages of npm and of Python go to `.compat` in the checkout; Debian's onto the system, which needs root.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".compat"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Debian's package of a program, where that is not its name.
DEBIAN = {
    "curl": "curl",
    "wget": "wget",
    "git": "git",
    "node": "nodejs",
    "npm": "npm",
    "go": "golang-go",
    "java": "default-jre-headless",
    "javac": "default-jdk-headless",
    "cargo": "cargo",
    "ruby": "ruby",
    "php": "php-cli php-curl",
    "skopeo": "skopeo",
    "podman": "podman",
    "nix": "nix-bin",
    "chromium": "chromium",
    "certutil": "libnss3-tools",
    "psql": "postgresql-client",
}
NPM = ("node", "pnpm", "@yarnpkg/cli-dist", "deno", "bun")
PYTHON = ("uv", "aiohttp", "httpx[socks]", "requests[socks]", "grpcio", "websockets", "python-socks")
_OWN = {
    "deno": "npm/node_modules/.bin/deno",
    "bun": "npm/node_modules/.bin/bun",
    "pnpm": "npm/node_modules/pnpm/bin/pnpm.mjs",
    "yarn": "npm/node_modules/@yarnpkg/cli-dist/bin/yarn.js",
    "uv": "python/bin/uv",
}
_ENV_PROXY = (22, 21)


def find(need: str) -> dict[str, str] | None:
    """The variable that names it to a client's lines, and its path; None: it is not here."""
    kind, _, module = need.partition(":")
    path = _interpreter(module) if kind == "python" else _program(need)
    return None if path is None else {kind.upper().replace("-", ""): path}


def _program(name: str) -> str | None:
    if name in {"node", "oldnode"}:
        return _node(old=name == "oldnode")
    if name in _OWN:
        return str(KEPT / _OWN[name]) if (KEPT / _OWN[name]).exists() else None
    found = shutil.which(name, path=f"{PATH}:{os.environ.get('PATH', '')}")
    return _toolchain(found) if name == "cargo" and found else found


@functools.cache
def _node(*, old: bool) -> str | None:
    """A Node that reads the proxy variables, or one that is too old for it."""
    for path in (str(KEPT / "npm/node_modules/node/bin/node"), shutil.which("node", path=PATH)):
        if path and Path(path).exists():
            said = subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout
            version = tuple(int(number) for number in re.findall(r"\d+", said)[:2])
            if (version < _ENV_PROXY) is old:
                return path
    return None


@functools.cache
def _toolchain(cargo: str) -> str:
    """The program behind rustup's stand-in for it, which looks for its settings in the user's home."""
    rustup = Path(cargo).with_name("rustup")
    if not rustup.exists():
        return cargo
    done = subprocess.run([rustup, "which", "cargo"], check=False, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else cargo


@functools.cache
def _interpreter(module: str) -> str | None:
    """A Python that has it."""
    for path in (KEPT / "python/bin/python", Path(sys.executable)):
        if path.exists():
            done = subprocess.run([path, "-c", f"import {module}"], check=False, capture_output=True)
            if done.returncode == 0:
                return str(path)
    return None


def install() -> None:
    """Get what is missing, as far as it can be got; what cannot is said, and its rows are left as they are."""
    path = f"{PATH}:{os.environ.get('PATH', '')}"
    lacking = [package for name, package in DEBIAN.items() if shutil.which(name, path=path) is None]
    if lacking:
        words = [word for package in lacking for word in package.split()]
        _try("apt-get", "-qq", "install", "--yes", "--no-install-recommends", *words)
    _keep(
        "python",
        (sys.executable, "-m", "venv", str(KEPT / "python")),
        (str(KEPT / "python/bin/python"), "-m", "pip", "--disable-pip-version-check", "-qq", "install", *PYTHON),
    )
    quiet = ("--no-audit", "--no-fund", "--loglevel", "error")
    _keep("npm", ("npm", "install", "--prefix", str(KEPT / "npm"), *quiet, *NPM))


def _keep(name: str, *commands: Sequence[str]) -> None:
    """Make a folder of `.compat` once; one that could not be made is tried again the next time."""
    if not (KEPT / name).exists():
        (KEPT / name).mkdir(parents=True)
        if not all(_try(*command) for command in commands):
            shutil.rmtree(KEPT / name)


def _try(*command: str) -> bool:
    if shutil.which(command[0]) is not None and subprocess.run(command, check=False).returncode == 0:
        return True
    sys.stderr.write(f"could not run `{' '.join(command)}`: the clients that need it are left out\n")
    return False
