"""What the record says beside requests: the kinds of events, the first use of secrets, and how events are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from egress.audit import AuditReader, NoteEvent, notes
from egress.audit.first_use import FirstUses
from egress.audit.notes import Kind
from egress.audit.row import decision_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.audit import AuditWriter

GUIDE = Path(__file__).parents[2] / "docs/guides/audit.md"


@pytest.mark.parametrize("kind", Kind)
def test_each_kind_is_documented(kind: Kind) -> None:
    """In a line of its own of the guide's table."""
    assert f"| `{kind}` |" in GUIDE.read_text()


# What is noted, and the sentence.
NOTES = [
    (notes.started(("http://127.0.0.1:3128", "unix:/run/e"), "ab"), "http://127.0.0.1:3128, unix:/run/e; policy ab"),
    (notes.reloaded("ab", "cd", ["signal"], 1), "ab to cd; by signal; 1 connection cut"),
    (notes.reloaded("ab", "ab", ["signal", "files changed", "signal"], 0), "by signal, files changed; 0 connections"),
    (notes.reloaded("ab", "cd", [], 2), "by nobody who said so; 2 connections cut"),
    (notes.reload_refused("ab", ["signal"], ["p.yaml:3: no"]), "kept ab; by signal; p.yaml:3: no"),
    (notes.reload_refused("ab", ["signal"], ["p.yaml:3: no", "x", "y"]), "p.yaml:3: no (and 2 more)"),
    (notes.reload_refused("ab", ["signal"], []), "kept ab; by signal; no reason is known"),
    (notes.cut(3, "it has expired"), "3 connections cut: it has expired"),
]


@pytest.mark.parametrize(("note", "said"), NOTES)
def test_a_note_is_one_sentence(note: notes.Note, said: str) -> None:
    """With digests, who asked, and counts."""
    assert said in note.detail


def test_what_became_of_a_stores_secrets_is_noted_by_name() -> None:
    """New, changed and gone; what stayed the same is not told, and versions never are."""
    before, after = {"same": "v1", "turned": "v1", "gone": "v1"}, {"same": "v1", "turned": "v2", "new": "v9"}
    told = notes.secrets_changed(before, after, "uid 0")
    assert told == [
        (Kind.SECRET_SET, "new; by uid 0"),
        (Kind.SECRET_ROTATED, "turned; by uid 0"),
        (Kind.SECRET_REMOVED, "gone; by uid 0"),
    ]
    assert notes.secrets_changed(after, after, "uid 0") == []


def test_the_first_use_of_a_secret_is_told_once_for_each_sandbox(
    database: Path, start: Callable[..., AuditWriter], decision: Callable, rows: Callable
) -> None:
    """With the decision that it was; whoever judged, the rows come together in the writer."""
    writer = start()
    for number, (sandbox, secrets) in enumerate(
        [("a", ()), ("a", ("x",)), ("a", ("x",)), ("a", ("x", "y")), ("b", ("x",)), ("a", ("y", "x"))]
    ):
        assert writer.offer(decision(number, sandbox=sandbox, secrets=secrets))
        assert writer.flush(5)
    assert writer.close(5)
    assert rows(database, "SELECT kind, detail FROM events ORDER BY seq") == [
        ("secret-first-use", "x for sandbox a, in id-000001"),
        ("secret-first-use", "y for sandbox a, in id-000003"),
        ("secret-first-use", "x for sandbox b, in id-000004"),
    ]
    with AuditReader(database) as reader:
        assert reader.verify().holds


def test_what_is_remembered_of_first_uses_is_bounded(decision: Callable) -> None:
    """Beyond it a use may be told twice, and none is left out."""
    uses = FirstUses(most=3)
    for number in range(50):
        (note,) = uses.of([decision_row(decision(number, sandbox=f"s{number}", secrets=("x",)))])
        assert note.detail.startswith(f"x for sandbox s{number},")
        assert len(uses._seen) <= 3


def test_events_are_read_the_newest_and_as_they_come(database: Path, start: Callable[..., AuditWriter]) -> None:
    """In their order, from a moment on, each once; also those of a process that judges."""
    writer = start()
    for number in range(5):
        event = NoteEvent(id=f"e{number}", time_us=100 + number, kind="cut", detail=f"the {number}.")
        assert writer.offer(event)
    assert writer.flush(5)
    with AuditReader(database) as reader:
        assert [row.detail for row in reader.newest_events(limit=2)] == ["the 3.", "the 4."]
        assert [row.id for row in reader.newest_events(102)] == ["e2", "e3", "e4"]
        assert reader.arrived_events() == []
        assert writer.note(Kind.RELOAD, "new")
        assert writer.flush(5)
        (row,) = reader.arrived_events()
        assert (row.kind, row.detail) == ("reload", "new")
        assert reader.arrived_events() == []
        assert reader.verify().holds, "a kind is recorded as plain text"
