"""What every import asks of another tool's host patterns, so that nothing comes in wider than it was.

1. an allowed host that no target here can say is left out
2. a denied host that no target here can say is denied as `**`: more, never less
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.config.wording import printable
from egress.policy import TargetError, Verdict, parse_target
from egress.review.convert.loss import Effect

if TYPE_CHECKING:
    from egress.review.convert.loss import Losses


def allowed_host(text: str, line: int, losses: Losses) -> str | None:
    """The target for an allowed host pattern; None, and a loss, where there is none."""
    pattern = "**" if text == "*" else text
    parsed = parse_target(pattern, verdict=Verdict.ALLOW)
    if isinstance(parsed, TargetError):
        losses.add(Effect.LEFT_OUT, printable(f"{parsed.message}, so nothing is allowed for it"), line)
        return None
    if pattern == "**":
        losses.add(Effect.NARROWER, "every host became `**`: any name, but no address", line)
    return pattern


def denied_host(text: str, line: int, losses: Losses) -> str:
    """The target for a denied host pattern."""
    pattern = "**" if text == "*" else text
    parsed = parse_target(pattern, verdict=Verdict.DENY)
    if isinstance(parsed, TargetError):
        losses.add(Effect.NARROWER, printable(f"{parsed.message}, so every host is denied here"), line)
        return "**"
    return pattern
