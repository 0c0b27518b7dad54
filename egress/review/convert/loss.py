"""What a conversion could not carry over, and a converted text with its losses.

1. left out   a permission that the other side cannot say as narrowly: it is missing there
2. narrower   the other side refuses more than the rule did
3. open       what the other side leaves open for every rule that it has (ports, protocols, resolved addresses)
4. wider      the other side would permit what the rules refuse; nothing is printed without `--allow-widening`
5. note       how something was said in other words, as a wildcard by several patterns; nothing is lost by it
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from egress.config.wording import printable
from egress.errors import EgressError

if TYPE_CHECKING:
    from egress.policy import Rule


class Effect(StrEnum):
    """What a loss does to the policy on the other side."""

    LEFT_OUT = "left out"
    NARROWER = "narrower"
    OPEN = "open"
    WIDER = "wider"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Loss:
    """One thing that the other side says otherwise or not at all. `line` None: it is not about one rule."""

    file: str
    line: int | None
    effect: Effect
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        # What it quotes of a foreign file ends no line and moves no cursor.
        return f"{place}: {self.effect}: {printable(self.message)}"


@dataclass(frozen=True, slots=True)
class Converted:
    """A converted policy as text, and what was lost on the way."""

    text: str
    losses: tuple[Loss, ...]

    @property
    def widens(self) -> bool:
        """Whether the other side would permit what the rules refuse."""
        return any(loss.effect is Effect.WIDER for loss in self.losses)

    @property
    def is_whole(self) -> bool:
        """Whether nothing was lost."""
        return all(loss.effect is Effect.NOTE for loss in self.losses)


@dataclass(slots=True)
class Losses:
    """Collects the losses of one conversion, each once."""

    file: str
    found: list[Loss] = field(default_factory=list)

    def add(self, effect: Effect, message: str, line: int | None = None) -> None:
        """Note a loss at a line of the source."""
        loss = Loss(self.file, line, effect, message)
        if loss not in self.found:
            self.found.append(loss)

    def of(self, rule: Rule, effect: Effect, message: str) -> None:
        """Note a loss of a rule."""
        loss = Loss(rule.file, rule.line, effect, message)
        if loss not in self.found:
            self.found.append(loss)


class ConversionError(EgressError):
    """A text that cannot be converted at all."""
