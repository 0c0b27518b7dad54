"""Laws of targets, path patterns, lists and policies: read or refused, and never wider than their text.

The laws are those of the fuzzers (`fuzz.policies`), which read the text by means of their own; the texts are
hypothesis's.
"""

from __future__ import annotations

import json
from random import Random
from typing import Final

from fuzz.policies import Lists, Paths, Policies, Targets
from hypothesis import given, settings
from hypothesis import strategies as st

POLICIES: Final = Policies()
CHANCE: Final = Random(0)  # noqa: S311 -- repeatable by intent
_words = st.sampled_from(
    ["a", "B", "example", "com", "co.uk", "xn--bcher-kva", "b\u00fccher", "10", "255", "0", "*", "**", "_x", "-"]
)
_hosts = st.lists(_words, min_size=1, max_size=5).map(".".join)
_numbers = st.integers(0, 0xFFFF)
_ipv4 = st.lists(st.integers(0, 260), min_size=4, max_size=4).map(lambda parts: ".".join(map(str, parts)))
_ipv6 = st.lists(_numbers, min_size=1, max_size=8).map(lambda parts: ":".join(f"{part:x}" for part in parts) + "::")
_ranges = st.tuples(_ipv4 | _ipv6, st.integers(-1, 129)).map(lambda pair: f"{pair[0]}/{pair[1]}")
_ported = st.tuples(_hosts | _ipv4 | _ipv6.map(lambda text: f"[{text}]"), _numbers).map(
    lambda pair: f"{pair[0]}:{pair[1]}"
)
targets = st.one_of(
    _hosts, _hosts.map("*.{}".format), _hosts.map(".{}".format), _ipv4, _ipv6, _ranges, _ported, st.text()
)
_segments = st.sampled_from(["a", "b", "*", "**", "", "a b", "%41", "%2f", "..", ".", ";x", "\u00fc", "x*", "A"])
_paths = st.lists(_segments, max_size=5).map(lambda parts: "/" + "/".join(parts)) | st.text()
_keys = st.sampled_from(
    ["allow", "deny", "ask", "methods", "paths", "ports", "name", "Allow", "<<", "until", "tls", "no", "012"]
)
_values = st.recursive(
    targets | st.integers() | st.booleans() | st.none() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=6,
)


@given(targets)
@settings(max_examples=400)
def test_a_target_names_what_its_text_names(text: str) -> None:
    """For allow, deny and ask, on every port, near and far."""
    Targets().check(text.encode("utf-8", "replace"), CHANCE)


@given(_paths, _paths)
@settings(max_examples=400)
def test_a_path_pattern_matches_what_its_text_matches(pattern: str, path: str) -> None:
    """`*` is one segment and `**` any number, whatever else stands there."""
    Paths().check(f"{pattern}\n{path}".encode("utf-8", "replace"), CHANCE)


@given(st.lists(targets, max_size=5))
def test_a_list_names_what_its_lines_name(lines: list[str]) -> None:
    """Each line by itself."""
    Lists().check("\n".join(lines).encode("utf-8", "replace"), CHANCE)


@given(st.lists(st.dictionaries(_keys, _values, max_size=4), max_size=4))
@settings(max_examples=150)
def test_a_policy_allows_what_its_text_allows(rules: list[dict[str, object]]) -> None:
    """A file of any values where rules stand is refused with our own error, or allows no more than is written."""
    POLICIES.check(f"version: 1\nrules: {json.dumps(rules)}\n".encode("utf-8", "replace"), CHANCE)


@given(st.text(max_size=200))
@settings(max_examples=150)
def test_any_text_is_a_policy_or_refused(text: str) -> None:
    """No exception but ours, from any text at all."""
    POLICIES.check(f"version: 1\n{text}".encode("utf-8", "replace"), CHANCE)
