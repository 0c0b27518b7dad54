"""Install the Debian packages that the end-to-end tests need and that are missing; without root, name them and fail.

Run by `make test` before the tests. Exit code 0: all are there. 1: some are missing and could not be installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

# Program to look for, and the package that has it. npm comes with some packages of nodejs and apart from others.
NEEDED = {
    "ip": "iproute2",
    "nft": "nftables",
    "curl": "curl",
    "git": "git",
    "openssl": "openssl",
    "nginx": "nginx-light",
    "fcgiwrap": "fcgiwrap",
    "setpriv": "util-linux",
    "node": "nodejs",
    "npm": "npm",
    "tmux": "tmux",
    "dig": "bind9-dnsutils",
}
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))


def missing() -> dict[str, str]:
    """The programs that are not there, with their packages."""
    return {program: package for program, package in NEEDED.items() if shutil.which(program, path=PATH) is None}


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def install(packages: list[str]) -> bool:
    """Install by apt-get; False if it fails or is not there."""
    if shutil.which("apt-get") is None:
        return False
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Services must not start: the tests run nginx themselves, in a namespace.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    get = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
    try:
        subprocess.run([*get, "update"], check=False, env=env, stdout=subprocess.DEVNULL)
        wanted = [*get, "install", "--yes", "--no-install-recommends", *packages]
        return subprocess.run(wanted, check=False, env=env, stdout=subprocess.DEVNULL).returncode == 0
    finally:
        if ours:
            policy.unlink()


def main() -> int:
    """Look, install, look again."""
    lacking = missing()
    if not lacking:
        return 0
    names = sorted(set(lacking.values()))
    if os.geteuid() != 0:
        _say(f"the end-to-end tests need root and these Debian packages: {' '.join(names)}")
        return 1
    _say(f"installing {' '.join(names)}")
    if not install(names) or missing():
        _say(f"could not install {' '.join(sorted(set(missing().values()) or names))}; install them and run again")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
