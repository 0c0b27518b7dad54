"""The lines of a message head (RFC 9112 sections 2 and 5): start line, field lines, empty line; found and checked.

1. Line ends are CRLF only. A bare CR, a bare LF, NUL and every other control but HTAB end the parse.
2. A field name is a token directly followed by its colon; a line that begins with whitespace (obs-fold) is refused.
3. Values lose the whitespace around them and are otherwise kept as sent; obs-text (0x80 to 0xff) stays in values.
4. A limit holds while the head is still arriving, and a prefix that can no longer become valid is refused at once.

All quantifiers over attacker-chosen bytes are possessive, so matching is linear in the input.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress.wire.outcome import NeedMore, Reject, malformed, too_large

if TYPE_CHECKING:
    from collections.abc import Callable

type Fields = tuple[tuple[bytes, bytes], ...]
type Lines = tuple[re.Match[bytes], Fields, int]
type Defects = tuple[tuple[re.Pattern[bytes], Reject], ...]

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
TEXT = rb"[\t -~\x80-\xff]"
NAME_LENGTH = 256

_NAME = TOKEN + rb"{1,%d}+" % NAME_LENGTH
# A field line, and one whose value does not end in whitespace, so that nothing has to be taken off: nearly every one.
_FIELD = re.compile(rb"^(" + _NAME + rb"):[ \t]*+(" + TEXT + rb"*+)\r\n", re.MULTILINE)
_NEAT_FIELD = re.compile(rb"^(" + _NAME + rb"):[ \t]*+(" + TEXT + rb"*+)(?<![ \t])\r\n", re.MULTILINE)
_WHOLE_LINES = re.compile(rb"(?:" + _NAME + rb":" + TEXT + rb"*+\r\n)*+")
_PART_OF_LINE = re.compile(rb"(?:\r|" + _NAME + rb"(:" + TEXT + rb"*+\r?)?)?\Z")
_REST_OF_VALUE = re.compile(TEXT + rb"*+(\r\n|\r?\Z)")

# The first that is found names the defect; the last is found in every line that no other describes.
_FIELD_DEFECTS: Defects = (
    (re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n"), malformed("a line ends in a bare CR or a bare LF")),
    (re.compile(rb"\A[ \t]"), malformed("a header line begins with whitespace (folded lines are refused)")),
    (re.compile(rb"\A:"), malformed("a header has no name")),
    (re.compile(rb"\A" + TOKEN + rb"+[ \t]+:"), malformed("whitespace stands between a header's name and its colon")),
    (re.compile(rb"\A" + TOKEN + rb"{%d}" % (NAME_LENGTH + 1)), too_large("a header's name is too long")),
    (re.compile(rb"\A" + TOKEN + rb"*[^:]"), malformed("a header's name is not a token, or has no colon")),
    (re.compile(rb""), malformed("a header's value holds a control character")),
)
_HEAD_TOO_LARGE = too_large("the head is longer than the limit")
_START_TOO_LARGE = too_large("the first line is longer than the limit")
_TOO_MANY_FIELDS = too_large("the head has more headers than the limit")
_FIRST_CALL = NeedMore()


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """How large a head may be: `bytes` in all, with its empty line; `fields` headers; `line` bytes of first line."""

    bytes: int = 65_536
    fields: int = 100
    line: int = 16_384


@dataclass(frozen=True, slots=True)
class StartLine:
    """The grammar of a first line.

    `whole` matches it with its CRLF; `part` matches every prefix of it that could still become whole; `defects` name
    what is wrong with a line that matches neither. `check` says what else is wrong with a whole line, if anything: it
    is asked while the rest of the head is awaited; of a complete head the caller reads the line itself.
    """

    whole: re.Pattern[bytes]
    part: re.Pattern[bytes]
    check: Callable[[re.Match[bytes]], Reject | None]
    defects: Defects


def split_head(
    data: bytes | bytearray, grammar: StartLine, limits: HeadLimits, resume: NeedMore | None
) -> Lines | NeedMore | Reject:
    """Find the end of a head and take it apart: its first line's match, its fields, its length with the empty line.

    INVARIANT a hint never widens: `resume` only says where to look for the end and what not to look at again while
    waiting; a complete head is always checked from its first byte.
    """
    resume = resume or _FIRST_CALL
    end = data.find(b"\r\n\r\n", max(0, resume.scanned - 3), limits.bytes)
    if end < 0:
        return _judge_prefix(data, grammar, limits, resume)
    head = data if type(data) is bytes and len(data) == end + 4 else bytes(data[: end + 4])
    start = grammar.whole.match(head)
    if start is None or start.end() > limits.line:
        return defect(grammar.defects, head) if start is None else _START_TOO_LARGE
    fields = parse_fields(head, start.end(), end + 2, limits)
    if isinstance(fields, Reject):
        return fields
    return start, fields, end + 4


def parse_fields(block: bytes, start: int, end: int, limits: HeadLimits) -> Fields | Reject:
    """Parse the field lines in `block[start:end]`: whole lines, CRLF each, without the empty line that ends them."""
    # Each match begins after a LF and holds exactly one, at its end; so as many matches as LFs means that every
    # line matched and nothing between them was skipped.
    lines = block.count(b"\n", start, end)
    if lines > limits.fields:
        return _TOO_MANY_FIELDS
    fields: list[tuple[bytes, bytes]] = _NEAT_FIELD.findall(block, start, end)
    if len(fields) == lines:
        return tuple(fields)
    fields = _FIELD.findall(block, start, end)
    if len(fields) != lines:
        good = _WHOLE_LINES.match(block, start, end)
        return defect(_FIELD_DEFECTS, block[good.end() if good else start : end])
    return tuple([(name, value.rstrip(b" \t")) for name, value in fields])


def part_of_fields(data: bytes | bytearray, limits: HeadLimits, resume: NeedMore) -> NeedMore | Reject:
    """Judge field lines that have not ended yet, from `resume` on."""
    position, seen = resume.scanned, resume.fields
    if resume.in_value:
        rest = _REST_OF_VALUE.match(data, position)
        if rest is None:
            return defect(_FIELD_DEFECTS, b"x:" + data[position:])
        if not rest[1].endswith(b"\n"):
            return NeedMore(rest.start(1), seen, in_value=True)
        position, seen = rest.end(), seen + 1
    good = _WHOLE_LINES.match(data, position)
    after = good.end() if good else position
    seen += data.count(b"\n", position, after)
    if seen > limits.fields:
        return _TOO_MANY_FIELDS
    part = _PART_OF_LINE.match(data, after)
    if part is None:
        return defect(_FIELD_DEFECTS, bytes(data[after:]))
    if part[1] is None:
        return NeedMore(after, seen)
    return NeedMore(part.end() - part[1].endswith(b"\r"), seen, in_value=True)


def defect(defects: Defects, line: bytes) -> Reject:
    """Say what is wrong with the first of `line`'s lines, known to be wrong. Never on the path of a valid message."""
    line = line[: line.find(b"\n") + 1] or line
    return next(reject for pattern, reject in defects if pattern.search(line))


def _start_line(head: bytes, grammar: StartLine, limits: HeadLimits) -> re.Match[bytes] | Reject:
    start = grammar.whole.match(head)
    if start is None:
        return defect(grammar.defects, head)
    if start.end() > limits.line:
        return _START_TOO_LARGE
    return start


def _judge_prefix(
    data: bytes | bytearray, grammar: StartLine, limits: HeadLimits, resume: NeedMore
) -> NeedMore | Reject:
    """Judge a head whose end has not come: reject what is over a limit or beyond repair, else wait."""
    if len(data) >= limits.bytes:
        return _HEAD_TOO_LARGE
    if resume.scanned == 0:
        if data.find(b"\n", 0, limits.line) < 0:
            if len(data) >= limits.line:
                return _START_TOO_LARGE
            return _FIRST_CALL if grammar.part.match(data) else defect(grammar.defects, bytes(data))
        start = _start_line(bytes(data), grammar, limits)
        if isinstance(start, Reject):
            return start
        if reject := grammar.check(start):
            return reject
        resume = NeedMore(start.end())
    return part_of_fields(data, limits, resume)
