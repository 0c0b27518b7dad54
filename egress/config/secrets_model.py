"""A secret as configuration knows it: its name, where its value is, and the hosts that may ever see it. No value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from egress.policy import Target


@dataclass(frozen=True, slots=True)
class EnvSource:
    """The value is in an environment variable of the proxy."""

    variable: str


@dataclass(frozen=True, slots=True)
class FileSource:
    """The value is a file's content, without one final newline."""

    path: Path


@dataclass(frozen=True, slots=True)
class SecretDefinition:
    """A secret's name, source, and binding: it is sent to `hosts` and nowhere else."""

    name: str
    source: EnvSource | FileSource
    hosts: tuple[Target, ...]
