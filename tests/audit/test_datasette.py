"""The metadata for Datasette is that of the database as it is: tables, columns, and questions that can be asked."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from documents import ROOT
from records import record
from ruamel.yaml import YAML

from egress.audit import DecisionEvent, OutcomeEvent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECIPE = ROOT / "docs" / "recipes" / "datasette.yaml"
GUIDE = (ROOT / "docs" / "recipes" / "datasette.md").read_text()
METADATA: dict[str, Any] = YAML(typ="safe").load(RECIPE)["databases"]["audit"]


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Open a record of a request that was allowed and a flood that was refused, as Datasette does: to read."""
    common = {"time_us": 1_790_000_000_000_000, "client": "10.0.0.5:1", "sandbox": "ci", "port": 443}
    rule = {"file": "policy.yaml", "line": 3, "rule": "our rule"}
    record(
        tmp_path / "audit.db",
        DecisionEvent(
            id="a", verdict="allow", reason="rule-allow", host="a.test", secrets=("github",), **common, **rule
        ),  # type: ignore[arg-type]
        OutcomeEvent(id="a", time_us=1, status=200, bytes_up=10, bytes_down=20),
        DecisionEvent(id="b", verdict="deny", reason="host-not-allowed", host="b.test", count=40, **common),  # type: ignore[arg-type]
    )
    with closing(sqlite3.connect(f"file:{tmp_path / 'audit.db'}?mode=ro", uri=True)) as opened:
        yield opened


ANSWERS = {
    "refused": ("b.test", 443, "host-not-allowed", 40, 1, "2026-09-21 14:13:20"),
    "hosts": ("a.test", 1, 10, 20),
    "secrets": ("github", "a.test", "ci", 1, "2026-09-21 14:13:20"),
    "rules": ("policy.yaml", 3, "our rule", "allow", 1),
    "hours": ("2026-09-21 14:00", 1, 40),
    "sandbox": ("2026-09-21 14:13:20", "deny", None, "b.test", None, None, "host-not-allowed", None),
}


@pytest.mark.parametrize("name", METADATA["queries"])
def test_every_question_has_an_answer(connection: sqlite3.Connection, name: str) -> None:
    """On the schema as it is; the guide names each page."""
    first = connection.execute(METADATA["queries"][name]["sql"], {"name": "ci"}).fetchone()
    assert first == ANSWERS[name]
    assert f"`/audit/{name}" in GUIDE


def test_every_table_is_shown_or_hidden_and_every_column_is_there(connection: sqlite3.Connection) -> None:
    """A table that the schema adds must not stand among those that people are to look at."""
    made = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT GLOB 'search_*'"
    assert {name for (name,) in connection.execute(made)} - {"sqlite_sequence"} == set(METADATA["tables"])
    for name, told in METADATA["tables"].items():
        columns = {row[1] for row in connection.execute(f"PRAGMA table_info({name})")}
        named = [
            *told.get("columns", ()),
            *told.get("units", ()),
            *told.get("facets", ()),
            *told.get("sortable_columns", ()),
        ]
        assert set(named) <= columns


def test_every_table_can_be_counted(connection: sqlite3.Connection) -> None:
    """Datasette counts the rows of each, hidden or not, and so do other tools."""
    for name in METADATA["tables"]:
        assert connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] >= 0  # noqa: S608 -- the metadata's names
