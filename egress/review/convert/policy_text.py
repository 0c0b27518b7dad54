"""Writes an imported policy as a policy file: what it is and where it came from, secrets, rules with their lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.review.yaml_text import lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.review.yaml_text import Plain


@dataclass(frozen=True, slots=True)
class ImportedRule:
    """A rule as plain values, in the order in which they are written, with comments above it."""

    values: Mapping[str, Plain]
    comments: tuple[str, ...] = ()


@dataclass(slots=True)
class ImportedPolicy:
    """A policy on its way to text. `secrets` by name: the comment above it, its variable, its hosts."""

    title: str
    default: str | None = "deny"
    tls: str | None = None
    rules: list[ImportedRule] = field(default_factory=list)
    secrets: dict[str, tuple[str, str, list[str]]] = field(default_factory=dict)

    def text(self) -> str:
        """The policy file."""
        written = [f"# {self.title}", "version: 1"]
        written += [f"default: {self.default}"] if self.default else []
        written += [f"tls: {self.tls}"] if self.tls else []
        if self.secrets:
            written += ["", "secrets:", *self._secrets()]
        written += ["", "rules:", *self._rules()] if self.rules else []
        return "".join(f"{line}\n" for line in written)

    def _secrets(self) -> list[str]:
        written: list[str] = []
        for name, (comment, variable, hosts) in self.secrets.items():
            written += [f"  # {comment}", f"  {name}:", *lines({"env": variable, "hosts": hosts}, 4)]
        return written

    def _rules(self) -> list[str]:
        written: list[str] = []
        for rule in self.rules:
            first, *others = lines(rule.values, 4)
            written += [f"  # {comment}" for comment in rule.comments]
            written += [f"  - {first.lstrip()}", *others]
        return written
