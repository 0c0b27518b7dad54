"""What stands over the table for a while: text to read, a question of yes or no, and the list of top talkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.table import Table
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from egress.viewer.text import fitted, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from textual.app import ComposeResult

    from egress.audit.summary import Summary

DIALOG_CSS = """
{name} {{ align: center middle; }}
{name} > .dialog {{
    width: 90%; max-width: 110; height: auto; max-height: 90%;
    border: round $primary; background: $surface; padding: 0 1;
}}
{name} > .dialog > .title {{ text-style: bold; height: auto; }}
{name} > .dialog > .foot {{ text-style: dim; height: auto; margin-top: 1; }}
{name} .body {{ height: auto; scrollbar-size-vertical: 1; }}
"""


def labelled(rows: Sequence[tuple[str, str]]) -> Table:
    """Labels and values, made harmless; a long value goes on below itself, not below its label."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in rows:
        grid.add_row(Text(label, "bold"), Text(shown(value)))
    return grid


class Dialog[Answer](ModalScreen[Answer]):
    """What is in the body scrolls; the title and the keys below it are seen at every height. `around`: their lines."""

    around = 8

    def on_resize(self) -> None:
        """Leave room for what stands around the body."""
        for body in self.query(".body"):
            body.styles.max_height = max(3, self.app.size.height - self.around)


class Reading(Dialog[None]):
    """Text to read; any of the usual keys leads back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss", "back"),
        Binding("up,k", "scroll(-1)", show=False),
        Binding("down,j", "scroll(1)", show=False),
        Binding("pageup", "scroll(-10)", show=False),
        Binding("pagedown,space", "scroll(10)", show=False),
    ]
    DEFAULT_CSS = DIALOG_CSS.format(name="Reading")

    def __init__(self, title: str, body: RenderableType, foot: str = "esc back") -> None:
        super().__init__()
        self._title, self._body, self._foot = title, body, foot

    def compose(self) -> ComposeResult:
        """Title, text, and what leads back."""
        with Vertical(classes="dialog"):
            yield Static(Text(self._title), classes="title", markup=False)
            with VerticalScroll(classes="body"):
                yield Static(self._body, markup=False)
            yield Static(Text(self._foot), classes="foot", markup=False)

    def action_scroll(self, lines: int) -> None:
        """Scroll the text."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)


class Confirm(Dialog[bool]):
    """A question that only `y` answers with yes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,escape,q,enter", "answer(False)", "no"),
    ]
    DEFAULT_CSS = DIALOG_CSS.format(name="Confirm")

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """The question, and how it is answered."""
        with Vertical(classes="dialog"):
            yield Static(Text(self._question), classes="title", markup=False)
            yield Static(Text("y yes   n no"), classes="foot", markup=False)

    def action_answer(self, answer: bool) -> None:  # noqa: FBT001 -- what a binding passes
        """Answer."""
        self.dismiss(answer)


_TABLES = {"hosts": "host", "denied": "reason", "sandboxes": "sandbox", "rules": "rule", "secrets": "secret"}


class Talkers(Dialog[str | None]):
    """Who asked most, and for what; the line that is chosen comes back as a condition of a filter."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,t", "leave", "back")]
    DEFAULT_CSS = (
        DIALOG_CSS.format(name="Talkers")
        + "Talkers OptionList { border: none; padding: 0; background: $surface; }"
        + "Talkers OptionList:focus { border: none; }"
    )

    def __init__(self, summary: Summary, of: str) -> None:
        super().__init__()
        self._summary, self._of = summary, of
        self._conditions: dict[str, str] = {}

    def compose(self) -> ComposeResult:
        """A table after the other, each with its most frequent groups."""
        with Vertical(classes="dialog"):
            yield Static(Text(f"Top talkers of {self._of}"), classes="title", markup=False)
            yield OptionList(*self._options(), markup=False, classes="body")
            yield Static(Text("enter filters by it   esc back"), classes="foot", markup=False)

    def _options(self) -> list[Option]:
        found: list[Option] = []
        for table, field in _TABLES.items():
            groups = self._summary.groups.get(table, ())
            if not groups:
                continue
            found.append(Option(Text(f"{table:<44} {'rows':>9} {'refused':>9}", "bold"), disabled=True))
            for group in groups:
                what = group.what
                key = f"{table}-{len(self._conditions)}"
                self._conditions[key] = _condition(field, what)
                name = " ".join(part for part in (_rule(what) if table == "rules" else what) if part) or "-"
                text = Text(f"  {fitted(name, 42)} {group.count:>9,} {group.refused:>9,}")
                if group.refused:
                    text.stylize("red", len(text) - 9)
                found.append(Option(text, id=key))
        return found or [Option(Text("nothing yet"), disabled=True)]

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """The condition of the line."""
        self.dismiss(self._conditions.get(event.option_id or ""))

    def action_leave(self) -> None:
        """Choose nothing."""
        self.dismiss(None)


def _rule(what: tuple[str, ...]) -> tuple[str, ...]:
    file, line, name = what
    return (name, f"{file}:{line}") if line != "0" else (name, file)


def _condition(field: str, what: tuple[str, ...]) -> str:
    if field == "rule":
        file, line, name = what
        del line  # the language has no condition on it
        return f"rule:{_quoted(name)}" if name else f"file:{_quoted(file)}"
    if field == "reason":
        reason, _, host, _ = what
        return f"verdict:deny,ask reason:{_quoted(reason)}" + (f" host:{_quoted(host)}" if host else "")
    return f"{field}:{_quoted(what[0])}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
