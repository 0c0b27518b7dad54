"""The viewer as a person drives it: keys, filters, errors, dialogs, and what is never done without being asked."""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from records import denied, record
from textual.widgets import Input
from viewer.driving import screen, settled, until
from viewer.seed import HOSTILE, fill, seed

from egress.audit import AuditWriter, DecisionEvent, OutcomeEvent
from egress.cli.audit_desk import PolicyDesk
from egress.cli.loading import Surroundings
from egress.viewer.allowing import Allowing
from egress.viewer.app import Viewer
from egress.viewer.dialogs import Confirm, Reading, Talkers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from textual.pilot import Pilot

    type Drive = Callable[..., None]

POLICY = """\
version: 1
rules:
  # Ours.
  - name: our repos
    allow: api.github.com
    methods: [GET]
"""


def app_of(pilot: Pilot[None]) -> Viewer:
    """The app that the pilot drives."""
    assert isinstance(pilot.app, Viewer)
    return pilot.app


def text_of(pilot: Pilot[None]) -> str:
    """The whole screen."""
    return "\n".join(screen(app_of(pilot)))


def text_in(file: Path) -> str:
    """What the file holds."""
    return file.read_text()


def change(policy: Path) -> None:
    """Edit the policy by hand."""
    policy.write_text(f"{POLICY}# mine\n")


async def write(pilot: Pilot[None], text: str) -> None:
    """Have a text in the line that is open, and press enter."""
    app_of(pilot).query_one(Input).value = text
    await pilot.pause()
    await pilot.press("enter")
    await settled(pilot)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy file that may be edited."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def test_it_opens_on_the_newest_row_and_follows(drive: Drive) -> None:
    """The last line of the table is the last row, under the cursor."""

    async def play(pilot: Pilot[None]) -> None:
        row = app_of(pilot)._rows.row
        assert row is not None
        assert row.seq == 240
        assert "following" in screen(app_of(pilot))[0]
        assert "240 rows" in screen(app_of(pilot))[0]

    drive(play)


def test_keys_walk_the_whole_record_and_back(drive: Drive) -> None:
    """Home is the first row and holds; end is the last and follows; page keys meet every row between."""

    async def play(pilot: Pilot[None]) -> None:
        rows = app_of(pilot)._rows
        await pilot.press("home")
        await until(pilot, lambda: rows.row is not None and rows.row.seq == 1)
        assert "held" in screen(app_of(pilot))[0]
        seen = {line.row.seq for line in rows.window.lines[rows.top : rows.top + rows.room]}
        for _ in range(14):
            await pilot.press("pagedown")
            seen |= {line.row.seq for line in rows.window.lines[rows.top : rows.top + rows.room]}
        assert seen == set(range(1, 241))
        await until(pilot, lambda: "following" in screen(app_of(pilot))[0])

    drive(play)


def test_a_filter_shows_what_meets_it_and_escape_drops_it(drive: Drive) -> None:
    """The text stands above the table while it holds."""

    async def play(pilot: Pilot[None]) -> None:
        await pilot.press("slash")
        await write(pilot, "verdict:ask")
        lines = app_of(pilot)._rows.window.lines
        assert {line.row.verdict for line in lines} == {"ask"}
        assert len(lines) == 24
        assert "filter verdict:ask" in text_of(pilot)
        await pilot.press("escape")
        await settled(pilot)
        assert len(app_of(pilot)._rows.window.lines) == 240

    drive(play)


def test_an_error_in_a_filter_is_underlined_at_its_place_and_nothing_is_done(drive: Drive) -> None:
    """Marks stand below what cannot be read, as it is typed; enter does not take it."""

    async def play(pilot: Pilot[None]) -> None:
        await pilot.press("slash")
        await write(pilot, "GET verdict:no")
        lines = screen(app_of(pilot))
        at = next(index for index, line in enumerate(lines) if line.startswith("/GET verdict:no"))
        assert lines[at + 1].startswith("     ^^^^^^^^^^ `verdict` is allow, deny or ask")
        assert len(app_of(pilot)._rows.window.lines) == 240

    drive(play)


