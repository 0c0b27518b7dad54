"""What is recorded, as it goes out: one line of JSON, alone or as the message of syslog (RFC 5424).

INVARIANT hostile-text: ASCII without controls, so that one row is one line and one message, whatever the wire sent.

The structured data are the two elements that IANA has registered for such use, `origin` and `meta` (RFC 5424, section
7): an element of our own would need an enterprise number. All that is ours is in the message, as JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from egress import __version__
from egress.audit.json_row import encode, object_of, utc
from egress.audit.row import COLUMNS, DECISIONS, OUTCOMES

if TYPE_CHECKING:
    from egress.audit.row import Row

_WARNING, _NOTICE, _INFO = 4, 5, 6
_LAST_SEQUENCE: Final = 2**31 - 1
_NIL: Final = "-"
# To how many characters texts are cut where a message must fit into a datagram: one may take twelve bytes there.
_CUTS: Final = (200, 50, 10)


def as_object(table: str, row: Row) -> dict[str, Any]:
    """A row of `decisions`, `outcomes` or `events`: which one, its time, and its columns."""
    values: dict[str, Any] = dict(zip(COLUMNS[table], row, strict=True))
    if table == DECISIONS:
        values["secrets"] = _names(values["secrets"])
        values |= {name: object_of(values[name]) for name in ("labels", "trace")}
    return {"table": table, "time": utc(int(values["time_us"])), **values}


def json_text(table: str, row: Row, longest: int | None = None) -> str:
    """The row as one line; with `longest`, its long texts are cut to fit, and `cut` says so."""
    value = as_object(table, row)
    text = encode(value)
    if longest is None or len(text) <= longest:
        return text
    left_out: dict[str, object] = {"secrets": [], "labels": {}, "trace": {}} if table == DECISIONS else {}
    for most in _CUTS:
        short = {name: _short(item, most) for name, item in value.items()}
        text = encode({**short, **left_out, "cut": True})
        if len(text) <= longest:
            break
    return text


@dataclass(slots=True)
class SyslogText:
    """Makes messages of RFC 5424; they are numbered, so that a receiver can tell that one is missing."""

    facility: int
    host: str
    process: int
    longest: int | None = None
    sequence: int = 1

    def message(self, table: str, row: Row) -> bytes:
        """One message, without what frames it; it has the number that follows the last one that was `sent`."""
        priority = self.facility * 8 + severity(table, row)
        time = utc(int(row[COLUMNS[table].index("time_us")] or 0))
        header = f"<{priority}>1 {time} {_word(self.host, 255)} egress {self.process} {table}"
        data = f'[origin software="egress" swVersion="{__version__}"][meta sequenceId="{self.sequence}"]'
        head = f"{header} {data} "
        room = None if self.longest is None else self.longest - len(head)
        return f"{head}{json_text(table, row, room)}".encode("ascii")

    def sent(self) -> None:
        """The message went out."""
        self.sequence = self.sequence % _LAST_SEQUENCE + 1


def severity(table: str, row: Row) -> int:
    """What is refused is a warning; what waits or went wrong, and what happened to the proxy, a notice."""
    if table == DECISIONS:
        return {"allow": _INFO, "ask": _NOTICE}.get(str(row[COLUMNS[table].index("verdict")]), _WARNING)
    if table == OUTCOMES and row[COLUMNS[table].index("error")] is None:
        return _INFO
    return _NOTICE


def _word(text: str, longest: int) -> str:
    kept = "".join(char for char in text[:longest] if "!" <= char <= "~")
    return kept or _NIL


def _names(text: str | None) -> list[str]:
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return [str(text)]
    return found if isinstance(found, list) else [str(found)]


def _short(value: object, most: int) -> object:
    return f"{value[:most]}…" if isinstance(value, str) and len(value) > most else value
