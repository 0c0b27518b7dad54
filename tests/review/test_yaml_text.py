"""What is written as YAML is read as the same values, by our reader and by one of YAML 1.1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from egress.config.document import read_document
from egress.review.yaml_text import scalar, text

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
# What one reader or another takes for something else than text.
MEANT_OTHERWISE = st.sampled_from(
    [
        "yes",
        "No",
        "on",
        "null",
        "~",
        "",
        "0x10",
        "1_000",
        "12:30",
        ".inf",
        "1e3",
        "*x",
        "[a",
        "a: b",
        "- a",
        "#a",
        "=",
        "<<",
    ]
)
VALUE = TEXT | MEANT_OTHERWISE | st.integers(0, 70_000) | st.booleans()


@given(value=TEXT | MEANT_OTHERWISE)
def test_a_text_is_read_as_that_text(value: str) -> None:
    """Whatever it holds: a policy's target must be the one that was asked for."""
    document, problems = read_document(f"key: {scalar(value)}\n", "file")
    assert not problems
    assert document is not None
    assert document.data["key"] == value
    old = YAML(typ="safe", pure=True)
    old.version = (1, 1)
    assert old.load(f"key: {scalar(value)}\n") == {"key": value}


@given(
    values=st.dictionaries(
        st.from_regex(r"[a-z]{1,8}\Z"),
        VALUE
        | st.lists(VALUE, max_size=4)
        | st.lists(st.dictionaries(st.from_regex(r"[a-z]{1,8}\Z"), VALUE, min_size=1)),
        min_size=1,
        max_size=4,
    )
)
def test_mappings_and_lists_are_read_as_they_were(values: dict[str, object]) -> None:
    """In one line or as a block."""
    document, problems = read_document(text(values), "file")  # type: ignore[arg-type]
    assert not problems
    assert document is not None
    assert document.data == values


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("api.example.com", "api.example.com"),
        (".example.com", ".example.com"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("/v1/**", "/v1/**"),
        ("2026-11-21T09:00:00Z", "2026-11-21T09:00:00Z"),
        ("*.example.com", '"*.example.com"'),
        ("2001:db8::/32", '"2001:db8::/32"'),
        ("no", '"no"'),
        ("8000-8010", '"8000-8010"'),
    ],
)
def test_what_people_write_plain_stays_plain(value: str, written: str) -> None:
    """And what they must quote is quoted."""
    assert scalar(value) == written
