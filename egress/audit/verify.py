"""Verifying the record: recomputes the chain from the rows and says where it does not hold.

What it finds: a row edited, deleted, inserted, moved or cut off, and a batch or checkpoint likewise. What the newest
checkpoint does not cover may have been cut off unnoticed; a checkpoint kept elsewhere (`expect`) covers that as well.
Reads in slices, so that the proxy's own checkpoints of the file never wait long. Rows in the file are not trusted.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hmac import compare_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from egress.audit.chain import (
    TABLES,
    Bounds,
    End,
    Span,
    canonical,
    checkpoint_text,
    columns_of,
    digest_of,
    genesis,
    marks_of,
    split_marks,
)
from egress.audit.database import explain
from egress.audit.links import ends
from egress.audit.schema import migrate
from egress.audit.signing import fingerprint_of, is_signed
from egress.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from egress.audit.chain import Numbered

_BATCHES = (
    "SELECT number, schema, time_us, decisions_first, outcomes_first, events_first, decisions, outcomes, events, marks,"
    " hash FROM batches WHERE number > ? ORDER BY number LIMIT ?"
)
_SLICE: Final = 200
# Many times what the writer puts into a batch: bounds that were edited make nobody read, or count, without end.
_BATCH_AT_MOST: Final = 100_000
_PROBLEMS_AT_MOST: Final = 100
# With names of columns before `AS`, a view shows what one column has under the name of another.
_VIEW_HEAD: Final = re.compile(r'^CREATE VIEW ["\[]?requests["\]]? AS ')
# What SQLite takes for space, and no more: other spaces are letters of its names.
_SPACES: Final = re.compile(r"[ \t\n\f\r]+")
_WAS: Final = ("was", "were")
# Seq numbers named one by one in a problem.
_NAMED_AT_MOST: Final = 5


@dataclass(frozen=True, slots=True)
class Expected:
    """A checkpoint that was written down elsewhere: the hash that a batch must have."""

    number: int
    digest: bytes


@dataclass(slots=True)
class Report:
    """What was found. `problems` are sentences; none: the record holds. `unchained` rows are older than the chain.

    `signed_to`: the last batch that a good signature covers; `signers` are the keys that signed. `dropped` are rows
    that retention let go.
    """

    chain: str = ""
    rows: int = 0
    batches: int = 0
    digest: bytes = b""
    last: int = 0
    checkpoints: int = 0
    signed_to: int = 0
    signers: list[str] = field(default_factory=list)
    trusted: bool = False
    unchained: int = 0
    dropped: int = 0
    problems: list[str] = field(default_factory=list)
    more: int = 0

    @property
    def holds(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.problems

    def add(self, part: Report) -> None:
        """Count in what was found in the part of the record that follows."""
        self.rows += part.rows
        self.batches += part.batches
        self.checkpoints += part.checkpoints
        self.signed_to = max(self.signed_to, part.signed_to)
        self.signers += [signer for signer in part.signers if signer not in self.signers]
        self.more += part.more
        for problem in part.problems:
            self.found(problem)

    def found(self, problem: str) -> None:
        """One thing more that is wrong."""
        if len(self.problems) < _PROBLEMS_AT_MOST:
            self.problems.append(problem)
        else:
            self.more += 1


def verify(
    connection: sqlite3.Connection,
    path: Path,
    *,
    key: bytes | None = None,
    expected: Sequence[Expected] = (),
    progress: Callable[[int], object] = lambda _: None,
) -> Report:
    """Verify the record in an open database. `key`: the only one whose signatures count. Raises AuditError.

    `progress` is told how many rows were verified so far.
    """
    try:
        return Verifying(connection, key, expected, progress).run()
    except sqlite3.Error as error:
        raise explain(error, path) from error


class Verifying:
    """One verification: `begin`, then `part` by part or `run` for all of them, then `end`."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        key: bytes | None,
        expected: Sequence[Expected],
        progress: Callable[[int], object],
    ) -> None:
        self._connection = connection
        self._key = key
        self._expected = {one.number: one.digest for one in expected}
        self._progress = progress
        self.report = Report(trusted=key is not None)
        self._start = End("", 0, Bounds(), b"")

    def run(self) -> Report:
        """Everything, in the order of the record."""
        return self.end(self.part(self.begin()))

    def begin(self) -> End:
        """Where the chain begins: at its genesis, or behind what retention dropped."""
        self._start = self._begin()
        self._before(self._start)
        self._check_view()
        self._check_signatures_of(self._start)
        return self._start

    def part(self, end: End, last: int | None = None) -> End:
        """The batches after `end`, up to number `last`; where they end."""
        while batches := self._connection.execute(_BATCHES, (end.number, _SLICE)).fetchall():
            for values in batches:
                if last is not None and values[0] > last:
                    return end
                end = self._batch(end, values)
                self._check_signatures_of(end)
            self._progress(self.report.rows)
        return end

    def end(self, end: End) -> Report:
        """What there is behind the last batch, and what was found in all."""
        self._after(end)
        if self._key is not None and not self.report.signers:
            # Who makes a record anew leaves its checkpoints out, or its batches, as if all rows were from before the
            # chain: without a checkpoint, nothing here is this key's word.
            self.report.found("no checkpoint is signed by the key that was named: anybody may have written this record")
        self.report.last, self.report.digest = end.number, end.digest
        return self.report

    def _begin(self) -> End:
        chains = self._connection.execute("SELECT id, decisions, outcomes, events FROM chains").fetchall()
        if len(chains) != 1:
            raise AuditError(f"the file has {len(chains)} chains, and should have one", hint="it was changed by hand")
        ((chain, *counts),) = chains
        bounds = Bounds(*counts)
        self.report.chain, self.report.unchained = chain, sum(bounds)
        start = End(chain, 0, bounds, genesis(chain, bounds))
        drop = self._connection.execute(
            "SELECT number, time_us, decisions, outcomes, events, hash, signer, signature FROM drops"
            " ORDER BY number DESC LIMIT 1"
        ).fetchone()
        if drop is None:
            return start
        number, time_us, *last, digest, signer, signature = drop
        dropped = End(chain, number, Bounds(*last), digest)
        self.report.unchained, self.report.dropped = 0, sum(dropped.bounds)
        if not self._signed(signer, signature, checkpoint_text("drop", dropped, time_us)):
            self.report.found(f"rows up to batch {number} were dropped without a good signature")
        return dropped

    def _before(self, start: End) -> None:
        """Rows where no batch can have any: below the first one, or among the dropped, of which the last may stay."""
        for table, last in zip(TABLES, start.bounds, strict=True):
            below = max(last, 1) if start.number else 1
            sql = f"SELECT min(seq), max(seq) FROM {table} WHERE seq < ?"  # noqa: S608 -- constants
            low, high = self._connection.execute(sql, (below,)).fetchone()
            if low is not None:
                self.report.found(f"{table}: {_places(low, high)} in no batch, before the first one")

    def _check_view(self) -> None:
        """What is shown is what the view gives of the rows: another one could leave some out."""
        if _view(self._connection) != _own_view():
            self.report.found("the view `requests` is another one: what is shown may differ from what was recorded")

    def _batch(self, end: End, values: tuple[Any, ...]) -> End:
        """Verify one batch; where the chain goes on is what the file says, so that one fault is told once."""
        number, schema, time_us, *bounds = values[:9]
        marks, digest = values[9:]
        span = Span(number, schema, time_us, Bounds(*bounds[:3]), Bounds(*bounds[3:]))
        tables = [self._rows(*one) for one in zip(TABLES, span.first, span.last, (schema,) * 3, strict=True)]
        parts = [canonical(table, rows, schema) for table, rows in zip(TABLES, tables, strict=True)]
        contents = [content for part in parts for content in part]
        self.report.rows += len(contents)
        self.report.batches += 1
        if number != end.number + 1:
            missing = number - end.number - 1
            which = f"batch {number - 1} is" if missing == 1 else f"batches {end.number + 1} to {number - 1} are"
            self.report.found(f"{which} missing")
        else:
            self._between(end.bounds, span.first, f"before batch {number}")
            if not compare_digest(digest_of(end.digest, span, contents, marks), digest):
                self._locate(span, tables, parts, marks)
        return End(end.chain, number, span.last, digest)

    def _rows(self, table: str, first: int, last: int, schema: int) -> list[Numbered]:
        if last <= first:
            return []
        columns = ", ".join(columns_of(table, schema))
        sql = f"SELECT seq, {columns} FROM {table} WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"  # noqa: S608 -- constants
        asked = (first, last, _BATCH_AT_MOST)
        try:
            return self._connection.execute(sql, asked).fetchall()
        except sqlite3.OperationalError:
            # Text that is no UTF-8 was never recorded: read it all the same, to say which row has it.
            self._connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
            try:
                return self._connection.execute(sql, asked).fetchall()
            finally:
                self._connection.text_factory = str

    def _locate(
        self, span: Span, tables: Sequence[Sequence[Numbered]], parts: Sequence[Sequence[bytes]], marks: bytes
    ) -> None:
        """Say which rows of a batch are not as they were recorded."""
        known, told, place = split_marks(marks), False, 0
        for table, rows, part, first, last in zip(TABLES, tables, parts, span.first, span.last, strict=True):
            now = dict(zip([row[0] for row in rows], split_marks(marks_of(part)), strict=True))
            then = dict(zip(range(first + 1, last + 1), known[place:], strict=False))
            place += max(last - first, 0)
            missing = [seq for seq in range(first + 1, min(last, first + _BATCH_AT_MOST) + 1) if seq not in now]
            changed = [seq for seq, mark in then.items() if now.get(seq, mark) != mark]
            for numbers, what in ((missing, "deleted"), (changed, "edited")):
                if numbers:
                    told = True
                    self.report.found(
                        f"{table}: {_named(numbers)} {what}, in batch {span.number} {_when(span.time_us)}"
                    )
        if not told:
            self.report.found(f"batch {span.number} {_when(span.time_us)} does not follow from its rows")

    def _between(self, last: Bounds, first: Bounds, where: str) -> None:
        """Rows that are in no batch."""
        for table, low, high in zip(TABLES, last, first, strict=True):
            if high > low:
                self.report.found(f"{table}: {_places(low + 1, high)} in no batch, {where}")
            elif high < low:
                self.report.found(f"{table}: {_places(high + 1, low, _WAS)} inserted or moved, {where}")

    def _after(self, end: End) -> None:
        """What there is behind the last batch, and what should be there."""
        # A proxy may be recording: what it has added since then, it has linked as well.
        self._connection.execute("BEGIN")
        try:
            newer = self._connection.execute("SELECT 1 FROM batches WHERE number > ?", (end.number,)).fetchone()
            newest = ends(self._connection)
            signed = self._connection.execute("SELECT max(number) FROM checkpoints").fetchone()[0] or 0
        finally:
            self._connection.execute("ROLLBACK")
        if newer is None:
            for table, last, now in zip(TABLES, end.bounds, newest, strict=True):
                if now > last:
                    self.report.found(f"{table}: {_places(last + 1, now)} in no batch, after the last one")
            if signed > end.number:
                self.report.found(
                    f"the record ends at batch {end.number}, but batch {signed} was signed: its end is cut off"
                )
        for number in sorted(self._expected):
            if number > end.number:
                self.report.found(f"the record ends at batch {end.number}, but batch {number} is expected")
            elif number < self._start.number:
                self.report.found(f"batch {number} is expected, and was dropped")

    def _check_signatures_of(self, end: End) -> None:
        if end.number in self._expected and not compare_digest(self._expected[end.number], end.digest):
            self.report.found(f"batch {end.number} has another hash than the expected one")
        found = self._connection.execute(
            "SELECT time_us, signer, signature FROM checkpoints WHERE number = ?", (end.number,)
        ).fetchall()
        for time_us, signer, signature in found:
            if self._signed(signer, signature, checkpoint_text("end", end, time_us)):
                self.report.checkpoints += 1
                self.report.signed_to = end.number
            else:
                self.report.found(f"the checkpoint of batch {end.number} {_when(time_us)} has no good signature")

    def _signed(self, signer: str | None, signature: bytes | None, text: bytes) -> bool:
        row = self._connection.execute("SELECT public FROM signers WHERE fingerprint = ?", (signer,)).fetchone()
        public = self._key if self._key is not None else None if row is None else row[0]
        if public is None or signature is None or fingerprint_of(public) != signer:
            return False
        if signer not in self.report.signers:
            self.report.signers.append(signer)
        return is_signed(public, signature, text)


