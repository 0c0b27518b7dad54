"""YAML text as a tree that still has what reading throws away: comments, blank lines, quotes, and flow or block style.

Each comment belongs to one entry (a key with its value, or an item of a list), so that entries can change places:

1. after text on the line       to the entry that stands there
2. alone on its line            to the entry below it
3. alone, and further right     to the end of the mapping or list above it whose column it has reached
   than the entry below
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from ruamel.yaml import YAML
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruamel.yaml.events import Event, NodeEvent

# A comment begins with `#` at the start of a line or after white space (YAML 1.2, section 6.6).
_HASH = re.compile(r"(?:(?<=[ \t\n])|\A)#[^\n]*")


class NoLayoutError(Exception):
    """Text that cannot be laid out anew; `line` says where, the message why."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(slots=True)
class Node:
    """A scalar or alias (`source` is its text as written, `value` what it says), or a mapping or list of entries."""

    kind: type[Event]
    start: int
    end: int
    line: int
    column: int
    last_line: int
    source: str = ""
    value: str = ""
    anchor: str | None = None
    flow: bool = False
    brackets: bool = False
    entries: list[Entry] = field(default_factory=list)
    tail: list[str] = field(default_factory=list)

    @property
    def is_collection(self) -> bool:
        """Whether this is a mapping or a list, if an empty one."""
        return self.kind in {MappingStartEvent, SequenceStartEvent}

    @property
    def is_mapping(self) -> bool:
        """Whether the entries have keys."""
        return self.kind is MappingStartEvent

    @property
    def is_block(self) -> bool:
        """Whether entries stand on lines of their own."""
        return bool(self.entries) and not self.flow


@dataclass(slots=True)
class Entry:
    """A key with its value, or an item of a list. `before`: comment lines above it, blank ones too."""

    key: Node | None
    value: Node
    column: int
    before: list[str] = field(default_factory=list)
    beside: str = ""

    @property
    def start(self) -> int:
        """Where it begins in the text."""
        return self.value.start if self.key is None else self.key.start

    @property
    def line(self) -> int:
        """The line on which it begins."""
        return self.value.line if self.key is None else self.key.line

    @property
    def last_line(self) -> int:
        """The line on which a comment would stand beside it."""
        if not self.value.is_block:
            return self.value.last_line
        return self.line


@dataclass(frozen=True, slots=True)
class _Comment:
    start: int
    line: int
    column: int
    text: str
    alone: bool


def read_tree(text: str) -> Node:
    """The one document of the text, which must be readable YAML. Raises NoLayoutError for what cannot be kept."""
    events = cast("Iterator[Event]", YAML(typ="rt", pure=True).parse(text))
    next(events)  # the start of the stream
    if not isinstance(next(events), DocumentStartEvent):
        raise NoLayoutError(1, "the file is empty")
    scalars: list[Node] = []
    root = _node(next(events), events, text, scalars)
    comments = _comments(text, scalars)
    _open_commented(root, comments)
    _attach(root, comments, text.split("\n"))
    return root


def _node(event: Event, events: Iterator[Event], text: str, scalars: list[Node]) -> Node:
    at = cast("NodeEvent", event)
    mark = at.start_mark
    node = Node(type(event), mark.index, at.end_mark.index, mark.line, mark.column, at.end_mark.line)
    if isinstance(event, ScalarEvent | AliasEvent):
        scalars.append(node)
        node.source = text[node.start : node.end].rstrip()
        node.end = node.start + len(node.source)
        node.last_line = node.line + node.source.count("\n")
        if isinstance(event, ScalarEvent):
            node.value = event.value
            if event.style in {"|", ">"}:
                raise NoLayoutError(node.line + 1, "a block of text (`|` or `>`) is not laid out")
        return node
    if not isinstance(event, MappingStartEvent | SequenceStartEvent):
        raise NoLayoutError(node.line + 1, "this is no value")
    node.anchor = event.anchor
    node.flow = node.brackets = bool(event.flow_style)
    while not isinstance(event := next(events), MappingEndEvent | SequenceEndEvent):
        first = _node(event, events, text, scalars)
        if node.is_mapping:
            node.entries.append(Entry(first, _node(next(events), events, text, scalars), first.column))
        else:
            node.entries.append(Entry(None, first, first.column if node.flow else node.column))
    node.end, node.last_line = event.end_mark.index, event.end_mark.line
    # Nothing can stand on lines of its own where nothing stands.
    node.flow = node.flow or not node.entries
    return node


def _comments(text: str, scalars: list[Node]) -> list[_Comment]:
    found = []
    place = line = counted = 0
    for match in _HASH.finditer(text):
        start = match.start()
        while place < len(scalars) and scalars[place].end <= start:
            place += 1
        if place < len(scalars) and scalars[place].start <= start:
            continue
        begin = text.rfind("\n", 0, start) + 1
        line, counted = line + text.count("\n", counted, start), start
        found.append(_Comment(start, line, start - begin, match[0].rstrip(), not text[begin:start].strip()))
    return found


def _open_commented(node: Node, comments: list[_Comment]) -> None:
    """What is written in brackets with comments inside gets a line for each entry, to hold them."""
    if node.flow and any(node.start < comment.start < node.end for comment in comments):
        node.flow = not node.entries
    for entry in node.entries:
        _open_commented(entry.value, comments)


def _attach(root: Node, comments: list[_Comment], lines: list[str]) -> None:
    order = list(_walk(root, []))
    following = 0
    for comment in comments:
        while following < len(order) and order[following][0].start < comment.start:
            following += 1
        above = order[following - 1] if following else None
        below = order[following][0] if following < len(order) else None
        if above is not None and not comment.alone and above[0].last_line == comment.line:
            above[0].beside = f"{above[0].beside} {comment.text}".strip()
            continue
        texts = root.tail if below is None else below.before
        if above is not None and comment.alone:
            home = _home(above[1], comment, below)
            texts = texts if home is None else home.tail
        if _blank_above(lines, comment.line):
            texts.append("")
        texts.append(comment.text)
    for entry, around in order:
        is_first = around[-1].entries[0] is entry
        if (entry.before or not is_first) and _blank_above(lines, entry.line):
            entry.before.append("")


def _walk(node: Node, around: list[Node]) -> Iterator[tuple[Entry, list[Node]]]:
    """Every entry that has a line of its own, from the top, with the mappings and lists that it stands in."""
    if not node.is_block:
        return
    inside = [*around, node]
    for entry in node.entries:
        yield entry, inside
        yield from _walk(entry.value, inside)


def _home(around: list[Node], comment: _Comment, below: Entry | None) -> Node | None:
    """The mapping or list around the entry above at whose end the comment stands; None if it is for what is below."""
    for node in reversed(around):
        if node.brackets and node.start < comment.start < node.end:
            return node if below is None or below.start > node.end else None
    if below is not None and comment.column <= below.column:
        return None
    fitting = [node for node in around if node.entries[0].column <= comment.column]
    # Of a mapping and a list that begin in the same column, the outer one.
    return max(fitting, key=lambda node: node.entries[0].column, default=around[0])


def _blank_above(lines: list[str], line: int) -> bool:
    return line > 0 and not lines[line - 1].strip()
