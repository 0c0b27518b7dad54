r"""How an upstream may spell a secret's value when it sends it back: the forms that are looked for in answers. Pure.

1. as it is, each character plain or escaped: %2F, %2f (URLs), \/, \u002f, \x2f (JSON, JavaScript), &#47;, &#x2f;,
   &amp; (HTML), + for a space
2. in base64, with either alphabet, whatever stands around it in the encoded text: one form for each of the three ways
   in which groups of three bytes can fall on it, its characters plain or escaped as above

A form is found by an anchor: its longest run of characters that nobody escapes for a reason; or, where everything is
escaped all the same, the longest run of escapes whose digits are the same in upper and lower case.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# A shorter value cannot be told from harmless text.
SHORTEST: Final = 8

# Characters that neither URLs (RFC 3986, section 2.3) nor JSON nor HTML have a reason to escape.
_PLAIN: Final = re.compile(rb"[0-9A-Za-z._~-]+")
_PLAIN_IN_BASE64: Final = re.compile(rb"[0-9A-Za-z]+")
# How many characters of a base64 text hang on what stands before the value, by how many bytes of its group that is.
_FOREIGN: Final = (0, 2, 3)

_STYLES: Final = (b"%%%02x", b"\\u%04x", b"\\x%02x", b"&#%d;", b"&#x%x;")
_NAMED: Final = {
    ord("&"): (b"&amp;",),
    ord("<"): (b"&lt;",),
    ord(">"): (b"&gt;",),
    ord('"'): (b"&quot;", b"&#034;", b'\\"'),
    ord("'"): (b"&apos;", b"&#039;", b"\\'"),
    ord("/"): (b"\\/",),
    ord("\\"): (b"\\\\",),
    ord(" "): (b"+", b"&nbsp;"),
}
_URL_SAFE: Final = {ord("+"): ord("-"), ord("/"): ord("_")}
_FOLDED_BASE64: Final = bytes.maketrans(b"+/", b"-_")
_FOLDED_SPACES: Final = bytes.maketrans(b" ", b"+")

type Unit = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Escaped:
    """What all of a value's characters, escaped in one style, are found by: `anchor`, `offset` bytes behind the first.

    `lead` is the character that each of these escapes begins with: where it is missing, nothing need be searched.
    """

    lead: bytes
    anchor: bytes
    offset: int


@dataclass(frozen=True, slots=True)
class Form:
    """One form of one value. `units` are the spellings of each of its characters, the plain one first.

    `shown` is what stands in its place. `offset` is the most bytes that can stand before the anchor, of those that are
    the form's; `literals` are spellings without an escape; `longest` is the length of the longest spelling. `head`
    matches wherever a form begins, and seldom elsewhere.
    """

    units: tuple[Unit, ...]
    anchor: bytes
    offset: int
    escaped: tuple[Escaped, ...]
    literals: tuple[bytes, ...]
    longest: int
    head: re.Pattern[bytes]
    shown: bytes

    def match(self, data: bytes, at: int) -> int:
        """Where the longest spelling that begins at `at` ends, or -1."""
        if self.head.match(data, at) is None:
            return -1
        ends = {at}
        for unit in self.units:
            ends = {end + len(spelling) for end in ends for spelling in unit if data.startswith(spelling, end)}
            if not ends:
                return -1
        return max(ends)

    def around(self, data: bytes, anchor: int) -> Iterator[tuple[int, int]]:
        """The spellings (from, to) whose anchor may be the one at `anchor`."""
        for start in range(max(0, anchor - self.offset), anchor + 1):
            end = self.match(data, start)
            if end > anchor:
                yield start, end


def every(data: bytes, part: bytes) -> Iterator[int]:
    """All places of `part` in `data`."""
    at = data.find(part)
    while at >= 0:
        yield at
        at = data.find(part, at + 1)


def forms_of(value: bytes, shown: bytes) -> tuple[Form, ...]:
    """All forms of a value; none for one that is too short."""
    if len(value) < SHORTEST:
        return ()
    units = tuple([_spellings(character) for character in value])
    plain = _form(value, shown, units, _PLAIN, tuple([_escaped(value, style) for style in _STYLES]))
    return (plain, *[_base64_form(value, shown, before) for before in range(3)])


def _base64_form(value: bytes, shown: bytes, before: int) -> Form:
    """The part of its base64 text that hangs on the value alone, with `before` bytes before it in its group."""
    whole = base64.b64encode(bytes(before) + value).rstrip(b"=")
    end = len(whole) - bool((before + len(value)) % 3)
    text = whole[_FOREIGN[before] : end]
    units = tuple([_either_alphabet(character) for character in text])
    return _form(text, shown, units, _PLAIN_IN_BASE64, ())


def _form(
    text: bytes, shown: bytes, units: tuple[Unit, ...], plain: re.Pattern[bytes], escaped: tuple[Escaped, ...]
) -> Form:
    # Without a character that stays plain there is none to find it by but its first.
    first, end = _longest_run(plain, text) or (0, 1)
    lengths = [max(map(len, unit)) for unit in units]
    offset = list(accumulate(lengths, initial=0))[first]
    fold = _FOLDED_BASE64 if plain is _PLAIN_IN_BASE64 else _FOLDED_SPACES
    literals = tuple(dict.fromkeys((text, text.translate(fold))))
    return Form(
        units,
        text[first:end],
        offset,
        escaped,
        literals,
        sum(lengths),
        _head(units),
        shown,
    )


def _head(units: tuple[Unit, ...]) -> re.Pattern[bytes]:
    """The first three characters in any spelling."""
    return re.compile(b"".join([b"(?:" + b"|".join(map(re.escape, unit)) + b")" for unit in units[:3]]))


def _escaped(value: bytes, style: bytes) -> Escaped:
    texts = [style % character for character in value]
    starts = list(accumulate(map(len, texts), initial=0))
    same = bytes([49 if text == _upper(text) else 48 for text in texts])
    first, end = _longest_run(re.compile(b"1+"), same) or (0, 1)
    return Escaped(style[:1], b"".join(texts[first:end]) if same != b"0" * len(same) else b"", starts[first])


def _longest_run(pattern: re.Pattern[bytes], text: bytes) -> tuple[int, int] | None:
    run = max(pattern.finditer(text), key=lambda found: len(found[0]), default=None)
    return None if run is None else run.span()


def _upper(escape: bytes) -> bytes:
    """An escape with its hex digits in upper case."""
    return re.sub(rb"(?<=[0-9u%x])[0-9a-f]{2,4}(?=;?\Z)", lambda found: found[0].upper(), escape)


@lru_cache(maxsize=256)
def _spellings(character: int) -> Unit:
    escaped = [style % character for style in _STYLES]
    both = [spelling for text in escaped for spelling in (text, _upper(text))]
    return tuple(dict.fromkeys((bytes([character]), *both, *_NAMED.get(character, ()))))


@lru_cache(maxsize=256)
def _either_alphabet(character: int) -> Unit:
    other = _URL_SAFE.get(character)
    return _spellings(character) if other is None else (*_spellings(character), *_spellings(other))
