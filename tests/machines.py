"""Machines for tests: a folder in which a tool's configuration can stand, and nothing of the real machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from egress.config import Machine

if TYPE_CHECKING:
    from pathlib import Path

PIP_SOURCE = """
import urllib.parse
class PackageIndex:
    def __init__(self, url, file_storage_domain): ...
PyPI = PackageIndex("https://builtin.corp.example/", file_storage_domain="files.corp.example")
Other = PackageIndex("https://other.corp.example/", file_storage_domain="other.corp.example")
"""


def bare_machine(folder: Path, **env: str) -> Machine:
    """Nothing is installed, nothing is configured."""
    return Machine(env={"HOME": str(folder / "home"), "PATH": "", **env}, root=folder, prefix=folder / "venv", pip=None)


def put(folder: Path, name: str, text: str) -> Path:
    """A file below the folder."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def with_pip(machine: Machine, source: str = PIP_SOURCE) -> Machine:
    """A pip whose built-in default is a host of an example's."""
    path = put(machine.root, "site-packages/pip/_internal/models/index.py", source)
    return replace(machine, pip=path.parents[2])


def configured_machine(folder: Path) -> Machine:
    """Every tool is configured with a company's mirrors."""
    put(folder, "etc/pip.conf", "[global]\nindex-url = https://packages.corp.example/simple\n")
    put(folder, "home/.config/pip/pip.conf", "[global]\nextra-index-url = https://files.corp.example/simple\n")
    put(folder, "home/.npmrc", "registry=https://npm.corp.example/\n")
    put(folder, "etc/os-release", "ID=debian\n")
    put(folder, "etc/apt/sources.list", "deb http://mirror.corp.example/debian stable main\n")
    return with_pip(bare_machine(folder))