def test_a_saved_filter_is_found_again_by_its_name(drive: Drive, tmp_path: Path) -> None:
    """`:save` writes a file that is the user's alone; `@NAME` goes with other conditions; no name is made up."""

    async def play(pilot: Pilot[None]) -> None:
        await pilot.press("slash")
        await write(pilot, "verdict:deny")
        await pilot.press("colon")
        await write(pilot, "save denials")
        await pilot.press("slash")
        await write(pilot, "@denials host:api.github.com")
        rows = [line.row for line in app_of(pilot)._rows.window.lines]
        assert {(row.verdict, row.host) for row in rows} == {("deny", "api.github.com")}
        await pilot.press("slash")
        await write(pilot, "@nothing")
        assert "^^^^^^^^ no filter is saved as" in text_of(pilot)

    drive(play)
    file = tmp_path / "config" / "egress" / "filters.json"
    assert json.loads(file.read_text()) == {"denials": "verdict:deny"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_n_goes_from_one_refusal_to_the_next(drive: Drive) -> None:
    """Backward with `N`, forward with `n`, over what was allowed; it says when there is none."""

    async def play(pilot: Pilot[None]) -> None:
        rows = app_of(pilot)._rows
        refused = [line.row.seq for line in rows.window.lines if line.row.verdict != "allow"]
        await pilot.press("N", "N")
        assert rows.row is not None
        assert rows.row.seq == refused[-2]
        await pilot.press("n")
        assert rows.row.seq == refused[-1]
        await pilot.press("n")
        await until(pilot, lambda: "no newer row was refused" in text_of(pilot))

    drive(play)


def test_n_finds_a_refusal_that_is_far_away(drive: Drive, tmp_path: Path) -> None:
    """What is not held is looked for in the record."""
    path = tmp_path / "far.db"
    seed(path, 12)
    fill(path, 3_000)

    async def play(pilot: Pilot[None]) -> None:
        rows = app_of(pilot)._rows
        await pilot.press("home")
        await until(pilot, lambda: rows.row is not None and rows.row.seq == 1)
        app_of(pilot).feed.window.newest = False
        del rows.window.lines[3:]
        rows.window.high = 3
        rows.put(2)
        await pilot.press("n")
        await until(pilot, lambda: rows.row is not None and rows.row.seq > 3 and rows.row.verdict != "allow")

    drive(play, path=path)


def test_repeats_are_one_line_with_their_number(drive: Drive) -> None:
    """`g` joins rows that are alike and follow each other, and lets them go again."""

    async def play(pilot: Pilot[None]) -> None:
        await pilot.press("slash")
        await write(pilot, "host:telemetry.example")
        await pilot.press("g")
        await settled(pilot)
        (line,) = app_of(pilot)._rows.window.lines
        assert line.count == 24
        assert "\u00d724" in text_of(pilot)
        await pilot.press("g")
        await settled(pilot)
        assert len(app_of(pilot)._rows.window.lines) == 24

    drive(play)


def test_enter_opens_the_trace_of_a_row(drive: Drive) -> None:
    """What was asked, decided by which rule, with which secret, what was dialled and how it ended."""

    async def play(pilot: Pilot[None]) -> None:
        await pilot.press("slash")
        await write(pilot, "secret:github")
        await pilot.press("enter")
        text = text_of(pilot)
        for told in ("our repos, /etc/egress/agent.yaml:12", "put in: github", "192.0.2.10", "+0.081 s", "3f2a9c"):
            assert told in text
        await pilot.press("escape")
        assert "put in" not in text_of(pilot)

    drive(play, size=(120, 40))


def test_top_talkers_lead_to_a_filter(drive: Drive) -> None:
    """Hosts by how often they were asked for; enter shows the rows of one."""

    async def play(pilot: Pilot[None]) -> None:
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app_of(pilot).screen, Talkers))
        await pilot.pause(0.1)
        assert "api.github.com" in text_of(pilot)
        await pilot.press("down", "enter")
        await settled(pilot)
        assert {line.row.host for line in app_of(pilot)._rows.window.lines} == {"packages.example"}

    drive(play)


