"""`egress audit sql`: it only reads, ends in its own time, and no hostile text in its answer does harm."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
import time
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from egress.audit import AuditWriter
from egress.audit.sql import Allowance, ask
from egress.cli.main import app
from egress.errors import AuditError

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

HOSTILE = "\x1b[31m`<b>|\u202e"
# One step of SQLite's machine, which no handler interrupts.
LONG = "replace(hex(zeroblob({}000000)), '0', 'a')"
ENDLESS_CALL = f"SELECT instr({LONG.format(2)}, {LONG.format(1)} || 'b')"
ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT {} FROM c"
# More than a pipe and the buffers around it take.
MANY = 50_000


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A record in which a proxy started."""
    writer = AuditWriter(tmp_path / "audit.db", flush_interval=0.02)
    writer.start()
    assert writer.note("start", HOSTILE)
    assert writer.close(10)
    return tmp_path


def _run(state: Path, statement: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["audit", "sql", "--state-dir", str(state), statement, *arguments])


def _command(state: Path, statement: str, seconds: float) -> list[str]:
    line = [sys.executable, "-c", "from egress.cli.main import main; main()", "audit", "sql", statement]
    return [*line, "--state-dir", str(state), "--timeout", str(seconds)]


def test_sql_in_each_format(state: Path) -> None:
    """A table, CSV that a reader of CSV reads, JSON lines; nothing hostile in any."""
    statement = "SELECT kind, detail, NULL AS empty, x'0aff' AS bytes FROM events WHERE kind = 'start'"
    table = _run(state, statement).output
    assert table.splitlines()[0].split() == ["kind", "detail", "empty", "bytes"]
    rows = list(csv.reader(io.StringIO(_run(state, statement, "--format", "csv").output)))
    assert rows[0] == ["kind", "detail", "empty", "bytes"]
    assert rows[1][0] == "start"
    assert rows[1][2:] == ["", "0aff"]
    told = json.loads(_run(state, statement, "--format", "json").output)
    assert (told["empty"], told["bytes"]) == (None, "0aff")
    for output_format in ("table", "csv", "json"):
        assert "\x1b" not in _run(state, statement, "--format", output_format).output


def test_no_cell_of_a_statement_is_a_formula(state: Path) -> None:
    """As in the export: a query or a method may begin with what a spreadsheet runs; a number stays one."""
    statement = "SELECT '=cmd|''/C calc''!A0' AS a, '@SUM(1)=***' AS \"=b\", -1 AS c, ' +1' AS d"
    names, row = csv.reader(io.StringIO(_run(state, statement, "--format", "csv").output))
    assert names == ["a", "'=b", "c", "d"]
    assert row == ["'=cmd|'/C calc'!A0", "'@SUM(1)=***", "-1", "' +1"]


def test_a_function_without_an_end_is_ended(state: Path) -> None:
    """SQLite looks at the time between two steps, and this is one."""
    command = _command(state, ENDLESS_CALL, 0.2)
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "egress: the statement took over 0.2 seconds, and was ended\n"


def test_it_is_ended_also_where_nobody_hears_of_it(state: Path) -> None:
    """An error that cannot be told changes nothing."""
    read, written = os.pipe()
    os.close(read)
    with open(written, "wb") as unheard:  # noqa: PTH123 -- a descriptor
        ran = subprocess.run(_command(state, ENDLESS_CALL, 0.2), stderr=unheard, timeout=60, check=False)
    assert ran.returncode == 1


def test_who_reads_slowly_gets_all(state: Path) -> None:
    """A pager may wait for its reader for longer than the statement may run."""
    seconds = 1.0
    command = _command(state, ENDLESS.format("x") + f" LIMIT {MANY}", seconds)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == "x"
        # Beyond the time of the handler, and that of who ends the process.
        time.sleep(seconds + 1.5)
        told, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
    assert told.split()[-1] == str(MANY)


@pytest.mark.parametrize(("running", "reading", "ends"), [(0.0, 100.0, False), (1.0, 0.0, True), (1.0, 100.0, True)])
def test_only_the_statements_own_time_counts(*, running: float, reading: float, ends: bool) -> None:
    """What passes between two rows is their reader's, and an endless statement still ends."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += running
        return now

    told = ""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        try:
            for _ in islice(ask(connection, ENDLESS.format("x"), Allowance(60.0, clock)), MANY):
                now += reading
        except AuditError as error:
            told = error.message
    assert told == ("the statement took over 60 seconds" if ends else "")


def test_what_is_left_is_told_while_it_runs() -> None:
    """As who ends the process looks at it."""
    now = 0.0
    allowance = Allowance(10.0, lambda: now)
    with allowance:
        now = 4.0
        assert allowance.left() == 6.0
    now = 50.0
    assert allowance.left() == 6.0
    with allowance:
        now = 57.0
    assert allowance.left() == -1.0


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM decisions", "only reading is allowed"),
        ("DROP TRIGGER decisions_no_delete", "only reading is allowed"),
        ("PRAGMA writable_schema = ON", "only reading is allowed"),
        ("ATTACH '/tmp/other.db' AS other", "only reading is allowed"),
        ("VACUUM INTO '/tmp/copy.db'", "only reading is allowed"),
        ("SELECT load_extension('x')", "not authorized"),
        ("SELEC 1", "syntax error"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("SELECT * FROM missing", "no such table"),
        ('SELECT * FROM "\x1b[31m\u202e"', "no such table: \\x1b[31m\\u202e"),
        ("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c", "took over 0.2 s"),
    ],
)
def test_sql_only_reads_and_ends(state: Path, statement: str, message: str) -> None:
    """What would write, open another file or never end is refused with what to do."""
    ran = _run(state, statement, "--timeout", "0.2")
    assert ran.exit_code == 1
    assert message in str(ran.exception)
