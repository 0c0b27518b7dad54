"""The canonical bytes of rows, and the hash over them: fixed for ever, since old records are held to them."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from egress.audit.batch import Batch, write_batch
from egress.audit.chain import PACKED, Bounds, Span, canonical, digest_of, marks_of
from egress.audit.links import append_link, ends
from egress.audit.row import DECISIONS, EVENTS, note_row, packed, unpacked
from egress.audit.schema import MIGRATIONS, migrate
from egress.audit.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [(1, "a", 5, None, 'ü\n"'), (2, "b", -(2**40), None, "")]
BEFORE = "455c0b658322993f 90473c4f089e1489c1154ed36b29241005a177d678c1c3c2462c6d64b427154e"
SINCE = "f250685b2dd27523 86fe28b4a3e3a960457211af13e698a3d401b37cb88e9b1caa9816f48a9f756d"


@pytest.mark.parametrize(("schema", "known"), [(PACKED - 1, BEFORE), (PACKED, SINCE)])
def test_a_batch_has_the_hash_that_it_always_had(schema: int, known: str) -> None:
    """Of its schema, with text, numbers of both kinds and NULL."""
    span = Span(3, schema, 1_700_000_000_000_000, Bounds(), Bounds(2))
    rows = canonical(DECISIONS, ROWS, schema)
    marks = marks_of(rows)
    assert f"{marks.hex()} {digest_of(b'x' * 32, span, rows, marks).hex()}" == known


def test_equal_rows_are_equal_bytes() -> None:
    """However their values came about; and bytes are a row's alone."""
    name = str(b"name", "ascii")
    assert packed(DECISIONS, (sys.intern("name"), 7)) == packed(DECISIONS, (name, 7))
    assert unpacked(packed(DECISIONS, (name, 7, None))) == (DECISIONS, (name, 7, None))
    others = [(DECISIONS, ("7",)), (DECISIONS, (7,)), (DECISIONS, (7, None)), (DECISIONS, (None, 7)), (EVENTS, (7,))]
    assert len({packed(table, row) for table, row in others}) == len(others)


def test_a_record_goes_on_from_batches_of_an_earlier_schema(tmp_path: Path) -> None:
    """Both are verified, each as it was hashed, and an edited row is found in both."""
    path = tmp_path / "audit.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, MIGRATIONS[: PACKED - 1])
        before = ends(connection)
        connection.execute("INSERT INTO events (id, time_us, kind, detail) VALUES ('old', 1, 'start', 'é')")
        append_link(connection, Batch(), before, PACKED - 1, 1, whole=False)
        migrate(connection, path)
        assert write_batch(connection, Batch.of([(EVENTS, note_row("new", 2, "stop", "é"))]), 2) == ()
        report = verify(connection, path)
        assert (report.problems, report.batches, report.rows) == ([], 2, 2)
        connection.execute("DROP TRIGGER events_no_update")
        for seq in (1, 2):
            connection.execute("UPDATE events SET detail = 'e' WHERE seq = ?", (seq,))
            assert any(f"row {seq} was edited" in problem for problem in verify(connection, path).problems)
            connection.execute("UPDATE events SET detail = 'é' WHERE seq = ?", (seq,))
        assert verify(connection, path).problems == []
