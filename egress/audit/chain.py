"""The chain over the record: each batch's hash covers its rows and the hash of the batch before it. Pure.

1. A row's canonical bytes are its `seq`, in eight bytes, little-endian, and what `packed` makes of it: Python's marshal
   format of version 2 of (table, (its columns in the order of the batch's schema)). Each row ends where it says.
2. In batches of a schema before 10 they are the Python literal of the tuple (`seq`, then the columns), with everything
   beyond ASCII escaped: `(7, 'text', 200, None)`; each row is ended by a line feed, and the batch by another.
3. A batch's hash covers its bounds, its marks, and the canonical bytes of its rows by table and `seq`.
4. A mark is the CRC-32 of a row's canonical bytes. It only helps to say which row of a batch was changed.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from egress.audit.row import COLUMNS, DECISIONS, EVENTS, OUTCOMES, packed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from egress.audit.row import Value

TABLES: Final = (DECISIONS, OUTCOMES, EVENTS)
_MARK: Final = 4
_SEQ: Final = 8
# The schema with which a column came, for those that came after the first.
SINCE: Final = {"labels": 2, "rewritten": 3, "count": 6, "trace": 8, "road": 9}

# From this schema on, rows are hashed as they are packed.
PACKED: Final = 10

# A row with its `seq` before it.
type Numbered = tuple[int, *tuple[Value, ...]]


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


def numbered(seq: int, data: bytes) -> bytes:
    """The canonical bytes of a row that is packed already."""
    return seq.to_bytes(_SEQ, "little", signed=True) + data


def canonical(table: str, rows: Iterable[Numbered], schema: int) -> list[bytes]:
    """The canonical bytes of a table's rows in a batch of a schema."""
    if schema < PACKED:
        return [ascii(row).encode("ascii") for row in rows]
    return [numbered(row[0], packed(table, row[1:])) for row in rows]


def digest_of(previous: bytes, span: Span, rows: Sequence[bytes], marks: bytes) -> bytes:
    """The hash of a batch that follows the one of hash `previous`. `rows`: their canonical bytes."""
    hashed = sha256(previous)
    hashed.update(f"\n{span.text()}\n".encode())
    hashed.update(marks)
    if span.schema < PACKED:
        hashed.update(b"\n".join(rows) + b"\n\n")
    else:
        hashed.update(b"".join(rows))
    return hashed.digest()


def marks_of(rows: Sequence[bytes]) -> bytes:
    """Four bytes for each row, little-endian."""
    return struct.pack(f"<{len(rows)}I", *map(zlib.crc32, rows))


def split_marks(marks: bytes) -> tuple[int, ...]:
    """The marks one by one; what is no whole mark is left out."""
    count = len(marks) // _MARK
    return struct.unpack(f"<{count}I", marks[: count * _MARK])


def checkpoint_text(what: str, end: End, time_us: int) -> bytes:
    """What a checkpoint signs. `what`: `end`, the record reaches this batch; `drop`, it begins after it."""
    where = f"{end.chain}\n{end.number}\n{end.digest.hex()}\n{end.bounds.text()}"
    return f"egress audit checkpoint 1\n{what}\n{where}\n{time_us}\n".encode("ascii")
