"""What an upstream sends back of a secret's value is replaced, in whatever form and however it is cut into pieces."""

from __future__ import annotations

import base64
import html
import json
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.credentials import Secret
from egress.credentials import scrub as scrub_module
from egress.credentials.scrub import SHORTEST, Scrub, Scrubber, scrubber_of
from egress.credentials.spellings import forms_of

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = "ghp_0123456789abcdefABCDEF-never-seen"
ODD = "p@ss/w+rd&x=\"1\"<'2'>\\ %41?~z"
SHOWN = b"[egress:key]"


def scrubber(*values: str) -> Scrubber:
    """For secrets of these values, the first of which is `key`."""
    return Scrubber([Secret("key" if not number else f"key{number}", value) for number, value in enumerate(values)])


def every(text: str, style: str) -> str:
    """Each character escaped."""
    return "".join(style % ord(character) for character in text)


def encoded(text: str) -> str:
    """In base64."""
    return base64.b64encode(text.encode()).decode()


# name -> how a value may be spelt, whatever characters it has.
FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "quoted": lambda text: quote(text, safe=""),
    "quoted in lower case": lambda text: quote(text, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
    "as a form's value": quote_plus,
    "every byte quoted": lambda text: every(text, "%%%02X"),
    "every byte quoted in lower case": lambda text: every(text, "%%%02x"),
    "json": lambda text: json.dumps(text)[1:-1],
    "json with slashes escaped": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "json for html": lambda text: (
        json.dumps(text)[1:-1]
        .replace("<", "\\u003c")
        .replace(">", "\\u003E")
        .replace("&", "\\u0026")
        .replace("+", "\\u002B")
        .replace("'", "\\u0027")
    ),
    "every character a json escape": lambda text: every(text, "\\u%04x"),
    "every character a javascript escape": lambda text: every(text, "\\x%02X"),
    "html": html.escape,
    "html with decimal entities": lambda text: text.replace("&", "&#38;").replace("<", "&#60;").replace('"', "&#34;"),
    "every character an entity": lambda text: every(text, "&#%d;"),
    "every character a hexadecimal entity": lambda text: every(text, "&#x%X;"),
    "base64": encoded,
    "base64 behind one": lambda text: encoded(f"u{text}"),
    "base64 behind two": lambda text: encoded(f"u:{text}"),
    "base64 behind three": lambda text: encoded(f"me:{text}"),
    "base64 in the middle": lambda text: encoded(f"me:{text}\r\nmore"),
    "base64 for urls": lambda text: encoded(f"??>{text}").replace("+", "-").replace("/", "_").rstrip("="),
    "base64 in json": lambda text: encoded(f"?>{text}").replace("/", "\\/"),
    "base64 in a url": lambda text: quote(encoded(f"?>{text}"), safe=""),
}


@pytest.mark.parametrize("value", [TOKEN, ODD, "a" * 8, "+/+/+/+/+/", "with space inside", "x" * 3000])
@pytest.mark.parametrize("form", FORMS)
def test_a_value_is_replaced_in_every_form(form: str, value: str) -> None:
    """Nothing of the form stays but what hangs on bytes around it."""
    spelt = FORMS[form](value).encode()
    cleaned = scrubber(value).whole(b"<<" + spelt + b">>")
    assert SHOWN in cleaned
    left = cleaned.replace(SHOWN, b"")
    # What base64 adds of the bytes beside the value.
    assert len(left) <= len(b"<<>>") + (20 if "base64" in form else 0)


@pytest.mark.parametrize("form", ["plain", "quoted", "json", "base64", "base64 behind two", "every byte quoted"])
def test_harmless_text_around_a_value_stays(form: str) -> None:
    """Replaced is the value, byte for byte, and no more."""
    before, after = b'{"id": 1, "echo": "', b'", "more": "%41 \\u0041 ghp_0123"}'
    cleaned = scrubber(TOKEN).whole(before + FORMS[form](TOKEN).encode() + after)
    assert cleaned.startswith(before)
    assert cleaned.endswith(after)


def test_harmless_text_is_the_same_text() -> None:
    """Parts of a value are no value."""
    text = (TOKEN[:-1] + " " + TOKEN[1:] + " " + encoded("other") + every(TOKEN[:-1], "%%%02x")).encode()
    assert scrubber(TOKEN).whole(text) == text


def test_of_values_that_begin_alike_the_longest_is_taken() -> None:
    """Or else the rest of the longer one would stay."""
    cleaned = scrubber("abcd1234", "abcd1234-and-more").whole(b"x abcd1234-and-more y abcd1234 z")
    assert cleaned == b"x [egress:key1] y [egress:key] z"


def test_a_short_value_is_not_looked_for() -> None:
    """It could not be told from harmless text."""
    assert scrubber("a" * (SHORTEST - 1)).whole(b"a" * 100) == b"a" * 100


PIECES = st.sampled_from(
    [
        *(FORMS[form](value).encode() for form in FORMS for value in (TOKEN, ODD)),
        *(b"ghp_", b"%", b"\\u00", b"&#", b"g", b"\n", b"Z2hw", b"p%40", TOKEN[:20].encode(), b"{}", b"\xff\x00"),
    ]
)


