"""A row of the audit, told again: what was asked, what was decided and why, and how it ended.

What the row holds came from the sandbox: it is escaped where it is shown, and read strictly where it is asked again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from egress.audit import AuditReader
from egress.cli.audit_rows import destination, json_line, rule_place, utc
from egress.cli.options import audit_database
from egress.errors import EgressError
from egress.policy import TEXTS, WITHOUT_REQUEST, Protocol, Reason, Verdict
from egress.review import Question, make_question

if TYPE_CHECKING:
    from pathlib import Path

    from egress.audit import AuditRow
    from egress.policy import ReasonText
    from egress.review import Explanation

_CUT = "\u2026"


def row_named(row_id: str, audit: tuple[Path | None, Path | None]) -> AuditRow:
    """The row with this id; `audit` is the database, or the state folder that it is in. Raises EgressError."""
    with AuditReader(audit_database(*audit)) as reader:
        row = reader.named(row_id)
    if row is None:
        hint = "name the database with --audit or --state-dir"
        raise EgressError(f"the audit has no row with the id {row_id}", hint=hint)
    return row


def title(row: AuditRow) -> str:
    """What was asked for."""
    return f"{row.method or row.protocol or row.scheme or 'connection'} {destination(row)}"


def rows(row: AuditRow) -> list[tuple[str, str]]:
    """What there is to say, by label."""
    text = _text(row)
    told = [
        ("decided", f"{utc(row.time_us)}, for sandbox {row.sandbox} ({row.client})"),
        ("reason", f"{row.reason}: {row.detail or ('' if text is None else text.sentence)}"),
        ("rule", _rule(row)),
        ("policy", row.policy_hash),
        ("lane", row.lane),
        ("dialled", row.address),
        ("secrets", ", ".join(row.secrets)),
        ("labels", row.labels),
        ("ended", _ended(row)),
        ("what to do", "" if text is None or row.verdict == Verdict.ALLOW else text.hint),
    ]
    return [(label, value) for label, value in told if value]


def row_json(row: AuditRow, now: Explanation | None) -> dict[str, object]:
    """Every column of the row, and under `now` what the policy says today."""
    values: dict[str, object] = json.loads(json_line(row))
    return values | ({} if now is None else {"now": now.as_json()})


def question_of(row: AuditRow) -> Question | None:
    """The row as a question; None where it was refused before it could be read, or was stored cut.

    The record has no header values and mostly no values of a query, so rules that ask for those are judged without.
    """
    scheme = row.protocol if row.protocol in Protocol else row.scheme
    if scheme not in Protocol or row.host is None or row.port is None:
        return None
    if any(_CUT in text for text in (row.method, row.host, row.path) if text is not None):
        return None
    host = f"[{row.host}]" if ":" in row.host else row.host
    path = "" if scheme in WITHOUT_REQUEST else row.path or "/"
    addresses = () if row.address is None or row.address == row.host else (row.address,)
    question = make_question(
        f"{scheme}://{host}:{row.port}{path}", method=row.method, sandbox=row.sandbox, addresses=addresses
    )
    return question if isinstance(question, Question) else None


def _text(row: AuditRow) -> ReasonText | None:
    return TEXTS[Reason(row.reason)] if row.reason in Reason else None


def _rule(row: AuditRow) -> str:
    place = rule_place(row)
    if place is None:
        return ""
    name = f"{row.rule}, " if row.rule and row.rule != place else ""
    return f"{name}{place} (scope {row.scope})" if row.scope else f"{name}{place}"


def _ended(row: AuditRow) -> str:
    if row.state == "open":
        return "not yet, or without a record of its end"
    parts = [
        "" if row.status is None else f"status {row.status}",
        "" if row.bytes_up is None else f"{row.bytes_up} bytes up",
        "" if row.bytes_down is None else f"{row.bytes_down} bytes down",
        "" if row.duration_us is None else f"after {row.duration_us / 1_000_000:.3f} s",
        row.error or "",
    ]
    return ", ".join(part for part in parts if part)
