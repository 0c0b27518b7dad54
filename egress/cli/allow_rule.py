"""The rule that the command line of `egress allow` or `egress deny` asks for: a target, or a row of the audit."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import typer

from egress.cli.explain_row import row_named
from egress.policy import Verdict
from egress.review import DECISION_ID
from egress.review.edit import NewRule
from egress.review.row_rule import rule_for

if TYPE_CHECKING:
    from pathlib import Path

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_TTL: Final = re.compile(r"([0-9]{1,6})([smhdw])")

type Audit = tuple[Path | None, Path | None]
"""The audit database, or the state folder that it is in."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """The options that say more of a rule, as they were written."""

    methods: str | None
    paths: str | None
    ports: str | None
    protocol: str | None
    ttl: str | None
    reason: str | None

    def on(self, rule: NewRule) -> NewRule:
        """The rule with what the command line says of it."""
        return replace(
            rule,
            methods=_words(self.methods) or rule.methods,
            paths=_words(self.paths) or rule.paths,
            ports=_words(self.ports) or rule.ports,
            protocol=_words(self.protocol) or rule.protocol,
            until=None if self.ttl is None else until(self.ttl, datetime.now(UTC)),
            reason=None if self.reason is None else _comment(self.reason),
        )


def rule_of(verb: str, what: str, audit: Audit) -> NewRule:
    """The rule for a target, or for the row of the audit that has this id. Raises EgressError."""
    if DECISION_ID.match(what) is None:
        return NewRule(Verdict(verb), (what,))
    return rule_for(asdict(row_named(what, audit)), Verdict(verb))


def until(ttl: str, now: datetime) -> str:
    """The end of a duration from now, in UTC, as RFC 3339 with whole seconds. Raises typer.BadParameter."""
    found = _TTL.fullmatch(ttl)
    if found is None or int(found[1]) == 0:
        raise typer.BadParameter(f"`{ttl}` is no duration: write `90s`, `30m`, `1h`, `7d` or `2w`", param_hint="--ttl")
    end = now + timedelta(seconds=int(found[1]) * _UNITS[found[2]])
    return f"{end.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _words(text: str | None) -> tuple[str, ...]:
    return () if text is None else tuple(word for part in text.split(",") if (word := part.strip()))


def _comment(text: str) -> str:
    lines = text.splitlines()
    if not all(line.isprintable() for line in lines):
        raise typer.BadParameter("a reason is printable text", param_hint="--reason")
    return "\n".join(line.strip() for line in lines)
