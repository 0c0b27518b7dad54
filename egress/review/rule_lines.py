"""Where the rules of a policy file stand in its lines: their dashes, their comments, their ends. Pure.

A line is its text and its end, so that what is put together again is the file as it was. Lines end where the YAML
parser ends them, so that its line numbers are ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.config.document import Document

type Line = tuple[str, str]

_LINE: Final = re.compile("([^\r\n\x85\u2028\u2029]*)(\r\n|[\r\n\x85\u2028\u2029]|\\Z)")
_DASH: Final = re.compile(r"(?P<indent> *)-(?P<gap> +)?(?=[^ ]|\Z)")


@dataclass(frozen=True, slots=True)
class Dash:
    """How a rule begins: the line (from 0), the spaces before its dash, and those after it."""

    line: int
    indent: int
    gap: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The lines of a policy file beside what the parser made of them."""

    lines: Sequence[Line]
    document: Document

    def dash(self, index: int) -> Dash | None:
        """How rule `index` begins; None where no line of its own does so with a dash."""
        first = self.document.line(("rules", index)) - 1
        key = self.document.line(("rules",)) - 1
        for number in range(first, key, -1):
            content = self.lines[number][0]
            found = _DASH.match(content)
            if found is not None:
                gap = found["gap"] if number == first else None
                return Dash(number, len(found["indent"]), len(gap or " "))
            # Between the dash and a rule that begins below it only comments and blank lines may stand.
            if number != first and content.strip() and not content.lstrip().startswith("#"):
                return None
        return None

    def above(self, index: int) -> int | None:
        """The line before which a rule goes that is to stand before rule `index`: above the comments of that rule."""
        dash = self.dash(index)
        if dash is None:
            return None
        number = dash.line
        while number > 0:
            content = self.lines[number - 1][0]
            # A comment that stands deeper belongs to the rule before.
            if not content.lstrip().startswith("#") or _indent(content) > dash.indent:
                break
            number -= 1
        return number

    def end_of(self, index: int) -> int:
        """The line after the last one of rule `index`, which is the last rule of the file."""
        dash = self.dash(index)
        if dash is None:
            return len(self.lines)
        end = self._last_known(index) + 1
        for number in range(dash.line + 1, len(self.lines)):
            content = self.lines[number][0]
            if not content.strip():
                continue
            if _indent(content) <= dash.indent:
                if content.lstrip().startswith("#"):
                    continue
                break
            end = max(end, number + 1)
        return end

    def has_blank_lines(self, count: int) -> bool:
        """Whether a blank line stands between the rules."""
        for index in range(1, count):
            above = self.above(index)
            if above is not None and not self.lines[above - 1][0].strip():
                return True
        return False

    def inserted(self, at: int, contents: Sequence[str]) -> str:
        """The text with these lines before line `at`, ended as the lines around them are."""
        ending = self._ending(at)
        lines = list(self.lines)
        new = [(content, ending) for content in contents]
        if at == len(lines) and lines and not lines[-1][1]:
            # The file has no final newline: it has none afterwards either.
            lines[-1] = (lines[-1][0], ending)
            new[-1] = (new[-1][0], "")
        return join([*lines[:at], *new, *lines[at:]])

    def _ending(self, at: int) -> str:
        around = [*reversed(self.lines[:at]), *self.lines[at:]]
        return next((ending for _, ending in around if ending), "\n")

    def _last_known(self, index: int) -> int:
        place = ("rules", index)
        return max(line for at, line in self.document.lines.items() if at[:2] == place) - 1


def split(text: str) -> list[Line]:
    """The lines of a text, each with its end; the last has none where the text ends without one."""
    return [(found[1], found[2]) for found in _LINE.finditer(text) if found[0]]


def join(lines: Sequence[Line]) -> str:
    """The text of lines."""
    return "".join(content + ending for content, ending in lines)


def _indent(content: str) -> int:
    return len(content) - len(content.lstrip(" "))
