"""Writes an imported policy as a policy file: what it is and where it came from, secrets, rules with their lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.config.wording import printable
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
class ImportedSecret:
    """A secret with a comment above it, its source as plain values, and the hosts of the rules that use it."""

    comment: str
    source: Mapping[str, Plain]
    hosts: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ImportedPolicy:
    """A policy on its way to text."""

    title: str
    default: str | None = "deny"
    tls: str | None = None
    rules: list[ImportedRule] = field(default_factory=list)
    secrets: dict[str, ImportedSecret] = field(default_factory=dict)

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
        for name, secret in self.secrets.items():
            said = lines({**secret.source, "hosts": secret.hosts}, 4)
            written += [_comment(secret.comment), f"  {name}:", *said]
        return written

    def _rules(self) -> list[str]:
        written: list[str] = []
        for rule in self.rules:
            first, *others = lines(rule.values, 4)
            written += [_comment(comment) for comment in rule.comments]
            written += [f"  - {first.lstrip()}", *others]
        return written


def _comment(text: str) -> str:
    """A comment above an entry. A line end of the foreign file's would make what follows it a part of the policy."""
    return f"  # {printable(text)}"
