"""Finding the few rows that a filter asks for among many: an index of texts, made while nothing is to be recorded.

1. the index (FTS5, trigrams) has one entry for each block of rows, with all their different texts, so that what is the
   same in many rows costs once
2. it says which blocks may have a row that is asked for; the rows themselves decide, so that what is found is what a
   scan finds
3. what is not in the index yet, beyond the watermark, is scanned

The index is no part of what `verify` proves, and one that cannot be read is done without.
"""

from __future__ import annotations

import re
import sqlite3
from heapq import merge
from typing import TYPE_CHECKING, Any, Final

from egress.audit.filter_sql import error_condition, where

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.audit.filters import Filter, Term

# Rows in a block. Smaller ones find closer, larger ones have less to store.
BLOCK: Final = 128
# Blocks in one transaction: rows that come meanwhile wait about ten milliseconds.
_SLICE: Final = 4
_TEXTS: Final = (
    *("host", "path", "rule", "file", "reason", "detail", "id", "sandbox", "client"),
    *("sni", "rewritten", "policy_hash", "secrets"),
)
# The terms of a filter whose texts are in the index; those whose text may also be an outcome's error.
_FIELDS: Final = frozenset(
    {"host", "path", "rule", "file", "reason", "id", "sandbox", "client", "sni", "rewritten", "policy", "secret", None}
)
_ALSO_ERRORS: Final = frozenset({"reason", None})
_COLUMNS: Final = ", ".join(_TEXTS)
_ROWS: Final = f"SELECT {_COLUMNS} FROM decisions WHERE seq > ? AND seq <= ?"  # noqa: S608 -- constants
_ADD: Final = "INSERT INTO search (rowid, text) VALUES (?, ?)"
_REMOVE: Final = "INSERT INTO search (search, rowid, text) VALUES ('delete', ?, ?)"
# What a pattern is taken apart into: other characters stand for anything, are written otherwise in JSON, or have more
# than one lower case.
_PIECE: Final = re.compile(r'[^*"\\\x00-\x1f\x7f-\U0010ffff]{3,}')
_MOST_PARTS: Final = 24


