"""The dialog behind `a` and `d`: the rule for a row, the narrowest first, the change it is, and the question.

INVARIANT nothing-unasked: a file is written after its change was on the screen and `y` was pressed, never before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Input, OptionList, Static

from egress.errors import EgressError
from egress.viewer.dialogs import DIALOG_CSS, Confirm, Dialog
from egress.viewer.ports import Wish
from egress.viewer.retold import title
from egress.viewer.text import shown

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from egress.audit import AuditRow
    from egress.viewer.ports import Desk, Proposal, Verb

_STYLES: Final = {"+": "green", "-": "red", "@": "cyan"}
_WAIT_SECONDS: Final = 0.2


class Allowing(Dialog[str | None]):
    """Gives a sentence that says what was written; None if nothing was."""

    around = 15
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "back"),
        Binding("ctrl+s", "write", "write", priority=True),
    ]
    DEFAULT_CSS = (
        DIALOG_CSS.format(name="Allowing")
        + """
    Allowing OptionList {
        height: auto; max-height: 5; border: none; padding: 0; background: $surface;
    }
    Allowing OptionList:focus { border: none; }
    Allowing Input:focus { border: none; }
    Allowing .field { height: 1; layout: horizontal; }
    Allowing .field Static { width: 11; }
    Allowing Input { height: 1; border: none; padding: 0; width: 1fr; }
    Allowing #change { margin-top: 1; }
    """
    )

    def __init__(self, desk: Desk, row: AuditRow, verb: Verb) -> None:
        super().__init__()
        self._desk, self._row, self._verb = desk, row, verb
        self._proposal: Proposal | None = None
        self._choices: tuple[str, ...] = ()
        self._asked = 0

    def compose(self) -> ComposeResult:
        """The rules to choose from, how long and why, and the change."""
        with Vertical(classes="dialog"):
            yield Static(Text(f"{self._verb} {shown(title(self._row), 200)}"), classes="title", markup=False)
            yield OptionList(id="choices", markup=False)
            with Vertical(classes="field"):
                yield Static("holds for")
                yield Input(placeholder="for good; or 30m, 1h, 7d", id="ttl", compact=True)
            with Vertical(classes="field"):
                yield Static("reason")
                yield Input(placeholder="a comment above the rule", id="reason", compact=True)
            with VerticalScroll(id="change", classes="body"):
                yield Static(Text("judging..."), id="diff", markup=False)
            yield Static(
                Text("up/down choose   tab next field   ctrl+s write   esc back"), classes="foot", markup=False
            )

    def on_mount(self) -> None:
        """Show the narrowest rule."""
        self.query_one("#choices", OptionList).focus()
        self._propose()

    def on_option_list_option_highlighted(self) -> None:
        """Another rule, another change."""
        self._propose()

    def on_option_list_option_selected(self) -> None:
        """Enter on a rule asks to write it."""
        self.action_write()

    def on_input_changed(self) -> None:
        """Likewise; the policy is judged again when the keys rest."""
        self._proposal = None
        self._asked += 1
        asked = self._asked
        self.set_timer(_WAIT_SECONDS, lambda: self._propose() if asked == self._asked else None)

    def on_input_submitted(self) -> None:
        """Enter in a field leads on to the rules."""
        self.query_one("#choices", OptionList).focus()

    def action_leave(self) -> None:
        """Write nothing."""
        self.dismiss(None)

    def action_write(self) -> None:
        """Ask, then write what is on the screen."""
        proposal = self._proposal
        if proposal is None or proposal.refused is not None:
            self.app.bell()
            return

        def answered(yes: bool | None) -> None:  # noqa: FBT001 -- Textual's signature
            if yes and proposal is self._proposal:
                self._write(proposal)

        self.app.push_screen(Confirm(f"Write this to {self._desk.file}?"), answered)

    def _propose(self) -> None:
        choices = self.query_one("#choices", OptionList)
        ttl, reason = (self.query_one(f"#{name}", Input).value.strip() for name in ("ttl", "reason"))
        wish = Wish(self._verb, choices.highlighted or 0, ttl, reason)
        self._proposal = None
        self.run_worker(self._judge(wish), exclusive=True, group="propose")

    async def _judge(self, wish: Wish) -> None:
        from asyncio import to_thread  # noqa: PLC0415 -- beside its use

        try:
            proposal = await to_thread(self._desk.propose, self._row, wish)
        except EgressError as error:
            self._say(Text(shown(f"{error.message}{f': {error.hint}' if error.hint else ''}"), "red"))
            return
        self._proposal = proposal
        self._show(proposal)

    def _show(self, proposal: Proposal) -> None:
        choices = self.query_one("#choices", OptionList)
        if proposal.choices != self._choices:
            self._choices = proposal.choices
            with self.prevent(OptionList.OptionHighlighted):
                choices.clear_options()
                choices.add_options([Text(shown(choice)) for choice in proposal.choices])
                choices.highlighted = 0
        text = Text()
        if proposal.refused is not None:
            text.append(f"not to be written: {shown(proposal.refused)}\n", "bold red")
        for line in proposal.diff:
            text.append(f"{shown(line)}\n", _STYLES.get(line[:1], ""))
        for note in proposal.notes:
            text.append(f"{shown(note)}\n")
        text.rstrip()
        self._say(text)

    def _say(self, text: Text) -> None:
        self.query_one("#diff", Static).update(text)

    def _write(self, proposal: Proposal) -> None:
        try:
            self._desk.write(proposal)
        except EgressError as error:
            self._proposal = None
            self._say(Text(shown(error.message), "bold red"))
            return
        self.dismiss(f"written to {self._desk.file}")
