"""Text from the wire: what is stored, what is printed, and queries without their values."""

from __future__ import annotations

import sqlite3
import unicodedata
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.audit import mask_query, printable
from egress.audit.text import storable

# Every code point, lone surrogates too.
ANY_TEXT = st.text(st.characters())

STORED = [
    ("plain /path?a", "plain /path?a"),
    ("a\x00b", "a\\x00b"),
    ("\x1b[2J", "\\x1b[2J"),
    ("\x9b31m", "\\x9b31m"),
    ("\x7f", "\\x7f"),
    ("\udc80", "\\udc80"),
    ("a\nb\tc", "a\\x0ab\\x09c"),
    ("\u202egnp.exe", "\\u202egnp.exe"),
    ("\u2028", "\\u2028"),
    ("\U000e0041", "\\U000e0041"),
    ("règle", "règle"),
]

MASKED = [
    ("", ""),
    ("a=1", "a=***"),
    ("a=1&b=2", "a=***&b=***"),
    ("a=", "a=***"),
    ("acl", "acl"),
    ("versions&prefix=x", "versions&prefix=***"),
    ("a=1=2&=3", "a=***&=***"),
    ("a=1;token=secret", "a=***"),
    ("&&", "&&"),
    ("ids[]=4", "ids[]=***"),
    ("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30", "***"),
    ("a%3Dsecret", "***"),
    ("x" * 65 + "=", "***=***"),
]


@pytest.mark.parametrize(("raw", "stored"), STORED)
def test_what_cannot_be_printed_is_stored_escaped(raw: str, stored: str) -> None:
    """Controls, bidi controls, separators, surrogates and NUL become visible escapes; the rest stays."""
    assert storable(raw, 100) == stored


def test_invalid_bytes_are_stored_escaped() -> None:
    """Bytes that are no UTF-8 are kept as escapes."""
    assert storable(b"a\xff\x00", 100) == "a\\udcff\\x00"


def test_long_text_is_cut_with_a_mark() -> None:
    """What is cut off is counted."""
    assert storable("a" * 110, 100) == "a" * 100 + "…[+10]"


@given(ANY_TEXT, st.integers(1, 50))
def test_any_text_can_be_inserted_and_comes_back(text: str, limit: int) -> None:
    """No text makes an insert fail, no text is much longer than its limit, and SQLite gives back what it was given."""
    stored = storable(text, limit)
    assert len(stored) <= limit + 20
    with closing(sqlite3.connect(":memory:")) as connection:
        assert connection.execute("SELECT ?", (stored,)).fetchone() == (stored,)


@given(ANY_TEXT)
def test_printed_text_holds_nothing_that_moves_the_cursor_or_turns_the_line(text: str) -> None:
    """No control, format, surrogate or separator character and no right-to-left letter is left."""
    for char in printable(text):
        assert unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}
        assert unicodedata.bidirectional(char) not in {"R", "AL", "AN", "RLO", "RLE", "RLI"}


@given(ANY_TEXT)
def test_printing_twice_is_printing_once(text: str) -> None:
    """Escapes are not escaped again."""
    assert printable(printable(text)) == printable(text)


@pytest.mark.parametrize(("query", "masked"), MASKED)
def test_a_masked_query_has_names_only(query: str, masked: str) -> None:
    """Names stay, values go; an item that may be a value goes whole."""
    assert mask_query(query) == masked


@given(st.lists(st.tuples(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text("0123456789%=+/", min_size=1))))
def test_no_value_survives_masking(items: list[tuple[str, str]]) -> None:
    """Of any query only the names are left, in order."""
    query = "&".join(f"{name}={value}" for name, value in items)
    assert mask_query(query) == "&".join(f"{name}=***" for name, _ in items)


@given(ANY_TEXT)
def test_masking_twice_is_masking_once(query: str) -> None:
    """A masked query is its own mask."""
    assert mask_query(mask_query(query)) == mask_query(query)
