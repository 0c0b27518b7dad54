"""The canonical path of a request, and the patterns of a rule's `paths`.

A path rule is only worth something if the server reads the path as we do. So a path is never repaired: it is matched
in its decoded form if there is one way to read it, and refused if there are more. Refused are dot segments, empty
segments, encoded slashes, dots and other unreserved characters, double encoding, backslashes, `;` parameters, `*`,
encoded `?` and `#`, controls, bytes that are not UTF-8, compatibility forms (full-width `/`), and whatever
RFC 3986 (section 3.3) does not allow in a path.

Patterns: `*` stands for one whole segment that is not empty, `**` for any number of segments; a closing `/**` covers
what is below, not the path itself. All else is compared exactly, upper and lower case apart.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from egress.policy.reasons import Reason
from egress.policy.values import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import EllipsisType

# One reading, nothing to decode: segments of pchar without `;` and `*` (RFC 3986), none empty but the last.
_PLAIN = re.compile(r"(?:/[A-Za-z0-9._~!$&'()+,=:@-]+)*/?")
_ENCODED = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()+,=:@-]|%[0-9A-Fa-f]{2})+)*/?")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
# Octets that mean something else, or the same, once decoded: what is behind us may decode twice, once or never.
_NEVER_ENCODED = (
    frozenset(range(0x20))
    | {0x7F}
    | frozenset(b"%/\\;*?#.-_~")
    | frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
)
_FIRST_AFTER_C1 = "\xa0"


@dataclass(frozen=True, slots=True)
class PatternError:
    """A path pattern that must not be used: what is wrong with it, and what to write instead."""

    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A compiled pattern. `segments` are decoded texts, with None for `*` and ... (Ellipsis) for `**`."""

    text: str
    segments: tuple[str | EllipsisType | None, ...]
    exact: str | None
    below: str | None

    def matches(self, path: str) -> bool:
        """Whether a canonical path matches."""
        if self.exact is not None:
            return path == self.exact
        if self.below is not None:
            return path.startswith(self.below)
        return _glob(self.segments, path[1:].split("/"))

    def folded(self, fold: Callable[[str], str]) -> PathPattern:
        """The pattern with its letters folded."""
        return PathPattern(
            self.text,
            tuple(fold(part) if isinstance(part, str) else part for part in self.segments),
            None if self.exact is None else fold(self.exact),
            None if self.below is None else fold(self.below),
        )


class PathSet:
    """All patterns of one rule, ready to be asked. Exact paths cost one lookup, however many there are.

    `fold` makes paths and patterns alike before they are compared.
    """

    __slots__ = ("_exact", "_fold", "_others")

    def __init__(self, patterns: tuple[PathPattern, ...], fold: Callable[[str], str] | None = None) -> None:
        self._fold = fold
        if fold is not None:
            patterns = tuple(pattern.folded(fold) for pattern in patterns)
        self._exact = frozenset(pattern.exact for pattern in patterns if pattern.exact is not None)
        self._others = tuple(pattern for pattern in patterns if pattern.exact is None)

    def match(self, path: str) -> bool:
        """Whether a canonical path matches one of them."""
        if self._fold is not None:
            path = self._fold(path)
        return path in self._exact or any(pattern.matches(path) for pattern in self._others)


@lru_cache(maxsize=4_096)
def canonical_path(raw: str) -> str | Refusal:
    """The decoded path, if `raw` (a target's path, as sent, without the query) can be read one way only.

    An empty path is `/` (RFC 3986, 6.2.3). Reason: `path-ambiguous`.
    """
    if not raw:
        return "/"
    path = raw
    if not _PLAIN.fullmatch(raw):
        if not _ENCODED.fullmatch(raw):
            return _refuse(_what_is_wrong(raw))
        decoded = _decode(raw)
        if isinstance(decoded, Refusal):
            return decoded
        path = decoded
    if "/." in path and any(segment in {".", ".."} for segment in path.split("/")):
        return _refuse("the path holds dot segments")
    return path


