"""Puts a rule into the text of a policy file and leaves every other character of it as it is. Pure: no files.

The file is not written anew from its values: lines are inserted where the parser says that rules begin and end.

1. where        at a rule's place: above it and above the comments that belong to it; or after the last rule
2. how          with the indentation, the blank lines between rules, and the line ends that the file has
3. and then     the new text is read again: it must hold the old values and the new rule, nothing else, or nothing is
                changed. So a layout that was misunderstood is an error, never a policy that nobody meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from egress.config.document import read_document
from egress.errors import ConfigError, Problem
from egress.review.rule_lines import Layout, split
from egress.review.yaml_text import flow, scalar

if TYPE_CHECKING:
    from egress.config.document import Document
    from egress.policy import Verdict
    from egress.review.yaml_text import Plain

_KEY: Final = re.compile(
    r"(?P<key>(?:rules|\"rules\"|'rules')[ \t]*:)[ \t]*(?:\[[ \t]*\]|~|null)?(?P<after>[ \t]*|[ \t]+#.*)\Z"
)


@dataclass(frozen=True, slots=True)
class NewRule:
    """A rule to be written. Every value is text as a policy file has it; `()` or None for what it does not state.

    `reason` becomes a comment above the rule, a line for each of its lines.
    """

    verdict: Verdict
    targets: tuple[str, ...]
    ports: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    protocol: tuple[str, ...] = ()
    until: str | None = None
    reason: str | None = None

    def values(self) -> dict[str, Plain]:
        """The rule as plain values, in the order in which they are written."""
        found: dict[str, Plain] = {self.verdict.value: _one_or_list(self.targets)}
        if self.ports:
            found["ports"] = [int(port) if port.isdecimal() else port for port in self.ports]
        if self.methods:
            found["methods"] = self.methods[0] if self.methods == ("read-only",) else list(self.methods)
        if self.paths:
            found["paths"] = list(self.paths)
        if self.protocol:
            found["protocol"] = _one_or_list(self.protocol)
        if self.until is not None:
            found["until"] = self.until
        return found


@dataclass(frozen=True, slots=True)
class Edit:
    """The new text, and where the new rule stands in it: its place in the list (from 0) and its line (from 1)."""

    text: str
    index: int
    line: int


def insert_rule(text: str, file: str, rule: NewRule, index: int | None = None) -> Edit:
    """`text` with `rule` as number `index` (from 0) of its rules; None: after the last.

    Raises ConfigError where the text is no policy, or is laid out so that lines cannot be put into it.
    """
    before = _read(text, file)
    found = before.data.get("rules")
    count = len(found) if isinstance(found, list) else 0
    index = count if index is None else index
    layout = Layout(split(text), before)
    if "rules" not in before.data:
        edited = _with_key(layout, rule)
    elif count == 0:
        edited = _into_empty(layout, rule, file)
    else:
        edited = _among(layout, rule, index, count, file)
    return _checked(before, edited, rule, index, file)


def written(rule: NewRule, indent: int, gap: int = 1) -> list[str]:
    """The lines of a rule, its reason above it. `gap`: how many spaces stand after the dash."""
    pad = " " * indent
    comments = [f"{pad}# {line}".rstrip() for line in (rule.reason or "").splitlines()]
    keys: list[str] = []
    for key, value in rule.values().items():
        shown = scalar(value) if isinstance(value, str | int | None) else flow([*value])
        keys.append(f"{key}: {shown}")
    first, *others = keys
    return [*comments, f"{pad}-{' ' * gap}{first}", *(f"{pad} {' ' * gap}{key}" for key in others)]


def _with_key(layout: Layout, rule: NewRule) -> str:
    """A file without `rules:` gets the key at its end, below every comment."""
    return layout.inserted(len(layout.lines), ["rules:", *written(rule, 2)])


def _into_empty(layout: Layout, rule: NewRule, file: str) -> str:
    number = layout.document.line(("rules",)) - 1
    content, ending = layout.lines[number]
    key = _KEY.match(content)
    if key is None:
        raise _unfit(file, number + 1, "`rules:` does not stand alone on its line")
    lines = [*layout.lines[:number], (f"{key['key']}{key['after']}".rstrip(), ending), *layout.lines[number + 1 :]]
    return Layout(lines, layout.document).inserted(number + 1, written(rule, 2))


def _among(layout: Layout, rule: NewRule, index: int, count: int, file: str) -> str:
    dash = layout.dash(0)
    if dash is None:
        line = layout.document.line(("rules", 0))
        raise _unfit(file, line, "the rules stand in one list `[...]`, not each on lines of its own")
    lines = written(rule, dash.indent, dash.gap)
    blank = [""] if layout.has_blank_lines(count) else []
    if index < count:
        at = layout.above(index)
        if at is None:
            raise _unfit(file, layout.document.line(("rules", index)), "this rule does not begin with `- `")
        return layout.inserted(at, [*lines, *blank])
    return layout.inserted(layout.end_of(count - 1), [*blank, *lines])


def _checked(before: Document, text: str, rule: NewRule, index: int, file: str) -> Edit:
    after, problems = read_document(text, file)
    old = before.data.get("rules")
    rules = list(old) if isinstance(old, list) else []
    expected = {**before.data, "rules": [*rules[:index], rule.values(), *rules[index:]]}
    if after is None or problems or dict(after.data) != expected:
        raise _unfit(file, before.line(("rules",)), "the file is laid out in a way that lines cannot be put into")
    return Edit(text, index, after.line(("rules", index)))


def _read(text: str, file: str) -> Document:
    document, problems = read_document(text, file)
    if document is None or problems:
        raise ConfigError(problems)
    return document


def _unfit(file: str, line: int, message: str) -> ConfigError:
    hint = "write `rules:` on a line of its own and each rule on lines of its own, beginning with `- `"
    return ConfigError([Problem(file, line, "rules", message, hint)])


def _one_or_list(values: tuple[str, ...]) -> Plain:
    return values[0] if len(values) == 1 else list(values)
