"""A secret as configuration knows it: its name, where its value is, and the hosts that may ever see it. No value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egress.config.secret_sources import SecretSource
    from egress.policy import Target


@dataclass(frozen=True, slots=True)
class SecretDefinition:
    """A secret's name, source, and binding: it is sent to `hosts` and nowhere else."""

    name: str
    source: SecretSource
    hosts: tuple[Target, ...]
