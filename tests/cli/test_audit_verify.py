"""`egress audit verify`: what a reviewer reads, and the exit status that a script goes by."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from records import denied, record
from typer.testing import CliRunner

from egress.audit import AuditWriter, Signer
from egress.audit.signing import PUBLIC_NAME
from egress.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder whose record has three batches, signed."""
    writer = AuditWriter(tmp_path / "audit.db", flush_interval=0.02, signer=Signer.load_or_create(tmp_path))
    writer.start()
    for number in range(3):
        assert writer.note("reload", str(number))
        assert writer.flush(10)
    assert writer.close(10)
    return tmp_path


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


def test_a_record_that_holds(state: Path) -> None:
    """How much was verified, who signed it, and the line to write down."""
    ran = _run("verify", "--state-dir", state)
    assert ran.exit_code == 0
    assert "The record holds: 3 rows in 3 batches." in ran.output
    assert "as the file itself says, up to batch 3." in ran.output
    last = ran.output.split("The last batch: ")[1].strip()
    assert _run("verify", "--state-dir", state, "--expect", last).exit_code == 0
    assert _run("verify", "--state-dir", state, "--indexes").output == ran.output
    assert "by the key that you named" in _run("verify", "--state-dir", state, "--key", state / PUBLIC_NAME).output


def test_a_record_that_does_not_hold(state: Path) -> None:
    """Exit status 1, the place in words and in JSON."""
    with closing(sqlite3.connect(state / "audit.db", isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER events_no_update")
        connection.execute("UPDATE events SET detail = 'nothing' WHERE seq = 2")
    ran = _run("verify", "--state-dir", state)
    assert ran.exit_code == 1
    assert "✗ events: row 2 was edited, in batch 2" in ran.output
    assert "The record does not hold" in ran.output
    told = json.loads(_run("verify", "--state-dir", state, "--json").output)
    assert told["holds"] is False
    assert told["problems"][0].startswith("events: row 2 was edited")


def test_a_denial_that_an_index_leaves_out(tmp_path: Path) -> None:
    """The rows are as they were, and a filter does not find one: that is seen where the indexes are looked at."""
    path = tmp_path / "audit.db"
    record(path, denied(id="a", host="one.test"), denied(id="b", host="two.test"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        select = "SELECT sql FROM sqlite_schema WHERE name = 'decisions_refused'"
        ((own,),) = connection.execute(select).fetchall()
        connection.execute("DROP INDEX decisions_refused")
        connection.execute(f"{own} AND host <> 'two.test'")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'decisions_refused'", (own,))
    shown = _run("--audit", path, "--filter", "verdict:deny", "--plain").output
    assert ("one.test" in shown, "two.test" in shown) == (True, False)
    assert _run("verify", "--audit", path).exit_code == 0
    ran = _run("verify", "--audit", path, "--indexes")
    assert ran.exit_code == 1
    assert "✗ SQLite: " in ran.output
    assert "decisions_refused" in ran.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "--expect", "12"], "the batch's number, a colon, and its hash"),
        (["verify", "--expect", "1:" + "x" * 64], "not hexadecimal"),
        (["--limit", "3", "verify"], "write options after `verify`"),
    ],
)
def test_a_wrong_command_line_is_said(state: Path, arguments: list[str], message: str) -> None:
    """An option that would be overlooked is refused as well."""
    ran = _run(*arguments, *(["--state-dir", str(state)] if arguments[0] == "verify" else []))
    assert ran.exit_code == 2
    assert message in " ".join(ran.output.split())
