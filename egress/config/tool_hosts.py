"""The hosts that a package tool is configured with on this machine: presets follow a company's mirror by them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from egress.config.apt_hosts import find_apt_hosts
from egress.config.machine import Looking
from egress.config.npm_hosts import find_npm_hosts
from egress.config.pip_hosts import find_pip_hosts

if TYPE_CHECKING:
    from pathlib import Path

    from egress.config.machine import Machine
    from egress.errors import Problem


class Tool(StrEnum):
    """A tool whose configuration is read."""

    PIP = "pip"
    NPM = "npm"
    APT_DEBIAN = "apt-debian"
    APT_UBUNTU = "apt-ubuntu"


@dataclass(frozen=True, slots=True)
class ToolHosts:
    """The hosts with their ports, and the files that they came from. Without hosts, `why` says why there are none."""

    hosts: tuple[str, ...]
    files: tuple[Path, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    why: str


def find_tool_hosts(tool: Tool, machine: Machine) -> ToolHosts:
    """The hosts that `tool` is configured with."""
    found = Looking()
    match tool:
        case Tool.PIP:
            why = find_pip_hosts(machine, found)
        case Tool.NPM:
            why = find_npm_hosts(machine, found)
        case Tool.APT_DEBIAN:
            why = find_apt_hosts(machine, found, "debian")
        case Tool.APT_UBUNTU:
            why = find_apt_hosts(machine, found, "ubuntu")
        case _:
            assert_never(tool)
    return ToolHosts(tuple(found.hosts), tuple(found.files), tuple(found.problems), tuple(found.warnings), why)
