"""The line at the bottom where a filter, a command or a file's name is written; an error underlines its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, Static

from egress.audit import FilterError
from egress.viewer.text import fitted, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult


class Prompt(Vertical):
    """Opened for one answer at a time: `ask` it, and it posts `Answered`, or `Left` on escape."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "back")]
    DEFAULT_CSS = """
    Prompt { height: 2; display: none; }
    Prompt.open { display: block; }
    Prompt Input { height: 1; border: none; padding: 0; background: transparent; }
    Prompt Input:focus { border: none; background-tint: transparent 0%; }
    Prompt #prompt-line { height: 1; layout: horizontal; }
    Prompt #prompt-sign { width: auto; text-style: bold; }
    Prompt #prompt-told { height: 1; text-style: dim; }
    Prompt #prompt-told.wrong { color: $error; text-style: none; }
    """

    class Answered(Message):
        """What was written, and what it was asked as."""

        def __init__(self, kind: str, text: str) -> None:
            super().__init__()
            self.kind = kind
            self.text = text

    class Left(Message):
        """Nothing is to be done."""

    def __init__(self) -> None:
        super().__init__()
        self._kind = ""
        self._hint = ""
        self._check: Callable[[str], object] = lambda _: None

    def compose(self) -> ComposeResult:
        """The line, and below it what is to be said of it."""
        with Vertical(id="prompt-line"):
            yield Static(id="prompt-sign", markup=False)
            yield Input(id="prompt-input", compact=True, select_on_focus=False)
        yield Static(id="prompt-told", markup=False)

    def ask(self, kind: str, sign: str, text: str, *, hint: str, check: Callable[[str], object]) -> None:
        """Open it. `check` raises FilterError, or ValueError, for what cannot be taken."""
        self._kind, self._hint, self._check = kind, hint, check
        self.query_one("#prompt-sign", Static).update(Text(sign))
        line = self.query_one(Input)
        line.value = text
        line.cursor_position = len(text)
        self.add_class("open")
        line.focus()
        self._judge(text)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say at once what is wrong."""
        event.stop()
        self._judge(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take it, unless something is wrong with it."""
        event.stop()
        if self._judge(event.value):
            self.remove_class("open")
            self.post_message(self.Answered(self._kind, event.value))

    def action_leave(self) -> None:
        """Ask no more."""
        self.remove_class("open")
        self.post_message(self.Left())

    def _judge(self, text: str) -> bool:
        told = self.query_one("#prompt-told", Static)
        try:
            self._check(text)
        except FilterError as error:
            told.update(self._underlined(text, error))
        except ValueError as error:
            told.update(Text(shown(str(error), 300)))
        else:
            told.set_class(False, "wrong")  # noqa: FBT003 -- Textual's signature
            told.update(Text(self._hint))
            return True
        told.set_class(True, "wrong")  # noqa: FBT003 -- likewise
        return False

    def _underlined(self, text: str, error: FilterError) -> Text:
        """Marks under the place, and what is wrong: beside them, or before them where there is more room."""
        sign = cell_len(str(self.query_one("#prompt-sign", Static).content))
        # A long line is scrolled; then the place is not below, and the message alone has to do.
        start = sign + cell_len(shown(text[: error.start], len(text) + 1))
        marks = "^" * max(1, cell_len(shown(text[error.start : error.end], len(text) + 1)))
        width = self.size.width or self.app.size.width
        message = shown(str(error), 300)
        after = width - start - len(marks) - 1
        if start + len(marks) > width:
            return Text(fitted(message, width))
        if after >= min(len(message), 24):
            return Text(f"{' ' * start}{marks} {fitted(message, after).rstrip()}")
        if start >= min(len(message), 24):
            return Text(f"{fitted(message, start - 1)} {marks}")
        return Text(f"{' ' * start}{marks}")
