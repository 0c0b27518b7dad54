"""Reads YAML text into plain values and the line of each: `Document`.

The rules of this file, each against a way in which two readers of one file could disagree or a small file could
become a large one:

1. YAML 1.2, its core schema, UTF-8, one document, a mapping at the top. No directives.
2. No tags: a value is text, a number, true/false, nothing, a list or a mapping.
3. No key twice.
4. Bounded: bytes, depth, values, and what aliases expand to.

ruamel's round-trip parser gives the events (with positions); the tree is built here, so that every problem of these
kinds is found in one pass and has its line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from egress.config.scalars import Unread, is_merge, scalar
from egress.config.wording import kind_of, place_text, quoted
from egress.config.yaml_errors import alias_message, anchor_message, explain_yaml_error, hidden_characters
from egress.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ruamel.yaml.events import Event, NodeEvent

    from egress.config.wording import Place

MAX_DEPTH: Final = 16
MAX_RULES: Final = 10_000
MAX_VALUES: Final = 250_000
MAX_ALIAS_VALUES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Document:
    """One file's mapping as plain values, and the line (from 1) of every place in it."""

    file: str
    data: Mapping[str, object]
    lines: Mapping[Place, int]

    def line(self, place: Place) -> int:
        """The line of `place`, or of the nearest place around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def problem(self, place: Place, message: str, hint: str = "") -> Problem:
        """A problem at `place`. An index into what the file wrote without a list is not shown."""
        shown = place
        while shown and isinstance(shown[-1], int) and shown not in self.lines:
            shown = shown[:-1]
        return Problem(self.file, self.line(place), place_text(shown), message, hint)


class _Stop(Exception):  # noqa: N818  not an error of the program: the tree cannot be built on
    """Reading cannot go on past the problem recorded last."""


def read_document(
    text: str, file: str, begin: tuple[str, str] = ("version: 1", "which alone denies everything")
) -> tuple[Document | None, list[Problem]]:
    """Read one YAML document. None with problems when there is no tree; a tree may come with problems too.

    `begin`: what a file of this kind that has nothing could say, and what that alone does.
    """
    builder = _Builder(file, begin)
    builder.problems.extend(hidden_characters(text, file))
    if builder.problems:
        return None, builder.problems
    try:
        data = builder.document(cast("Iterator[Event]", YAML(typ="rt", pure=True).parse(text)))
    except YAMLError as error:
        line, message, hint = explain_yaml_error(error, text)
        builder.problems.append(Problem(file, line, "", message, hint))
    except _Stop:
        pass
    else:
        if isinstance(data, dict):
            return Document(file, data, builder.lines), builder.problems
        message = f"the top of the file should be a mapping of keys, not {kind_of(data)}"
        builder.problems.append(Problem(file, 1, "", message, f"start with `{begin[0]}`"))
    return None, builder.problems


@dataclass(slots=True)
class _Anchored:
    value: object
    count: int


@dataclass(slots=True)
class _Builder:
    """Builds the tree from events and remembers where each value stood."""

    file: str
    begin: tuple[str, str]
    lines: dict[Place, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    anchors: dict[str, _Anchored] = field(default_factory=dict)
    values: int = 0
    aliased: int = 0

    def document(self, events: Iterator[Event]) -> object:
        """The one document of the stream."""
        next(events)  # the start of the stream
        start = next(events)
        if not isinstance(start, DocumentStartEvent):
            hint = f"write `{self.begin[0]}`, {self.begin[1]}"
            self.problems.append(Problem(self.file, 1, "", "the file is empty", hint))
            raise _Stop
        if start.version is not None or start.tags:
            self._problem(start, (), "a `%` directive is not allowed", "remove it; the file is read as YAML 1.2")
        data = self._node(cast("NodeEvent", next(events)), events, ())
        next(events)  # the end of the document
        after = next(events)
        if isinstance(after, DocumentStartEvent):
            self._problem(after, (), "a second document starts here", "keep one document a file: remove the `---`")
        return data

    def _node(self, event: NodeEvent, events: Iterator[Event], place: Place) -> object:
        if len(place) > MAX_DEPTH:
            raise self._stop(event, place[:3], f"nested deeper than {MAX_DEPTH} levels", "flatten it")
        self.values += 1
        if self.values > MAX_VALUES:
            message = f"more than {MAX_VALUES} values"
            raise self._stop(event, (), message, "move long lists of hosts into `{file: PATH}`")
        self.lines.setdefault(place, event.start_mark.line + 1)
        if isinstance(event, AliasEvent):
            return self._alias(event, place)
        before = self.values
        tag: object = getattr(event, "tag", None)
        if tag is not None:
            hint = "remove it, or quote the value if it is text that begins with `!`"
            self._problem(event, place, f"a YAML tag ({quoted(tag)}) is not allowed", hint)
        value: object
        if isinstance(event, SequenceStartEvent):
            value = self._sequence(events, place)
        elif isinstance(event, MappingStartEvent):
            value = self._mapping(events, place)
        else:
            value = scalar(cast("ScalarEvent", event))
            if value is None and event.anchor is not None:
                self._problem(event, place, *anchor_message(event.anchor))
                value = Unread()
            elif tag is not None:
                value = Unread()
        if event.anchor is not None:
            self.anchors[event.anchor] = _Anchored(value, self.values - before + 1)
        return value

    def _sequence(self, events: Iterator[Event], place: Place) -> list[object]:
        items: list[object] = []
        while not isinstance(event := next(events), SequenceEndEvent):
            if len(items) == MAX_RULES and place == ("rules",):
                message = f"more than {MAX_RULES:,} rules"
                raise self._stop(event, place, message, "move hosts into list files, as in `allow: {file: hosts.txt}`")
            items.append(self._node(cast("NodeEvent", event), events, (*place, len(items))))
        return items

    def _mapping(self, events: Iterator[Event], place: Place) -> dict[str, object]:
        found: dict[str, object] = {}
        merged: dict[str, object] = {}
        while not isinstance(event := next(events), MappingEndEvent):
            if is_merge(event) and "<<" not in merged:
                self._merge(event, events, place, merged)
                continue
            key = self._key(cast("NodeEvent", event), events, place)
            if key is None:
                self._node(cast("NodeEvent", next(events)), events, (*place, "(unread)"))
                continue
            at = (*place, key)
            if key in found:
                first = self.lines.get(at, 0)
                self._problem(event, at, f"this key stands here twice, first on line {first}", "keep one of them")
                self._node(cast("NodeEvent", next(events)), events, (*at, "(again)"))
                continue
            self.lines[at] = event.start_mark.line + 1
            found[key] = self._node(cast("NodeEvent", next(events)), events, at)
        for key, value in merged.items():
            if key != "<<" and key not in found:
                found[key] = value
                self.lines[*place, key] = self.lines[*place, "<<"]
        return found

    def _merge(self, event: Event, events: Iterator[Event], place: Place, merged: dict[str, object]) -> None:
        """The keys of `<<: *name`: what the mapping says itself goes before them, wherever it stands."""
        at = (*place, "<<")
        self.lines[at] = event.start_mark.line + 1
        value = self._node(cast("NodeEvent", next(events)), events, at)
        merged["<<"] = value
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                merged.update((key, item) for key, item in one.items() if key not in merged)
            elif not isinstance(one, Unread):
                message = f"`<<` takes the keys of a mapping, and this is {kind_of(one)}"
                self._problem(event, place, message, "write `<<: *name`, where `&name` stands before a mapping")

    def _key(self, event: NodeEvent, events: Iterator[Event], place: Place) -> str | None:
        """The key as text; None if it is none, and then the problem is told."""
        if isinstance(event, ScalarEvent):
            key = scalar(event)
            if is_merge(event):
                self._problem(event, place, "`<<` stands here twice", "write `<<: [*one, *other]`")
            elif isinstance(key, str):
                return key
            else:
                message = f"a key should be text, not {kind_of(key)}"
                self._problem(event, place, message, f'quote it: `"{event.value}"`')
        elif isinstance(event, AliasEvent):
            self._problem(event, place, *alias_message(event.anchor))
        else:
            self._node(event, events, (*place, "(key)"))
            message = "a key should be text, not a list or mapping"
            self._problem(event, place, message, 'quote text that begins with `{` or `[`, as in `"${name}"`')
        return None

    def _alias(self, event: AliasEvent, place: Place) -> object:
        anchored = self.anchors.get(event.anchor)
        if anchored is None:
            self._problem(event, place, *alias_message(event.anchor))
            return Unread()
        # A few nested aliases name more values than memory holds; count them as if they were written out.
        self.aliased += anchored.count
        self.values += anchored.count
        if self.aliased > MAX_ALIAS_VALUES:
            message = f"aliases stand for more than {MAX_ALIAS_VALUES} values"
            raise self._stop(event, place, message, "write the values out")
        return anchored.value

    def _problem(self, event: Event, place: Place, message: str, hint: str) -> None:
        self.problems.append(Problem(self.file, event.start_mark.line + 1, place_text(place), message, hint))

    def _stop(self, event: Event, place: Place, message: str, hint: str) -> _Stop:
        self._problem(event, place, message, hint)
        return _Stop()
