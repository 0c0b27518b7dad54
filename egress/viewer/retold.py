"""A row of the audit, told again as a trace: what was asked, what was decided and why, what was done, how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from egress.audit.figures import show_bytes
from egress.audit.json_row import object_of
from egress.audit.lines import destination, rule_place, utc
from egress.policy import TEXTS, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from egress.audit import AuditRow
    from egress.policy import ReasonText

_SECOND_US: Final = 1_000_000


def title(row: AuditRow) -> str:
    """What was asked for."""
    what = row.method or row.protocol or row.scheme or "connection"
    scheme = f"{row.scheme}://" if row.scheme and row.path is not None else ""
    return f"{what} {scheme}{destination(row)}"


def trace(row: AuditRow) -> list[tuple[str, str]]:
    """Step by step, each a label and a sentence's part; what the row has nothing of is left out."""
    text = TEXTS[Reason(row.reason)] if row.reason in Reason else None
    told = object_of(row.trace)
    steps = [
        ("asked", f"{utc(row.time_us)}  by sandbox {row.sandbox}, {row.client}{_seen(row)}"),
        ("decided", _decided(row, text)),
        ("stands for", f"{row.count:,} decisions that were alike" if row.count > 1 else ""),
        ("rule", _rule(row)),
        *_says(told),
        ("policy", row.policy_hash or ""),
        ("rewritten", "" if row.rewritten is None else f"to {row.rewritten}"),
        ("headers", _headers(told)),
        ("secrets", f"put in: {', '.join(row.secrets)}" if row.secrets else ""),
        ("dialled", row.address or ""),
        ("answered", "" if row.first_byte_us is None else f"{_after(row.first_byte_us)}  first byte"),
        ("ended", _ended(row)),
        ("failed", row.error or ""),
        ("labels", row.labels or ""),
        ("what to do", "" if text is None or row.verdict == "allow" else text.hint),
        ("id", row.id),
    ]
    return [(label, value) for label, value in steps if value]


def _seen(row: AuditRow) -> str:
    """What of the request was seen, and how."""
    parts = [
        f"road {row.road}" if row.road else "",
        f"lane {row.lane}" if row.lane else "",
        row.protocol or "",
        f"SNI {row.sni}" if row.sni and row.sni != row.host else "",
    ]
    told = ", ".join(part for part in parts if part)
    return f"  ({told})" if told else ""


def _decided(row: AuditRow, text: ReasonText | None) -> str:
    said = row.detail or ("" if text is None else text.sentence)
    return f"{row.verdict}, {row.reason}{f': {said}' if said else ''}"


def _rule(row: AuditRow) -> str:
    place = rule_place(row)
    if place is None:
        return f"none; scope {row.scope} has the last word" if row.scope else ""
    name = f"{row.rule}, " if row.rule and row.rule != place else ""
    return f"{name}{place}{f' (scope {row.scope})' if row.scope else ''}"


def _says(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What each scope said, highest first. The file may be another program's: nothing of it is relied on."""
    says = told.get("says")
    for say in says if isinstance(says, list) else ():
        if isinstance(say, dict):
            yield f"  {say.get('scope', '?')}", _say(say)


def _say(say: Mapping[str, Any]) -> str:
    verdict, file, line = say.get("verdict"), say.get("file"), say.get("line")
    if verdict is None:
        return f"says nothing ({say.get('reason', '?')})"
    if file is None:
        return f"{verdict}, by its default"
    name = f"{say['rule']}, " if say.get("rule") else ""
    return f"{verdict}: {name}{file}{'' if line is None else f':{line}'}"


def _headers(told: Mapping[str, Any]) -> str:
    found = {what: told.get(what) for what in ("set", "removed")}
    parts = [f"{what}: {', '.join(map(str, names))}" for what, names in found.items() if isinstance(names, list)]
    return "; ".join(parts)


def _ended(row: AuditRow) -> str:
    if row.state == "open":
        return "not yet, or without a record of its end"
    parts = [
        "" if row.duration_us is None else f"{_after(row.duration_us)} ",
        "" if row.status is None else f"status {row.status}",
        "" if row.bytes_up is None else f"{show_bytes(row.bytes_up)} up, {show_bytes(row.bytes_down)} down",
    ]
    return " ".join(part for part in parts if part)


def _after(micros: int) -> str:
    return f"+{micros / _SECOND_US:.3f} s"
