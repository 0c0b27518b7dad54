"""Every error that Egress raises on purpose: one base, few leaves, each with a hint.

A denial is never an exception: it is a value (`egress.policy.Decision`). What is raised here means that somebody
who runs Egress has to do something, so each error says what is wrong and what to write or do instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class EgressError(Exception):
    """What is wrong, in one line, and what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in one file: `file:line: where: message, hint`. `line` counts from 1; None if unknown."""

    file: str
    line: int | None
    where: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        parts = [place, self.where, self.message] if self.where else [place, self.message]
        text = ": ".join(parts)
        return f"{text}, {self.hint}" if self.hint else text


class ConfigError(EgressError):
    """A policy or configuration file that must not be used. Carries every problem found, never only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class StateError(EgressError):
    """A file or folder of our own (CA, state folder, bundle) that is missing, broken, or open to others."""


class AuditError(EgressError):
    """The audit database cannot be opened, read or migrated."""


class CredentialError(EgressError):
    """A secret's definition or value cannot be used. The message never holds any part of the value."""


class StartError(EgressError):
    """The proxy refuses to start, or cannot: a port in use, an unsafe option, a missing part."""


class GatewayError(EgressError):
    """The rules of a gateway are refused, cannot be set, or are not those that would be set."""
