"""Paths: what can be read one way only, and what patterns match."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.policy import PathPattern, PatternError, Reason, Refusal, canonical_path, compile_path

READABLE = [
    ("", "/"),
    ("/", "/"),
    ("/a", "/a"),
    ("/a/", "/a/"),
    ("/a/b.c/~d_e-f", "/a/b.c/~d_e-f"),
    ("/...", "/..."),
    ("/.git/config", "/.git/config"),
    ("/a..b/..c/d..", "/a..b/..c/d.."),
    ("/@scope/pkg", "/@scope/pkg"),
    ("/a:b=c,d+e!$&'()", "/a:b=c,d+e!$&'()"),
    ("/a%20b", "/a b"),
    ("/a%2Bb%40c", "/a+b@c"),
    ("/a%2bb", "/a+b"),
    ("/%C3%BC", "/ü"),
    ("/%e6%97%a5", "/日"),
]


@pytest.mark.parametrize(("raw", "path"), READABLE)
def test_a_plain_path_is_decoded(raw: str, path: str) -> None:
    """What needs encoding may be encoded; the rest stands plain."""
    assert canonical_path(raw) == path


AMBIGUOUS = [
    "a",
    "*",
    "http://example.com/a",
    "//a",
    "/a//b",
    "/a//",
    "/.",
    "/..",
    "/a/.",
    "/a/..",
    "/a/./b",
    "/public/../admin",
    "/public/a/..",
    "/public/%2e%2e/admin",
    "/public/.%2e/admin",
    "/public/%252e%252e/admin",
    "/public/..%2fadmin",
    "/public/..%2Fadmin",
    "/public/..%5cadmin",
    "/public/..\\admin",
    "/public\\a",
    "/public/..;/admin",
    "/public/..;x=y/admin",
    "/public/a;admin=1",
    "/public/a%3bb",
    "/public/%c0%ae%c0%ae/admin",
    "/public/%c0%af",
    "/public/%ff",
    "/public/%zz",
    "/public/%",
    "/public/%2",
    "/%70ublic/a",
    "/public/%7Ea",
    "/public/*",
    "/public/%2a",
    "/public/%00",
    "/public/%0a",
    "/public/%7f",
    "/public/%c2%85",
    "/public/a%3fb",
    "/public/a%23b",
    "/public/a#b",
    "/public/a?b",
    "/public/a b",
    "/public/a\tb",
    "/public/a\nb",
    "/public/a\x00",
    "/public/ü",
    "/public/%ef%bc%8f",
    "/public/%ef%bc%8e%ef%bc%8e/admin",
    "/public/u%cc%88",
    "/a|b",
    "/a[b]",
    "/a{b}",
    "/a^b",
    '/a"b',
    "/a<b>",
    "/a`b",
]


@pytest.mark.parametrize("raw", AMBIGUOUS)
def test_a_path_with_two_readings_is_refused(raw: str) -> None:
    """Some server, cache or framework reads each of these as another path."""
    refusal = canonical_path(raw)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.PATH_AMBIGUOUS


@given(st.text(max_size=40) | st.from_regex(r"/[a-z0-9%/.;*~ -]{0,30}", fullmatch=True))
def test_a_canonical_path_encoded_again_is_the_same_path(raw: str) -> None:
    """Canonicalising twice is canonicalising once, no path raises, and none holds a way out of its folder."""
    path = canonical_path(raw)
    if isinstance(path, str):
        assert canonical_path(quote(path, safe="/~!$&'()+,=:@")) == path
        assert not {"..", "."} & set(path.split("/"))
        assert "//" not in path
        assert not set("\\;*%?#") & set(path)


MATCHES = [
    ("/a", "/a", True),
    ("/a", "/a/", False),
    ("/a", "/A", False),
    ("/a", "/ab", False),
    ("/a/", "/a/", True),
    ("/a/", "/a", False),
    ("/", "/", True),
    ("/**", "/", True),
    ("/**", "/a/b/c", True),
    ("/public/**", "/public/a", True),
    ("/public/**", "/public/a/b", True),
    ("/public/**", "/public/", True),
    ("/public/**", "/public", False),
    ("/public/**", "/publicX/a", False),
    ("/a/*", "/a/b", True),
    ("/a/*", "/a/", False),
    ("/a/*", "/a/b/c", False),
    ("/*/b", "/a/b", True),
    ("/*/b", "/b", False),
    ("/a/**/z", "/a/z", True),
    ("/a/**/z", "/a/b/c/z", True),
    ("/a/**/z", "/a/b/c/zz", False),
    ("/a/**/m/**/z", "/a/m/m/q/z/z", True),
    ("/a/**/m/**/z", "/a/b/z", False),
    ("/**/*.git", "/x", None),
    ("/a/**/*", "/a/b", True),
    ("/a/**/*", "/a/", False),
    ("/a/*/**", "/a/b/c", True),
    ("/a/*/**", "/a/b", False),
    ("/a b", "/a%20b", True),
    ("/a%20b", "/a%20b", True),
    ("/ü", "/%C3%BC", True),
]


@pytest.mark.parametrize(("pattern", "raw", "matches"), MATCHES)
def test_patterns_match_whole_segments(pattern: str, raw: str, matches: bool | None) -> None:  # noqa: FBT001 -- a column
    """`*` is one segment, `**` any number; None: the pattern is refused."""
    compiled, path = compile_path(pattern), canonical_path(raw)
    if matches is None:
        assert isinstance(compiled, PatternError)
        return
    assert isinstance(compiled, PathPattern)
    assert isinstance(path, str)
    assert compiled.matches(path) is matches


@pytest.mark.parametrize(
    "pattern", ["", "a", "/a?b", "/a*", "/***", "/a//b", "/a/../b", "/a;b", "/a%2fb", "/a\\b", "/a#b"]
)
def test_a_pattern_that_can_never_match_is_refused(pattern: str) -> None:
    """With what to write instead."""
    error = compile_path(pattern)
    assert isinstance(error, PatternError)
    assert error.hint


def test_many_wildcards_cost_no_more_than_length_times_length() -> None:
    """A hostile path cannot make matching exponential."""
    pattern = compile_path("/" + "**/a/" * 30 + "z")
    assert isinstance(pattern, PathPattern)
    assert not pattern.matches("/" + "a/" * 2_000 + "y")