def test_a_condition_too_many_is_told_and_changes_nothing(drive: Drive) -> None:
    """Top talkers add a condition each time; names that a client made long must not end the viewer."""

    async def play(pilot: Pilot[None]) -> None:
        app = app_of(pilot)
        held = f'host:"{"x" * 1_900}"'
        app._set_filter(held)
        await settled(pilot)
        app._narrow(f'sandbox:"{"y" * 200}"')
        app._command("filter", "nonsense:1")
        await settled(pilot)
        assert app._text == held
        assert app.is_running

    drive(play)


def test_a_flood_shows_its_number_and_tells_it(drive: Drive, database: Path) -> None:
    """On its line, and in its detail."""
    record(database, denied(count=4_000))

    async def play(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "\u00d74000" in text_of(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "4,000 decisions that were alike" in text_of(pilot))

    drive(play, size=(120, 40))


def test_curl_names_the_secret_and_has_no_value(drive: Drive) -> None:
    """`c` shows what it copies."""

    async def play(pilot: Pilot[None]) -> None:
        await pilot.press("slash")
        await write(pilot, "secret:github")
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app_of(pilot).screen, Reading))
        assert app_of(pilot).clipboard == (
            "curl 'https://api.github.com/repos/acme/shop/pulls?state=***' --header \"Authorization: Bearer $GITHUB\""
        )
        await pilot.press("escape", "y")
        assert json.loads(app_of(pilot).clipboard)["host"] == "api.github.com"

    drive(play)


