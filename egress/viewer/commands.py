"""The words of the `:` line, and the keys, as help tells them."""

from __future__ import annotations

from typing import Final

from rich.console import Group
from rich.text import Text

from egress.viewer.dialogs import labelled

COMMANDS: Final = {
    "save": "NAME: keep this filter, for @NAME here and in --filter @NAME",
    "filters": "the filters that are saved",
    "filter": "TEXT: show what meets it; nothing: show all",
    "export": "FILE: write what the filter gives, a JSON object a line",
    "oldest": "go to the first row",
    "newest": "go to the last row and follow",
    "group": "repeats as one line, or each for itself",
    "top": "top talkers",
    "theme": "NAME: colours, as in `theme textual-light`; `ansi-dark` takes the terminal's own",
    "help": "the keys",
    "quit": "leave",
}
KEYS: Final = (
    ("up down j k", "a row; page up, page down, space: a screen; wheel and click too"),
    ("home end", "the oldest row; the newest, and follow"),
    ("/", "filter, as in host:*.github.com verdict:deny since:10m; @NAME for a saved one"),
    ("f", "follow what comes, or hold"),
    ("n N", "the next, the previous row that was refused"),
    ("g", "group repeats that follow each other"),
    ("t", "top talkers: hosts, denials, sandboxes, rules, secrets"),
    ("enter", "the row in detail; scrolls with [ and ]"),
    ("w", "why: what was decided, and with --policy what it says now, rule by rule"),
    ("a d", "allow, deny this: a rule for the policy file, shown before it is written"),
    ("c", "copy as curl, secrets as $NAME"),
    ("y", "copy the row as JSON"),
    ("e", "export what the filter gives"),
    (":", "a command: " + ", ".join(COMMANDS)),
    ("esc", "back: stop a search, close the detail, drop the filter"),
    ("q", "quit"),
)


def help_text() -> Group:
    """Keys, then what a filter may have, then commands."""
    return Group(
        labelled(KEYS),
        Text("\nFilters", "bold"),
        Text("host:*.github.com  host:.example.com  path:/repos/*  verdict:deny,ask  -method:GET"),
        Text('status:>=500  bytes:>1mb  took:>250ms  since:10m  rule:"our repos"  secret:github  text'),
        Text("\nCommands", "bold"),
        labelled([(f":{name}", what) for name, what in COMMANDS.items()]),
    )


def read_command(text: str) -> tuple[str, str]:
    """The command and what it is about. Raises ValueError with a sentence. `@NAME` is a filter."""
    if text.startswith("@"):
        return "filter", text
    word, _, rest = text.strip().partition(" ")
    found = [name for name in COMMANDS if name.startswith(word)] if word else []
    if word in COMMANDS:
        found = [word]
    if word and len(found) != 1:
        known = ", ".join(found or COMMANDS)
        raise ValueError(f"`{word}` may be {known}" if found else f"no such command; there are {known}")
    return (found[0] if found else ""), rest.strip()
