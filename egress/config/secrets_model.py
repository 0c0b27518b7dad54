"""A secret as configuration knows it: its name, where its value is, and the hosts that may ever see it. No value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egress.config.secret_sources import SecretSource
    from egress.policy import Target


@dataclass(frozen=True, slots=True)
class Placeholder:
    """What the sandbox holds in place of a secret; `value` None: made up, `like` another credential.

    `variable` holds it in the sandbox.
    """

    variable: str | None = None
    value: str | None = None
    like: str | None = None


@dataclass(frozen=True, slots=True)
class SecretDefinition:
    """A secret's name, source, and binding: it is sent to `hosts` and nowhere else.

    `methods` and `paths` (patterns, of canonical paths) bind it further; None: to any. A secret of our own store may
    have no hosts here: then its own binding holds alone, else both do.
    """

    name: str
    source: SecretSource
    hosts: tuple[Target, ...]
    methods: frozenset[str] | None = None
    paths: tuple[str, ...] | None = None
    placeholder: Placeholder | None = None
