"""Turns a YAML parser's own errors into what to write: mostly, which value to quote."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from egress.config.wording import printable, quoted
from egress.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from ruamel.yaml.error import YAMLError

_BRACKETED = re.compile(r"""(?<!["'\w])\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\](:\d+)?""")
# Other ends of lines, and characters that turn the direction of text.
_HIDDEN = re.compile("[\x85\u2028\u2029\u202a-\u202e\u2066-\u2069]|\r(?!\n)")
_GLUED = re.compile(r"\s*(?:- *)*[A-Za-z_]+:[^\s/:]")
_TEMPLATE = re.compile(r"""(?<!["'])\$\{[^}]*\}?""")
_SPECIAL = {"@": "`@`", "`": "a backtick", "%": "`%`"}


def alias_message(name: str) -> tuple[str, str]:
    """Message and hint for `*name` where no `&name` stands: nearly always an unquoted wildcard."""
    text = printable(f"*{name}")
    return f"to YAML, `{text}` without quotes is an alias, not text", f'quote it: `"{text}"`'


def anchor_message(name: str) -> tuple[str, str]:
    """Message and hint for `&name` with nothing after it."""
    text = printable(f"&{name}")
    return f"to YAML, `{text}` without quotes is an anchor, not text", f'quote it: `"{text}"`'


def hidden_characters(text: str, file: str) -> list[Problem]:
    """What an editor may show as nothing, or in another place, while YAML reads a line's end or text there.

    A rule could hide behind a comment that seems to go on, or seem to be one: nobody would find it in a review.
    """
    found = _HIDDEN.search(text)
    if found is None:
        return []
    line = text.count("\n", 0, found.start()) + 1
    if found[0] == "\r":
        message = "a carriage return stands in the middle of this line"
        return [Problem(file, line, "", message, "end each line with a line feed")]
    message = f"the character U+{ord(found[0]):04X} hides what the file says"
    return [Problem(file, line, "", message, 'remove it, or write it as an escape in `"..."`')]


class _Failure(NamedTuple):
    problem: str
    context: str
    source: str  # the source line
    above: str  # the line before it

    @property
    def is_glued(self) -> bool:
        """Whether a key seems to stand with no space after its colon."""
        return any(map(_GLUED.match, (self.source, self.above)))

    @property
    def both(self) -> str:
        return f"{self.context} {self.problem}"


def explain_yaml_error(error: YAMLError, text: str) -> tuple[int | None, str, str]:
    """Line (from 1), message and hint for an error of the YAML parser."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return _unreadable(error, text)
    lines = text.splitlines() or [""]
    number = min(mark.line, len(lines) - 1)
    context = getattr(error, "context_mark", None)
    above = lines[number - 1] if number else ""
    failure = _Failure(getattr(error, "problem", "") or "", getattr(error, "context", "") or "", lines[number], above)
    if context is not None and failure.problem.endswith(("'<stream end>'", "end of stream")):
        number = min(context.line, len(lines) - 1)  # what was opened there was never closed
    for applies, message, hint in _TABLE:
        if applies(failure):
            return number + 1, message(failure), hint(failure)
    return number + 1, f"not valid YAML: {printable(failure.problem)}", "check the quotes and the indentation"


def _unreadable(error: YAMLError, text: str) -> tuple[int | None, str, str]:
    position = getattr(error, "position", None)
    line = text.count("\n", 0, position) + 1 if isinstance(position, int) else None
    character = getattr(error, "character", None)
    shown = f"U+{character:04X}" if isinstance(character, int) else "a control character"
    return line, f"YAML does not allow the character {shown}", 'remove it, or write it as an escape in `"..."`'


def _first(pattern: re.Pattern[str], source: str) -> str:
    found = pattern.search(source)
    return found.group(0) if found else ""


type _Say = Callable[[_Failure], str]

# First that applies. Each row: when, what is wrong, what to write.
_TABLE: tuple[tuple[Callable[[_Failure], bool], _Say, _Say], ...] = (
    (
        lambda f: "'\\t'" in f.problem,
        lambda _: "a tab indents this line",
        lambda _: "indent with spaces",
    ),
    (
        lambda f: bool(_BRACKETED.search(f.source)),
        lambda f: f"to YAML, {quoted(_first(_BRACKETED, f.source))} without quotes begins a list",
        lambda f: f'quote it: `"{printable(_first(_BRACKETED, f.source))}"`',
    ),
    (
        lambda f: bool(_TEMPLATE.search(f.source)) and "flow" in f.both,
        lambda f: f"to YAML, {quoted(_first(_TEMPLATE, f.source))} without quotes holds a mapping",
        lambda f: f'quote it: `"{printable(_first(_TEMPLATE, f.source))}"`',
    ),
    (
        lambda f: "cannot start any token" in f.problem,
        lambda f: f"a value cannot begin with {_SPECIAL.get(_character(f.problem), quoted(_character(f.problem)))}",
        lambda _: 'quote the value: `"..."`',
    ),
    (
        lambda f: ("mapping values" in f.problem or "simple key" in f.both) and f.is_glued,
        lambda _: "a key's `:` stands without a space after it, here or on the line above",
        lambda _: "write `key: value`",
    ),
    (
        lambda f: "alias" in f.both or "anchor" in f.both,
        lambda _: "to YAML, `*` and `&` without quotes begin an alias or anchor",
        lambda _: 'quote the value: `"*.example.com"`',
    ),
    (
        lambda f: "mapping values are not allowed" in f.problem,
        lambda _: "a `: ` stands where no key can be",
        lambda _: "quote the value if it holds `: `, else check the indentation",
    ),
    (
        lambda f: "quoted scalar" in f.context,
        lambda _: "a quote is opened and not closed",
        lambda _: "close it with the same quote, `\"` or `'`",
    ),
    (
        lambda f: "flow sequence" in f.context,
        lambda _: "a list opened with `[` is not closed, or a `,` is missing",
        lambda _: "write `[a, b]`",
    ),
    (
        lambda f: "flow mapping" in f.context,
        lambda _: "a mapping opened with `{` is not closed, or a `,` is missing",
        lambda _: "write `{key: value, key: value}`",
    ),
    (
        lambda f: "expected <block end>" in f.problem,
        lambda _: "this line's indentation fits nothing above it",
        lambda _: "give the keys of one mapping the same indentation, and quote values with special characters",
    ),
    (
        lambda f: "<document start>" in f.problem,
        lambda _: "this stands after the end of the YAML document",
        lambda _: "write the whole file as `key: value`",
    ),
    (
        lambda f: "simple key" in f.both or "could not find expected ':'" in f.problem,
        lambda _: "a key without its `:`",
        lambda _: "write `key: value`",
    ),
)


def _character(problem: str) -> str:
    found = re.search(r"character '(.)'", problem)
    return found.group(1) if found else "that character"