def _view(connection: sqlite3.Connection) -> str:
    """What the view `requests` asks; empty if there is none."""
    found = connection.execute("SELECT sql FROM sqlite_schema WHERE type = 'view' AND name = 'requests'").fetchone()
    return "" if found is None else _VIEW_HEAD.sub("", _SPACES.sub(" ", str(found[0]).strip()))


def _own_view() -> str:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, Path(":memory:"))
        return _view(connection)


def _named(numbers: Sequence[int]) -> str:
    """Rows by their numbers."""
    first, last = numbers[0], numbers[-1]
    if last - first == len(numbers) - 1:
        return _places(first, last, _WAS)
    some = ", ".join(map(str, numbers[:_NAMED_AT_MOST]))
    return f"rows {some}{' ...' if len(numbers) > _NAMED_AT_MOST else ''} ({len(numbers)}) were"


def _places(first: int, last: int, verbs: tuple[str, str] = ("is", "are")) -> str:
    # Counts nothing: bounds that were edited are further apart than a range may be long.
    return f"row {first} {verbs[0]}" if first == last else f"rows {first} to {last} {verbs[1]}"


def _when(time_us: int) -> str:
    try:
        return f"({datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(timespec='seconds')})"
    except (ValueError, OverflowError, OSError):
        return "(at no time)"