def compile_path(pattern: str) -> PathPattern | PatternError:
    """The pattern, ready to match, or what is wrong with it."""
    if not pattern.startswith("/"):
        return PatternError(f"`{pattern}` does not start with a slash", f"write `/{pattern}`")
    if "?" in pattern:
        return PatternError(f"`{pattern}` holds a query", "leave the query out: paths are matched without it")
    segments: list[str | EllipsisType | None] = []
    for segment in pattern[1:].split("/"):
        if segment in {"*", "**"}:
            segments.append(None if segment == "*" else ...)
        elif "*" in segment:
            return PatternError(
                f"`{pattern}` holds a `*` inside a segment", "`*` stands for one whole segment, `**` for any number"
            )
        else:
            segments.append(segment)
    literal = canonical_path("/" + "/".join("x" if s is None or s is ... else _encode(s) for s in segments))
    if isinstance(literal, Refusal):
        return PatternError(f"`{pattern}` can never match: {literal.detail}", "write the path as clients send it")
    decoded = literal[1:].split("/")
    parts = tuple(d if isinstance(s, str) else s for s, d in zip(segments, decoded, strict=True))
    return _finish(pattern, parts)


def _finish(text: str, parts: tuple[str | EllipsisType | None, ...]) -> PathPattern:
    words = [part for part in parts if isinstance(part, str)]
    if len(words) == len(parts):
        return PathPattern(text, parts, "/" + "/".join(words), None)
    if parts[-1] is ... and len(words) == len(parts) - 1:
        return PathPattern(text, parts, None, "/" + "".join(word + "/" for word in words))
    return PathPattern(text, parts, None, None)


def _glob(pattern: tuple[str | EllipsisType | None, ...], path: list[str]) -> bool:
    """Whether segments match. Going back to the last `**` only is enough, so the cost is at most len * len."""
    at = seen = 0
    mark = -1
    resume = 0
    while seen < len(path):
        part = pattern[at] if at < len(pattern) else ""
        if at < len(pattern) and part is ...:
            mark, resume = at, seen
            at += 1
            # A closing `**` covers what is below a path: there must be something, if only the empty last segment.
            if at == len(pattern):
                return True
        elif at < len(pattern) and (part == path[seen] or (part is None and path[seen])):
            at += 1
            seen += 1
        elif mark >= 0:
            resume += 1
            at, seen = mark + 1, resume
        else:
            return False
    return at == len(pattern)


def _decode(raw: str) -> str | Refusal:
    if any(int(escape, 16) in _NEVER_ENCODED for escape in _ESCAPE.findall(raw)):
        return _refuse("the path encodes a character that must stand plain, or that servers decode differently")
    try:
        text = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        return _refuse("the path encodes bytes that are not UTF-8")
    if any("\x7f" <= character < _FIRST_AFTER_C1 for character in text):
        return _refuse("the path encodes a control character")
    if not unicodedata.is_normalized("NFKC", text):
        return _refuse("the path holds a character that some servers read as another")
    return text


def _encode(segment: str) -> str:
    """A segment of a pattern as a client would send it, so that people may write plain Unicode and spaces."""
    return "".join(
        character
        if character in "%/\\;*?#" or (character.isascii() and not character.isspace())
        else _escape(character)
        for character in segment
    )


def _escape(character: str) -> str:
    return "".join(f"%{octet:02X}" for octet in character.encode("utf-8", "surrogatepass"))


def _what_is_wrong(raw: str) -> str:  # noqa: PLR0911 -- one return a fault
    if raw[0] != "/":
        return "the path does not start with a slash"
    if "//" in raw:
        return "the path holds an empty segment"
    if "\\" in raw:
        return "the path holds a backslash"
    if ";" in raw:
        return "the path holds a `;` parameter"
    if "*" in raw:
        return "the path holds a `*`"
    if "%" in raw and not re.fullmatch(r"(?:[^%]|%[0-9A-Fa-f]{2})*", raw, re.DOTALL):
        return "the path holds a `%` that encodes nothing"
    return "the path holds a character that must be encoded"


def _refuse(detail: str) -> Refusal:
    return Refusal(Reason.PATH_AMBIGUOUS, detail)