def test_an_export_has_the_rows_of_the_filter_in_a_new_file(drive: Drive, tmp_path: Path) -> None:
    """JSON lines, the oldest first, for the user alone; a file that is there is left as it is."""
    file = tmp_path / "rows.jsonl"

    async def play(pilot: Pilot[None]) -> None:
        await pilot.press("slash")
        await write(pilot, "verdict:ask")
        await pilot.press("colon")
        await write(pilot, f"export {file}")
        await until(pilot, lambda: "24 rows written" in text_of(pilot))
        await pilot.press("colon")
        await write(pilot, f"export {file}")
        await until(pilot, lambda: "cannot be made" in text_of(pilot))

    drive(play, size=(120, 40))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["seq"] for row in rows] == sorted(row["seq"] for row in rows)
    assert {row["verdict"] for row in rows} == {"ask"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_it_follows_a_live_writer(drive: Drive, database: Path) -> None:
    """New rows come to the end, an open one gets its outcome, and who reads further up is not moved."""

    async def play(pilot: Pilot[None]) -> None:
        rows = app_of(pilot)._rows
        writer = AuditWriter(database, flush_interval=0.02)
        writer.start()
        try:
            event = {"time_us": 1, "sandbox": "new", "client": "c", "verdict": "allow", "reason": "rule-allow"}
            assert writer.offer(DecisionEvent(id="live-1", **event))
            await until(pilot, lambda: rows.row is not None and rows.row.id == "live-1" and rows.row.state == "open")
            assert writer.offer(OutcomeEvent(id="live-1", time_us=2, status=204))
            await until(pilot, lambda: rows.row is not None and rows.row.status == 204)
            await pilot.press("up")
            held = rows.row
            for number in range(2, 1_500):
                assert writer.offer(DecisionEvent(id=f"live-{number}", **event))
            assert writer.flush(10)
            await until(pilot, lambda: "1,498 new" in text_of(pilot))
            assert rows.row == held
            await pilot.press("f")
            await until(pilot, lambda: rows.row is not None and rows.row.id == "live-1499")
        finally:
            writer.close(10)

    drive(play)


def test_a_reader_that_follows_skips_what_it_cannot_show(drive: Drive, database: Path) -> None:
    """Thousands of rows at once cost a page: the newest are shown, and the others are there when asked for."""

    async def play(pilot: Pilot[None]) -> None:
        rows = app_of(pilot)._rows
        fill(database, 50_000)
        await until(pilot, lambda: rows.row is not None and rows.row.seq == 50_240)
        assert len(rows.window.lines) < 2_000
        for _ in range(30):
            await pilot.press("pageup")
            await settled(pilot)
        assert [line.row.seq for line in rows.window.lines] == sorted({line.row.seq for line in rows.window.lines})
        assert rows.window.lines[0].row.seq < 50_240 - 600

    drive(play)


def test_a_rule_is_written_only_after_its_change_was_shown_and_confirmed(drive: Drive, policy: Path) -> None:
    """The narrowest rule first; escape and `n` write nothing; `y` writes exactly what was shown."""

    async def play(pilot: Pilot[None]) -> None:
        app = app_of(pilot)
        await pilot.press("slash")
        await write(pilot, "method:DELETE")
        await pilot.press("a")
        await until(pilot, lambda: "+    paths: [/repos/acme/shop]" in text_of(pilot))
        assert "+    methods: [DELETE]" in text_of(pilot)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        assert text_in(policy) == POLICY
        assert isinstance(app.screen, Allowing)
        await pilot.press("down")
        await until(pilot, lambda: "+    paths: [/repos/acme/**]" in text_of(pilot))
        await pilot.press("tab", "1", "h", "tab", "w", "h", "y")
        await until(pilot, lambda: "+  # why" in text_of(pilot) and "+    until: " in text_of(pilot))
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert text_in(policy) == POLICY
        await pilot.press("y")
        await until(pilot, lambda: "written to" in text_of(pilot))

    drive(play, size=(100, 40), desk=PolicyDesk([str(policy)], Surroundings()))
    added = policy.read_text().removeprefix(POLICY)
    assert added.startswith("  # why\n  - allow: api.github.com\n    ports: [443]\n    methods: [DELETE]\n")
    assert "paths: [/repos/acme/**]\n    until: " in added


def test_a_file_that_changed_meanwhile_is_left_as_it_is(drive: Drive, policy: Path) -> None:
    """What was shown is no longer what would be written over."""

    async def play(pilot: Pilot[None]) -> None:
        await pilot.press("slash")
        await write(pilot, "method:DELETE")
        await pilot.press("a")
        await until(pilot, lambda: "+    paths: [/repos/acme/shop]" in text_of(pilot))
        change(policy)
        await pilot.press("ctrl+s")
        await pilot.press("y")
        await until(pilot, lambda: "has changed since it was read" in text_of(pilot))

    drive(play, size=(100, 40), desk=PolicyDesk([str(policy)], Surroundings()))
    assert policy.read_text() == f"{POLICY}# mine\n"


def test_a_rule_that_is_no_rule_cannot_be_written(drive: Drive, policy: Path) -> None:
    """A wrong duration is said, and neither enter nor ctrl+s does anything."""

    async def play(pilot: Pilot[None]) -> None:
        await pilot.press("slash")
        await write(pilot, "method:DELETE")
        await pilot.press("a", "tab", "x")
        await until(pilot, lambda: "is no duration" in text_of(pilot))
        await pilot.press("ctrl+s")
        assert isinstance(app_of(pilot).screen, Allowing)

    drive(play, size=(100, 40), desk=PolicyDesk([str(policy)], Surroundings()))
    assert policy.read_text() == POLICY


@pytest.mark.parametrize("key", ["a", "d"])
def test_without_a_policy_no_rule_is_proposed(drive: Drive, key: str) -> None:
    """It says how to start instead."""

    async def play(pilot: Pilot[None]) -> None:
        await pilot.press(key)
        await until(pilot, lambda: "start with --policy FILE" in text_of(pilot))
        assert not isinstance(app_of(pilot).screen, Allowing)

    drive(play)


def test_a_shipped_policy_is_not_written_to(drive: Drive) -> None:
    """What comes with Egress is nobody's to edit."""

    async def play(pilot: Pilot[None]) -> None:
        await pilot.press("a")
        await until(pilot, lambda: "comes with egress" in text_of(pilot))

    drive(play, size=(120, 40), desk=PolicyDesk(["starter"], Surroundings()))


def test_why_tells_then_and_now(drive: Drive, policy: Path) -> None:
    """Every rule that was tried, as `egress explain` tells it."""

    async def play(pilot: Pilot[None]) -> None:
        await pilot.press("slash")
        await write(pilot, "method:DELETE")
        await pilot.press("w")
        await until(pilot, lambda: "Now, by" in text_of(pilot))
        assert "the rule has methods: GET" in " ".join(text_of(pilot).split())

    drive(play, size=(160, 50), desk=PolicyDesk([str(policy)], Surroundings()))


def test_the_mouse_chooses_and_opens_rows(drive: Drive) -> None:
    """A click takes the cursor there, the wheel scrolls, a click on the bar goes to that part."""

    async def play(pilot: Pilot[None]) -> None:
        rows = app_of(pilot)._rows
        await pilot.click(rows, offset=(10, 5))
        assert rows.cursor == rows.top + 4
        top = rows.top
        rows.on_mouse_scroll_up()
        await pilot.pause()
        assert rows.top == top - 3
        await pilot.click(rows, offset=(79, 1))
        await until(pilot, lambda: rows.row is not None and rows.row.seq == 1)

    drive(play)


def test_a_record_that_is_empty_says_so(drive: Drive, tmp_path: Path) -> None:
    """And shows the first row when it comes."""
    path = tmp_path / "empty.db"
    writer = AuditWriter(path, flush_interval=0.02)
    writer.start()

    async def play(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "no rows yet" in text_of(pilot))
        assert writer.offer(DecisionEvent(id="1", time_us=1, sandbox="s", client="c", verdict="deny", reason="x"))
        await until(pilot, lambda: "✗ deny" in text_of(pilot))

    try:
        drive(play, path=path)
    finally:
        writer.close(10)


def test_hostile_rows_reach_the_screen_escaped_and_break_no_line(drive: Drive, database: Path) -> None:
    """Every line has the width of the terminal, and no character that a terminal would obey or draw elsewhere."""
    hostile = (
        "/\U0001f468\u200d\U0001f469" + "e\u0301" * 50 + "\u4e2d" * 40 + HOSTILE.replace("\udc80", "") + "x" * 1_000_000
    )
    with closing(sqlite3.connect(database)) as connection, connection:
        for number, text in enumerate((hostile, "\u05d0\u202e" * 50, "\U0001f1e9\U0001f1ea" * 20)):
            connection.execute(
                "INSERT INTO decisions (id, time_us, sandbox, client, verdict, reason, host, path, method, secrets)"
                " VALUES (?, 1, ?, 'c', ?, ?, ?, ?, ?, '[]')",
                (f"bad-{number}", text, text, text, text, text, text),
            )
        connection.execute(
            "INSERT INTO decisions (id, time_us, sandbox, client, verdict, reason, path, secrets)"
            " VALUES ('bad-9', 1, 's', 'c', 'deny', 'x', CAST(X'2fff00fe' AS TEXT), '[]')"
        )

    async def play(pilot: Pilot[None]) -> None:
        for keys in ((), ("enter",), ("up",), ("up",), ("up",), ("w",), ("escape", "y"), ("escape", "t")):
            await pilot.press(*keys)
            await pilot.pause(0.1)
            strips = app_of(pilot).screen._compositor.render_strips()
            assert {strip.cell_length for strip in strips} == {80}
            shown = "".join(strip.text for strip in strips)
            assert [strip.text for strip in strips if not strip.text.isprintable()] == [], keys
            assert not set(shown) & set("\u0301\u05d0\u200d\U0001f1e9")

    drive(play)


def test_no_colour_still_tells_verdicts(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app takes the wish, and a sign and a word stand for each."""
    monkeypatch.setenv("NO_COLOR", "1")

    async def play(pilot: Pilot[None]) -> None:
        assert app_of(pilot).no_color
        text = text_of(pilot)
        for told in ("✓ allow", "✗ deny", "? ask"):
            assert told in text

    drive(play)


def test_a_database_that_was_made_anew_is_read_from_its_start(drive: Drive, database: Path) -> None:
    """The old rows go."""

    async def play(pilot: Pilot[None]) -> None:
        other = database.with_name("other.db")
        seed(other, 5)
        other.replace(database)
        await until(pilot, lambda: "5 rows" in screen(app_of(pilot))[0].split("audit.db")[1][:10])
        await settled(pilot)
        assert len(app_of(pilot)._rows.window.lines) == 5

    drive(play)
