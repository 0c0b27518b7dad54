"""Which rows a person asks for, and how that becomes SQL: a fixed text with parameters, never a value in the text.

A host pattern is a name (`api.github.com`), `.example.com` (the name and everything below it, as in policies), or has
stars that stand for any characters: `*.example.com` is everything below it, `*hub*` whatever contains `hub`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """The conditions that a row must meet, all of them; None asks nothing. `since_us` is microseconds in UTC.

    `reason` is a reason code: that of the decision, or the one with which the outcome's `error` begins.
    """

    verdict: str | None = None
    host: str | None = None
    sandbox: str | None = None
    reason: str | None = None
    since_us: int | None = None

    def where(self) -> tuple[str, list[str | int]]:
        """The condition over the view `requests`, and its parameters; `1` if nothing is asked."""
        conditions: list[str] = []
        parameters: list[str | int] = []
        if self.verdict is not None:
            conditions.append("verdict = ?")
            parameters.append(self.verdict)
        if self.host is not None:
            conditions.append(_HOST)
            parameters += _host_parameters(self.host)
        if self.sandbox is not None:
            conditions.append("sandbox = ?")
            parameters.append(self.sandbox)
        if self.reason is not None:
            conditions.append("(reason = ? OR error = ? OR substr(error, 1, length(?) + 1) = ? || ':')")
            parameters += [self.reason] * 4
        if self.since_us is not None:
            conditions.append("time_us >= ?")
            parameters.append(self.since_us)
        return " AND ".join(conditions) or "1", parameters


def parse_since(text: str, now_us: int) -> int:
    """A duration back from now (`90s`, `10m`, `2h`, `1d`, `1w`) or an RFC 3339 time, as microseconds in UTC.

    A time without an offset is local time. Raises ValueError with a sentence.
    """
    if duration := _DURATION.fullmatch(text):
        return now_us - int(duration[1]) * _UNITS[duration[2]] * 1_000_000
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
        return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1_000_000 + moment.microsecond
    except (ValueError, OverflowError):
        raise ValueError(
            f"`{text}` is no duration or time, write `10m`, `2h`, `1d` or `2026-11-20T10:00:00Z`"
        ) from None


_HOST = "(lower(host) GLOB ? OR lower(host) = ?)"


def _host_parameters(pattern: str) -> list[str | int]:
    # In GLOB `[` and `?` are special as well; in a pattern of ours only the star is.
    escaped = re.sub(r"[\[?]", lambda found: f"[{found[0]}]", pattern.lower())
    if pattern.startswith("."):
        return [f"*{escaped}", pattern[1:].lower()]
    return [escaped, pattern.lower()]