@given(st.lists(PIECES, max_size=6), st.lists(st.integers(0, 600), max_size=8), st.booleans())
def test_however_a_body_is_cut_the_result_is_the_same(
    parts: list[bytes],
    cuts: list[int],
    escaped: bool,  # noqa: FBT001
) -> None:
    """Pieces of any size give what the whole gives; and what was cleaned is clean."""
    whole = b"".join(parts)
    made = scrubber(TOKEN, ODD)
    at_once = Scrub(made, escaped=escaped)
    expected = at_once.feed(whole) + at_once.end()
    in_pieces = Scrub(made, escaped=escaped)
    out, last = b"", 0
    for cut in [*sorted(min(cut, len(whole)) for cut in cuts), len(whole)]:
        out += bytes(in_pieces.feed(memoryview(bytearray(whole))[last:cut]))
        last = cut
    assert out + in_pieces.end() == expected
    if escaped:
        assert made.whole(expected) == expected


@given(st.text(st.characters(min_codepoint=0, max_codepoint=0x7F), max_size=400), st.integers(0, len(TOKEN) - 1))
def test_what_is_held_back_tells_nothing_of_the_value(text: str, cut: int) -> None:
    """As much waits of a right guess as of a wrong one, however the guess is escaped; a whole line never waits."""
    made = scrubber(TOKEN)
    for form in FORMS:
        right = FORMS[form](TOKEN).encode()[:cut]
        wrong = bytes(byte ^ 1 if chr(byte).isalnum() else byte for byte in right)
        passed = [len(Scrub(made).feed(text.encode() + guess)) for guess in (right, wrong)]
        assert passed[0] == passed[1]
        lying = [len(Scrub(made).feed(memoryview(bytearray(text.encode() + guess)))) for guess in (right, wrong)]
        assert lying == passed
    line = text.encode() + b'data: {"a": "ghp_"}\n\n'
    assert Scrub(made).feed(line) == line


def test_a_step_that_failed_lets_nothing_more_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a piece could not be cleaned, no later one goes on, nor does the end."""
    step = Scrub(scrubber(TOKEN))

    def fail(*_: object, **__: object) -> bool:
        raise MemoryError

    monkeypatch.setattr(scrub_module, "contains", fail)
    with pytest.raises(MemoryError):
        step.feed(b"one")
    monkeypatch.undo()
    for again in (lambda: step.feed(b"two"), step.end):
        with pytest.raises(ValueError, match="a piece before"):
            again()


def test_a_name_of_a_field_is_known_in_any_case() -> None:
    """HTTP/2 writes names in lower case."""
    made = scrubber(TOKEN)
    assert made.is_in_name(b"x-" + TOKEN.lower().encode())
    assert not made.is_in_name(b"x-request-id")


def test_a_new_value_takes_the_place_of_the_old_one() -> None:
    """What is remembered for a secret's name holds its newest value alone."""
    second = (Secret("key", "value-number-9"),)
    first = (Secret("key", "value-number-1"),)
    made = scrubber_of(first)
    assert scrubber_of(first) is made
    assert scrubber_of((Secret("key", "value-number-1"),)) is made
    assert scrubber_of(second).whole(b"value-number-1 value-number-9") == b"value-number-1 " + SHOWN
    assert "value" not in repr(made)


def test_without_the_c_library_the_same_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no `memmem`, Python searches."""
    pairs = [(data, part) for data in (b"", b"ab\x00cd", b"xxab", b"abc", b"b") for part in (b"ab", b"\x00c", b"b")]
    assert [scrub_module.contains(*pair) for pair in pairs] == [part in data for data, part in pairs]
    monkeypatch.setattr(scrub_module.ctypes, "PyDLL", lambda _: object())
    assert scrub_module._c_library() == (None, None)
    monkeypatch.setattr(scrub_module, "_memmem", None)
    assert [scrub_module.contains(*pair) for pair in pairs] == [part in data for data, part in pairs]
    step = Scrub(scrubber(TOKEN))
    assert bytes(step.feed(memoryview(bytearray(f"<{TOKEN}>\n".encode())))) == b"<%s>\n" % SHOWN


@given(st.lists(PIECES, max_size=4), st.booleans())
def test_what_passes_uncopied_is_what_a_copy_gives(parts: list[bytes], escaped: bool) -> None:  # noqa: FBT001
    """A buffer that can be written to is searched where it lies."""
    whole = b"".join(parts)
    made = scrubber(TOKEN, ODD)
    copied, lying = Scrub(made, escaped=escaped), Scrub(made, escaped=escaped)
    there = bytes(lying.feed(memoryview(bytearray(whole))))
    assert there == copied.feed(whole)
    assert there + lying.end() == there + copied.end()


def test_forms_are_found_by_their_longest_plain_run() -> None:
    """An anchor is what encoders leave alone."""
    assert forms_of(b"aa+bbbb/cc", b"")[0].anchor == b"bbbb"
    assert forms_of(b"+++++++++", b"")[0].anchor == b"+"
