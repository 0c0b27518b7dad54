"""The chain over the record: each batch's hash covers its rows and the hash of the batch before it. Pure.

1. A row's canonical text is the Python literal of the tuple (`seq`, then its columns in the order of the batch's
   schema), with everything beyond ASCII escaped: `(7, 'text', 200, None)`.
2. A batch's hash covers its bounds, and the texts of its rows by table and `seq`, each ended by a line feed.
3. A mark is the CRC-32 of a row's text. It only helps to say which row of a batch was changed; the hash covers it too.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from egress.audit.row import COLUMNS, DECISIONS, EVENTS, OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from egress.audit.row import Value

TABLES: Final = (DECISIONS, OUTCOMES, EVENTS)
_MARK: Final = 4
# The schema with which a column came, for those that came after the first.
SINCE: Final = {"labels": 2, "rewritten": 3, "count": 6, "trace": 8, "road": 9}

type Numbered = tuple[Value, ...]


class Bounds(NamedTuple):
    """The last `seq` of each table, in the order of `TABLES`."""

    decisions: int = 0
    outcomes: int = 0
    events: int = 0

    def text(self) -> str:
        """As it is hashed and signed."""
        return f"{self.decisions} {self.outcomes} {self.events}"


class End(NamedTuple):
    """Where a chain ends, or begins anew: a batch's number, the rows up to there, and the hash."""

    chain: str
    number: int
    bounds: Bounds
    digest: bytes


@dataclass(frozen=True, slots=True)
class Span:
    """What a batch is beside its rows: the rows after `first`, up to `last`, with the columns of `schema`."""

    number: int
    schema: int
    time_us: int
    first: Bounds
    last: Bounds

    def text(self) -> str:
        """As it is hashed."""
        return f"{self.number} {self.schema} {self.time_us}\n{self.first.text()}\n{self.last.text()}"


def columns_of(table: str, schema: int) -> tuple[str, ...]:
    """The columns that rows of a table had under a schema."""
    return tuple(column for column in COLUMNS[table] if SINCE.get(column, 1) <= schema)


def genesis(chain: str, start: Bounds) -> bytes:
    """What the first batch follows: the chain's id, and the rows that were there before it."""
    return sha256(f"egress audit chain 1\n{chain}\n{start.text()}\n".encode()).digest()


def texts_of(rows: Iterable[Numbered]) -> list[str]:
    """The canonical texts of rows."""
    return [ascii(row) for row in rows]


def digest_of(previous: bytes, span: Span, texts: Sequence[str], marks: bytes) -> bytes:
    """The hash of a batch that follows the one of hash `previous`."""
    hashed = sha256(previous)
    hashed.update(f"\n{span.text()}\n".encode())
    hashed.update(marks)
    for text in ("\n".join(texts), ""):
        hashed.update(text.encode("ascii") + b"\n")
    return hashed.digest()


def marks_of(texts: Sequence[str]) -> bytes:
    """Four bytes for each row, little-endian."""
    crc = zlib.crc32
    return struct.pack(f"<{len(texts)}I", *[crc(text.encode("ascii")) for text in texts])


def split_marks(marks: bytes) -> tuple[int, ...]:
    """The marks one by one; what is no whole mark is left out."""
    count = len(marks) // _MARK
    return struct.unpack(f"<{count}I", marks[: count * _MARK])


def checkpoint_text(what: str, end: End, time_us: int) -> bytes:
    """What a checkpoint signs. `what`: `end`, the record reaches this batch; `drop`, it begins after it."""
    where = f"{end.chain}\n{end.number}\n{end.digest.hex()}\n{end.bounds.text()}"
    return f"egress audit checkpoint 1\n{what}\n{where}\n{time_us}\n".encode("ascii")