def index_some(connection: sqlite3.Connection) -> int:
    """Put some more blocks into the index, in a transaction; how many. Raises sqlite3.Error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        first = _next_block(connection)
        (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM decisions").fetchone()
        blocks = range(first, min(first + _SLICE, last // BLOCK))
        connection.executemany(_ADD, [(block, text) for block in blocks if (text := _text(connection, block))])
        if blocks:
            connection.execute("UPDATE searched SET blocks = ?", (blocks.stop,))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return len(blocks)


def forget(connection: sqlite3.Connection, last: int) -> None:
    """Take the blocks up to `seq` `last` out of the index, while their rows are still there; within a transaction.

    An index that is damaged keeps nothing from being dropped. Raises sqlite3.Error where the transaction is over.
    """
    try:
        _forget(connection, last)
    except sqlite3.Error:
        if not connection.in_transaction:
            raise


def _forget(connection: sqlite3.Connection, last: int) -> None:
    (kept,) = connection.execute("SELECT coalesce(min(seq), 1) FROM decisions").fetchone()
    (done,) = connection.execute("SELECT blocks FROM searched").fetchone()
    for block in range((kept - 1) // BLOCK, min(last // BLOCK, done)):
        if text := _text(connection, block):
            connection.execute(_REMOVE, (block, text))


def _next_block(connection: sqlite3.Connection) -> int:
    (done,) = connection.execute("SELECT blocks FROM searched").fetchone()
    (kept,) = connection.execute("SELECT coalesce(min(seq), 1) FROM decisions").fetchone()
    return max(int(done), (int(kept) - 1) // BLOCK)


def _text(connection: sqlite3.Connection, block: int) -> str:
    """The different texts of a block; what a row has does not change, so neither does this."""
    rows = connection.execute(_ROWS, (block * BLOCK, (block + 1) * BLOCK))
    return "\n".join(sorted({text for row in rows for text in row if text is not None}))


def newest_by_index(
    connection: sqlite3.Connection, wanted: Filter, select: str, first: int, limit: int
) -> list[tuple[Any, ...]] | None:
    """The newest rows from `seq` `first` on that meet the filter, newest first; None where the index is no help.

    `select` names columns of the view.
    """
    match = match_of(wanted)
    if match is None:
        return None
    condition, parameters = where(wanted)
    within = f"{select} WHERE seq > ? AND seq <= ? AND {condition} ORDER BY seq DESC LIMIT ?"
    try:
        last = watermark(connection)
        (end,) = connection.execute("SELECT coalesce(max(seq), 0) FROM decisions").fetchone()
        # What is beyond the watermark first; a block that reaches beyond it is no block yet.
        found = connection.execute(within, [max(first - 1, last), end, *parameters, limit]).fetchall()
        for after, to in blocks_of(connection, wanted, match, first):
            if len(found) >= limit:
                break
            bounds = max(after, first - 1), min(to, last)
            found += connection.execute(within, [*bounds, *parameters, limit - len(found)])
    except sqlite3.Error:
        return None  # the index is damaged, or this SQLite has no FTS5: the rows are there all the same
    return found


def watermark(connection: sqlite3.Connection) -> int:
    """The `seq` up to which the index has all rows. Raises sqlite3.Error."""
    (done,) = connection.execute("SELECT blocks FROM searched").fetchone()
    return int(done) * BLOCK


def match_of(wanted: Filter) -> str | None:
    """What the index is asked: what every row that meets the filter has in its block. None: it cannot narrow it."""
    parts = [part for term in wanted.terms if (part := _of_term(term)) is not None]
    return " AND ".join(parts) or None


def _of_term(term: Term) -> str | None:
    if term.negated or term.field not in _FIELDS:
        return None
    # `.example.com` is also `example.com`.
    lead = "." if term.field == "host" else ""
    values = [_of_text(str(value).removeprefix(lead)) for value in term.values]
    known = [value for value in values if value is not None]
    return f"({' OR '.join(known)})" if len(known) == len(values) else None


def _of_text(pattern: str) -> str | None:
    parts = {piece[at : at + 3].lower() for piece in _PIECE.findall(pattern) for at in range(len(piece) - 2)}
    quoted = [f'"{part}"' for part in sorted(parts)[:_MOST_PARTS]]
    return f"({' AND '.join(quoted)})" if quoted else None


def blocks_of(connection: sqlite3.Connection, wanted: Filter, match: str, first: int) -> Iterator[tuple[int, int]]:
    """Where rows may stand that meet the filter, newest first: after one `seq`, up to another. Raises sqlite3.Error."""
    asked = "SELECT rowid FROM search WHERE search MATCH ? AND rowid >= ? ORDER BY rowid DESC"
    found = (block for (block,) in connection.execute(asked, (match, max(first - 1, 0) // BLOCK)))
    before = None
    for block in merge(found, _with_errors(connection, wanted), reverse=True):
        if block != before:
            yield block * BLOCK, (block + 1) * BLOCK
        before = block


def _with_errors(connection: sqlite3.Connection, wanted: Filter) -> list[int]:
    """The blocks of rows whose outcome has the text as its error: it came after the decision, and is not indexed."""
    found: set[int] = set()
    for term in wanted.terms:
        if not term.negated and term.field in _ALSO_ERRORS:
            condition, parameters = error_condition(term)
            ids = f"SELECT id FROM outcomes WHERE error IS NOT NULL AND {condition}"  # noqa: S608 -- constants
            asked = f"SELECT DISTINCT (seq - 1) / {BLOCK} FROM decisions WHERE id IN ({ids})"  # noqa: S608 -- constants
            found.update(block for (block,) in connection.execute(asked, parameters))
    return sorted(found, reverse=True)
