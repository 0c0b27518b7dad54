"""The app: what each key and each command does.

INVARIANT read-only: nothing here writes but what a person asked for: a saved filter, an export, a rule (`allowing`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from rich.console import Group
from rich.text import Text
from textual.binding import Binding, BindingType

from egress.audit.lines import json_line
from egress.audit.saved import NAME, save_filter, saved_filters
from egress.errors import EgressError
from egress.viewer.allowing import Allowing
from egress.viewer.columns import verdict_text
from egress.viewer.commands import COMMANDS, help_text, read_command
from egress.viewer.curl import curl, notes
from egress.viewer.dialogs import Reading, Talkers, labelled
from egress.viewer.export import export
from egress.viewer.frame import Frame
from egress.viewer.prompt import Prompt
from egress.viewer.retold import title, trace
from egress.viewer.table import Side
from egress.viewer.text import shown

if TYPE_CHECKING:
    from rich.console import RenderableType

    from egress.audit import AuditRow, PagedReader
    from egress.audit.summary import Summary
    from egress.viewer.ports import Verb

_MOST_TALKERS: Final = 100_000


class Viewer(Frame):
    """The viewer of one database."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("f", "follow", "follow"),
        Binding("n", "refused(1)", "next deny"),
        Binding("N", "refused(-1)", show=False),
        Binding("g", "group", "group"),
        Binding("t", "talkers", "top"),
        Binding("w", "why", "why"),
        Binding("a", "rule('allow')", "allow"),
        Binding("d", "rule('deny')", show=False),
        Binding("c", "curl", show=False),
        Binding("y", "json", show=False),
        Binding("e", "export", show=False),
        Binding("colon", "command", show=False),
        Binding("left_square_bracket", "scroll_detail(-3)", show=False),
        Binding("right_square_bracket", "scroll_detail(3)", show=False),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("escape", "leave", show=False),
        Binding("q,ctrl+c", "quit", "quit"),
    ]

    def action_scroll_detail(self, lines: int) -> None:
        """Scroll the detail."""
        self.query_one("#detail").scroll_relative(y=lines, animate=False)

    def action_leave(self) -> None:
        """Undo one thing: a search, the detail, the filter."""
        detail = self.query_one("#detail")
        if self._exporting:
            self._export_stopped = True
        elif self.feed.searching and self._search_state():
            self.feed.stopped = True
            self._show_state()
        elif detail.has_class("open"):
            detail.remove_class("open")
        elif self._text:
            self._set_filter("")

    def action_help(self) -> None:
        """Tell the keys."""
        self.push_screen(Reading("Keys", help_text()))

    def action_follow(self) -> None:
        """Follow, or hold."""
        if self._follows:
            self._hold(follows=False)
        else:
            self._rows.action_end(Side.NEWER)

    def action_group(self) -> None:
        """Show repeats as one line, or each for itself."""
        window, row = self._rows.window, self._rows.row
        window.grouped = not window.grouped
        if self._follows or row is None:
            self._start(self.feed.newest())
        else:
            self._start(self.feed.around(row.seq))

    def action_refused(self, side: int) -> None:
        """Go to the next row that was refused, on the screen or far from it."""
        lines = self._rows.window.lines
        places = range(self._rows.cursor + side, len(lines) if side > 0 else -1, side)
        for place in places:
            if lines[place].row.verdict != "allow":
                self._hold(follows=False)
                self._rows.put(place, by_hand=True)
                return
        self._start(self._next_refused(side))

    async def _next_refused(self, side: int) -> None:
        window = self._rows.window
        edge = window.oldest if side < 0 else window.newest
        seq = None if edge else await self.feed.refused(older=side < 0)
        if seq is None:
            self._tell("no older row was refused" if side < 0 else "no newer row was refused; N looks back")
            return
        self._hold(follows=False)
        await self.feed.around(seq)

    def action_talkers(self) -> None:
        """Show who asks most."""
        self._start(self._talk())

    async def _talk(self) -> None:
        def count(reader: PagedReader) -> Summary:
            return reader.talkers(self.feed.wanted, most=_MOST_TALKERS)

        summary = await self.feed.ask_live(count)
        of = f"the newest {_MOST_TALKERS:,} rows" if self.feed.ends.count > _MOST_TALKERS else "all rows"
        self.push_screen(Talkers(summary, f"{of}{', filtered' if self._text else ''}"), self._narrow)

    def _narrow(self, condition: str | None) -> None:
        if condition:
            self._set_filter(f"{self._text} {condition}".strip())

    def action_why(self) -> None:
        """Show what was decided, and what the policy says now."""
        if (row := self._rows.row) is not None:
            self._start(self._why(row))

    async def _why(self, row: AuditRow) -> None:
        from asyncio import to_thread  # noqa: PLC0415 -- beside its use

        told: list[RenderableType] = [Text("Then", "bold underline"), labelled(trace(row)), Text("")]
        if self._desk is None:
            told.append(Text("Start with --policy FILE to see what that policy says now, rule by rule.", "dim"))
        else:
            try:
                now = await to_thread(self._desk.today, row)
            except EgressError as error:
                told.append(Text(shown(error.message), "red"))
            else:
                told += [Text(f"Now, by {shown(self._desk.file)}: {now.verdict}", "bold underline"), labelled(now.told)]
        self.push_screen(Reading(shown(f"{verdict_text(row.verdict)}  {title(row)}", 300), Group(*told)))

    def action_rule(self, verb: Verb) -> None:
        """Propose a rule for this row."""
        row = self._rows.row
        if row is None:
            return
        closed = "start with --policy FILE to write rules" if self._desk is None else self._desk.closed()
        if self._desk is None or closed is not None:
            self._tell(closed or "", wrong=True)
            return
        self.push_screen(Allowing(self._desk, row, verb), lambda said: self._tell(said) if said else None)

    def action_curl(self) -> None:
        """Copy the row as a command."""
        if (row := self._rows.row) is None:
            return
        if (command := curl(row)) is None:
            self._tell("curl cannot ask what this row asked", wrong=True)
            return
        self._copy("Copied as curl", command, notes(row))

    def action_json(self) -> None:
        """Copy the row as JSON."""
        if (row := self._rows.row) is not None:
            self._copy("Copied as JSON", json_line(row), [])

    def _copy(self, what: str, text: str, also: list[str]) -> None:
        self.copy_to_clipboard(text)
        body = [Text(shown(text, 20_000), overflow="fold"), *(Text(note, "dim") for note in also)]
        self.push_screen(Reading(what, Group(*body), "in the terminal's clipboard, where it allows that   esc back"))

    # What is written at the bottom

    def action_filter(self) -> None:
        """Ask for a filter."""
        hint = "enter shows it   @NAME a saved one   esc back"
        self.query_one(Prompt).ask("filter", "/", self._text, hint=hint, check=self._check_filter)

    def action_command(self) -> None:
        """Ask for a command."""
        hint = ", ".join(COMMANDS)
        self.query_one(Prompt).ask("command", ":", "", hint=hint, check=read_command)

    def action_export(self) -> None:
        """Ask where to write what the filter gives."""
        hint = "a new file, a JSON object a line   enter writes   esc back"
        self.query_one(Prompt).ask("export", "export to ", "egress-audit.jsonl", hint=hint, check=_named)

    def on_prompt_left(self) -> None:
        """Back to the rows."""
        self._rows.focus()

    def on_prompt_answered(self, message: Prompt.Answered) -> None:
        """Do what was written."""
        self._rows.focus()
        if message.kind == "filter":
            self._set_filter(message.text.strip())
        elif message.kind == "export":
            self._start(self._export(_file(message.text.strip())))
        else:
            self._command(*read_command(message.text))

    def _command(self, name: str, rest: str) -> None:
        if name == "filter":
            self._set_filter(rest)
        elif name == "save":
            self._save(rest)
        elif name == "filters":
            self._start(self._show_saved())
        elif name == "export" and rest:
            self._start(self._export(_file(rest)))
        elif name == "theme":
            self._set_theme(rest)
        elif name in {"oldest", "newest"}:
            self._rows.action_end(Side.OLDER if name == "oldest" else Side.NEWER)
        elif name:
            action = {"top": "talkers"}.get(name, name)
            self.call_next(self.run_action, action)

    def _save(self, name: str) -> None:
        name = name.removeprefix("@")
        if not self._text or not NAME.fullmatch(name):
            self._tell("set a filter with / first" if not self._text else "write `:save NAME`", wrong=True)
            return
        try:
            save_filter(self._saved, name, self._text)
        except EgressError as error:
            self._tell(error.message, wrong=True)
        else:
            self._tell(f"saved: @{name}")

    async def _show_saved(self) -> None:
        saved = saved_filters(self._saved)
        rows = [(f"@{name}", text) for name, text in sorted(saved.items())]
        self.push_screen(Reading("Saved filters", labelled(rows) if rows else Text("none yet; `:save NAME` keeps one")))

    def _set_theme(self, name: str) -> None:
        if name in self.available_themes:
            self.theme = name
        else:
            self._tell(f"themes: {', '.join(sorted(self.available_themes))}", wrong=bool(name))

    async def _export(self, file: Path) -> None:
        self._export_stopped = False
        self._exporting = "exporting"

        def progress(count: int, key: int) -> None:
            part = (key - self.feed.ends.first) / max(1, self.feed.ends.last - self.feed.ends.first)
            self._exporting = f"exporting {min(max(part, 0.0), 1.0):.0%}, {count:,} rows, esc stops"

        try:
            count = await export(
                self._path, self.feed.wanted, file, going=lambda _: not self._export_stopped, progress=progress
            )
        finally:
            self._exporting = ""
        stopped = ", then it was stopped" if self._export_stopped else ""
        self._tell(f"{count:,} rows written to {file}{stopped}")


def _named(text: str) -> None:
    if not text.strip():
        raise ValueError("write the name of a file")


def _file(text: str) -> Path:
    """As a shell reads it; of a user that has no home, as it is written."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - the method of Path raises for such a user
