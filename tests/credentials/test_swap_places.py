"""A value in place of its placeholder: only there, and written so that it cannot end the place it stands in."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.credentials.swap_places import Putting, TooMuchError, in_body, in_header, in_path, in_query

HELD = "sk-egress-0123456789abcdef"
# What a value may be: visible ASCII, spaces inside.
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60)
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just(HELD) | st.just(f'a "{HELD}" \\ b'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def put(value: str) -> Putting:
    """What puts `value` in."""
    return Putting(HELD, value)


def with_value(data: Any, value: str) -> Any:
    """The same JSON with the value in all of its strings."""
    match data:
        case str():
            return data.replace(HELD, value)
        case list():
            return [with_value(item, value) for item in data]
        case dict():
            return {key: with_value(item, value) for key, item in data.items()}
    return data


@given(JSON_VALUES, VALUES, st.booleans())
def test_json_differs_in_its_strings_alone(data: Any, value: str, ascii_only: bool) -> None:  # noqa: FBT001 - a property
    """Whatever the value is, what a reader gets is the same data with the value in it."""
    body = json.dumps(data, ensure_ascii=ascii_only).encode()
    changed = in_body(body, "application/json; charset=utf-8", put(value))
    assert json.loads(body if changed is None else changed) == with_value(data, value)


@given(st.lists(st.tuples(st.text(max_size=8), st.just(HELD) | st.text(max_size=8)), min_size=1, max_size=5), VALUES)
def test_a_form_has_the_same_parameters(pairs: list[tuple[str, str]], value: str) -> None:
    """A value with `&`, `=`, `%` or `+` in it stays one value."""
    from urllib.parse import urlencode

    text = urlencode(pairs)
    changed = in_query(text, put(value)) or text
    assert parse_qsl(changed, keep_blank_values=True) == [(name, said.replace(HELD, value)) for name, said in pairs]


@given(VALUES)
def test_a_path_keeps_its_segments(value: str) -> None:
    """A slash in a value begins no segment."""
    changed = in_path(f"/bot{HELD}/send", put(value))
    assert changed is not None
    assert [unquote(segment) for segment in changed.split("/")] == ["", f"bot{value}", "send"]


@given(VALUES)
def test_basic_has_the_same_user(value: str) -> None:
    """A value with a colon is still the password alone."""
    said = "Basic " + base64.b64encode(f"user:{HELD}".encode()).decode()
    changed = in_header(said, put(value))
    assert changed is not None
    assert base64.b64decode(changed.removeprefix("Basic ")).decode() == f"user:{value}"


UNTOUCHED = [
    (in_header, "Bearer something-else"),
    (in_header, "Basic not-base64!"),
    (in_header, "Basic " + base64.b64encode(b"user:other").decode()),
    (in_query, "a=b&c"),
    (in_query, f"{HELD}=1"),
    (in_path, "/a/b"),
]


@pytest.mark.parametrize(("place", "text"), UNTOUCHED)
def test_what_has_no_placeholder_in_a_value_stays(place: Any, text: str) -> None:
    """None: there was nothing to do."""
    assert place(text, put("value")) is None


def test_a_user_with_a_colon_would_be_another_user() -> None:
    """So the placeholder stays, and is found."""
    assert in_header("Basic " + base64.b64encode(f"{HELD}:x".encode()).decode(), put("a:b")) is None


UNREAD = [
    (b"{", "application/json"),
    (b"\xff", "application/json"),
    (b"{}", "text/plain"),
    (b"[" * 100_000, "a/b+json"),
    (b"{}", "application/json; charset=utf-16"),
    (b"a=b", 'application/x-www-form-urlencoded;charset="UTF-7"'),
]


@pytest.mark.parametrize(("body", "kind"), UNREAD)
def test_a_body_that_is_neither_json_nor_a_form_cannot_be_read(body: bytes, kind: str) -> None:
    """It is refused by who calls."""
    with pytest.raises(ValueError):  # noqa: PT011 - which one does not matter
        in_body(body, kind, put("value"))


def test_keys_of_json_stay() -> None:
    """A value in a key would be a parameter's name."""
    assert in_body(json.dumps({HELD: 1}).encode(), "application/json", put("value")) is None


def test_what_values_add_is_bounded() -> None:
    """Over all places of a request."""
    putting = Putting(HELD, "x" * 100, 250)
    assert in_query(f"a={HELD}&b={HELD}", putting) == f"a={'x' * 100}&b={'x' * 100}"
    with pytest.raises(TooMuchError):
        in_header(HELD, putting)
