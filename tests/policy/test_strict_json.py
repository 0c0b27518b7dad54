"""JSON is read only where every reader reads the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.policy.strict_json import DEEPEST, read_json

REFUSED = {
    "a name twice": b'{"a": 1, "a": 2}',
    "twice, deep": b'[{"a": {"b": [1, {"c": 1, "c": 1}]}}]',
    "twice in another case": b'{"method": 1, "Method": 2}',
    "twice, by an escape": b'{"method": 1, "m\\u0065thod": 2}',
    "twice, as Go folds": b'{"params": 1, "param\\u017f": 2}',
    "byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-16 without a mark": '{"a": 1}'.encode("utf-16-le"),
    "UTF-32": '{"a": 1}'.encode("utf-32"),
    "Latin-1": '{"é": 1}'.encode("latin-1"),
    "overlong": b'{"\xc1\xa1": 1}',
    "a surrogate in UTF-8": b'{"\xed\xa0\x80": 1}',
    "a lone surrogate": b'["\\ud800"]',
    "a lone surrogate in a name": b'{"\\udc00": 1}',
    "NaN": b"[NaN]",
    "Infinity": b"[-Infinity]",
    "beyond a double": b"[1e999]",
    "too many digits": b"[" + b"1" * 65 + b"]",
    "NUL in a name": b'{"method\\u0000": 1}',
    "a control character": b'["\n"]',
    "a comment": b'{"a": 1 /* b */}',
    "a comma too many": b"[1,]",
    "single quotes": b"['a']",
    "two values": b"{} {}",
    "nothing": b"",
    "too deep": b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1),
    "much too deep": b"[" * 100_000,
    "too many": b"[" + b"[]," * 20_000 + b"[]]",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_what_two_readers_read_in_two_ways_is_refused(data: bytes) -> None:
    """With a ValueError, and nothing else."""
    with pytest.raises(ValueError):  # noqa: PT011 -- any of them
        read_json(data)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abcde_", min_size=1, max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON, st.booleans())
def test_plain_json_is_read_as_by_everybody(value: object, ascii_only: bool) -> None:  # noqa: FBT001 -- drawn
    """As the standard library reads it."""
    data = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert read_json(data) == json.loads(data)


@given(st.binary() | st.text(alphabet='{}[]":,\\u0dD8ae1tfn ').map(str.encode))
def test_any_bytes_give_a_value_or_one_error(data: bytes) -> None:
    """Never another exception; and what is read is what the standard library reads, as UTF-8."""
    try:
        value = read_json(data)
    except ValueError:
        return
    assert value == json.loads(data.decode())


@pytest.mark.parametrize("data", [b'"' + b'\\"' * 400_000, b'["' + b"\\" * 800_000, b"{" * 800_000])
def test_the_worst_bodies_are_refused_as_fast_as_others(data: bytes) -> None:
    """Reading is linear: otherwise this would not end."""
    with pytest.raises(ValueError):  # noqa: PT011 -- any of them
        read_json(data)
