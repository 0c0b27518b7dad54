"""The window over the record, and what cells are made of: bounded, in order, of the width that is asked for."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from rich.cells import cell_len
from viewer.seed import HOSTILE

from egress.audit import AuditRow, Page
from egress.viewer.activity import bars
from egress.viewer.columns import cell_text, layout
from egress.viewer.curl import variable
from egress.viewer.text import fitted
from egress.viewer.window import MOST_LINES, Window


def page(first: int, last: int, *, whole: bool = False, reached: int = 0) -> Page:
    """Rows with these keys, all alike."""
    texts = {"id": "", "state": "done", "sandbox": "s", "client": "c", "verdict": "allow", "reason": "r", "count": 1}
    empty = dict.fromkeys(field.name for field in fields(AuditRow))
    rows = [AuditRow(**(empty | texts | {"seq": seq, "time_us": seq, "secrets": ()})) for seq in range(first, last + 1)]
    return Page(tuple(rows), whole, reached)


def keys(window: Window) -> list[int]:
    """The keys that are held."""
    return [line.row.seq for line in window.lines]


def test_a_window_is_bounded_in_both_directions_and_knows_what_it_let_go() -> None:
    """What falls out at one end can be asked for again from the key that is told."""
    window = Window()
    window.fill(page(5_001, 5_300, reached=5_001), high=5_300)
    for start in range(5_301, 9_000, 300):
        window.append(page(start, start + 299, reached=start + 300))
    assert len(window.lines) == MOST_LINES
    assert (window.low, window.oldest) == (keys(window)[0], False)
    for start in range(keys(window)[0] - 300, 2_000, -300):
        assert window.prepend(page(start, start + 299, reached=start)) == 300
    assert len(window.lines) == MOST_LINES
    assert (window.high, window.newest) == (keys(window)[-1], False)
    assert keys(window) == list(range(keys(window)[0], keys(window)[0] + MOST_LINES))


def test_repeats_are_joined_over_the_edge_of_a_page() -> None:
    """Their number is that of all of them, whichever end they came from."""
    window = Window(grouped=True)
    window.fill(page(11, 20, reached=11), high=20)
    window.append(page(21, 25, whole=True, reached=26))
    window.prepend(page(1, 10, whole=True, reached=1))
    ((line),) = window.lines
    assert (line.count, line.first, line.row.seq) == (25, 1, 25)


def test_a_line_stands_for_all_the_decisions_of_its_rows() -> None:
    """A flood of denials is one row with a count: it must not look like one denial, alone or among repeats."""
    flood, single = (replace(page(seq, seq).rows[0], count=count) for seq, count in ((1, 4_000), (2, 1)))
    for grouped, counts in ((False, [4_000, 1]), (True, [4_001])):
        window = Window(grouped=grouped)
        window.fill(Page((flood, single), whole=True, reached=1), high=2)
        assert [line.count for line in window.lines] == counts
    (path,) = [column for column in layout(80) if column.title == "path"]
    assert cell_text(path, window.lines[0]).startswith("\u00d74001 ")


@pytest.mark.parametrize("width", range(12))
@pytest.mark.parametrize("text", ["", "abc", "\u4e2d\u4e2d\u4e2d\u4e2d", HOSTILE, "\U0001f600" * 9, "e\u0301" * 9])
def test_a_cell_has_its_width(text: str, width: int) -> None:
    """Also where a wide character would stand across its end."""
    shown = fitted(text, width)
    assert cell_len(shown) == width
    assert shown.isprintable()


@pytest.mark.parametrize("days", [True, False])
@pytest.mark.parametrize("width", range(40, 220))
def test_columns_fit_every_width_and_always_tell_the_verdict(width: int, days: bool) -> None:  # noqa: FBT001
    """From far below 80 columns on."""
    columns = layout(width, days=days)
    assert sum(column.width for column in columns) + len(columns) - 1 <= max(width, 45)
    assert {"time", "verdict", "host", "path"} <= {column.title for column in columns}


def test_bars_show_what_is_not_nothing() -> None:
    """One among thousands has a bar."""
    assert bars([0, 1, 5_000]) == " \u2581\u2588"
    assert bars([0, 0]) == "  "


@pytest.mark.parametrize(
    ("secret", "name"), [("github", "GITHUB"), ("a;rm -rf", "A_RM_RF"), ("1x", "_1X"), ("$", "SECRET")]
)
def test_a_secret_names_a_variable_and_nothing_else(secret: str, name: str) -> None:
    """Whatever its name, the shell sees letters, digits and `_`."""
    assert variable(secret) == name
