"""The layout of policy files: one way to write each, nothing lost, nothing that reads otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.config import format_policy
from egress.config import layout as layout_module
from egress.config.document import read_document
from egress.errors import ConfigError

POLICIES = sorted((Path(__file__).parents[2] / "policies").rglob("*.yaml"))

# Comments of the file, above, beside, at the end of a rule, and at the end of the file.
COMMENTED = """\
# the file

version: 1 # one
rules: # all
# first
- allow: a.test # beside
  # methods: [GET]

# second
- deny:
  - b.test
  - c.test # c
  # d
# the end
"""
LAID_OUT = """\
# the file

version: 1  # one
rules:  # all
  # first
  - allow: a.test  # beside
    # methods: [GET]

  # second
  - deny:
      - b.test
      - c.test  # c
    # d
# the end
"""

# before, after
LAYOUTS = [
    ("version:   1\nrules:\n- allow:   a.test\n", "version: 1\nrules:\n  - allow: a.test\n"),
    ("{version: 1, rules: [{allow: a.test}]}\n", "version: 1\nrules: [{allow: a.test}]\n"),
    ("version: 1\n\n\n\nrules: []\n\n\n", "version: 1\n\nrules: []\n"),
    ("---\nversion: 1\n", "version: 1\n"),
    ("version: 1\r\nrules: []\r\n", "version: 1\nrules: []\n"),
    # keys of a rule in the order of reading; comments go with them
    (
        "version: 1\nrules:\n  - methods: [GET]  # to read\n    # why\n    name: x\n\n    allow: a.test\n",
        "version: 1\nrules:\n  # why\n  - name: x\n\n    allow: a.test\n    methods: [GET]  # to read\n",
    ),
    (COMMENTED, LAID_OUT),
    # quotes that nobody needs
    (
        "version: 1\nrules:\n  - name: \"x\"\n    allow: ['a.test', \"*.b.test\", '443', 'yes', \"[::1]:443\"]\n",
        "version: 1\nrules:\n  - name: x\n    allow: [a.test, \"*.b.test\", '443', 'yes', \"[::1]:443\"]\n",
    ),
    # long lists are folded, short ones in brackets stay
    (
        f"version: 1\nrules:\n  - allow: [{', '.join(['host-number.example.com'] * 5)}]\n    methods: [ GET,POST ]\n",
        "version: 1\nrules:\n  - allow:\n" + "      - host-number.example.com\n" * 5 + "    methods: [GET, POST]\n",
    ),
    # comments inside brackets get lines of their own
    (
        "version: 1\nrules:\n  - allow: [a.test, # first\n      b.test\n      # last\n    ]\n",
        "version: 1\nrules:\n  - allow:\n      - a.test  # first\n      - b.test\n      # last\n",
    ),
    (
        "version: 1\nrules:\n  - allow: [\n    a.test,\n    b.test]  # x\n",
        "version: 1\nrules:\n  - allow: [a.test, b.test]  # x\n",
    ),
    # text over several lines becomes one line
    (
        'version: 1\nrules:\n  - name: "a\n      b"\n    allow: a.test\n',
        'version: 1\nrules:\n  - name: "a b"\n    allow: a.test\n',
    ),
    # anchors stay
    (
        "version: 1\nrules:\n- allow: &hosts [a.test]\n- deny: *hosts\n",
        "version: 1\nrules:\n  - allow: &hosts [a.test]\n  - deny: *hosts\n",
    ),
    ("version: 1\nrules:\n- # why\n  allow: a.test\n", "version: 1\nrules:\n  # why\n  - allow: a.test\n"),
    (
        "version: 1\nsecrets:\n    key:   {env: KEY,hosts: [a.test]}\n",
        "version: 1\nsecrets:\n  key: {env: KEY, hosts: [a.test]}\n",
    ),
]


@pytest.mark.parametrize(("before", "after"), LAYOUTS)
def test_layout(before: str, after: str) -> None:
    """What each becomes; and what came out stays as it is."""
    assert format_policy(before, "p.yaml").after == after
    assert not format_policy(after, "p.yaml").changed


REFUSED = [
    (
        "version: 1\nrules:\n  - name: |\n      x\n    allow: a.test\n",
        "p.yaml:3: a block of text (`|` or `>`) is not laid out",
    ),
    ("version: 1\nrules: [\n", "p.yaml:2: "),
    ("version: 1\nversion: 1\n", "p.yaml:2: version: this key stands here twice"),
    ("", "p.yaml:1: the file is empty"),
    # in the new order the alias would stand before its anchor
    (
        "version: 1\nrules:\n  - methods: &x [GET]\n    paths: *x\n    ports: *x\n",
        "p.yaml: the layout of this file cannot be",
    ),
]


@pytest.mark.parametrize(("text", "expected"), REFUSED)
def test_what_cannot_be_laid_out_is_refused(text: str, expected: str) -> None:
    """With the line where there is one."""
    with pytest.raises(ConfigError) as caught:
        format_policy(text, "p.yaml")
    assert str(caught.value.problems[0]).startswith(expected)


def test_layout_that_would_read_otherwise_never_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """INVARIANT same-meaning: whatever is wrong with the layout, the values are compared."""
    for wrong in (
        "version: 1\nrules:\n  - allow: b.test\n",
        "version: 1.0\n",
        "version: 1\nrules: [\n",
        "version: 1\n",
    ):
        monkeypatch.setattr(layout_module, "_document", lambda _root, text=wrong: text)
        with pytest.raises(ConfigError, match="cannot be changed without changing what it says"):
            format_policy("version: 1\nrules:\n  - allow: a.test\n", "p.yaml")


def test_order_counts_everywhere_but_among_the_keys_of_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules, lists and injected headers are ordered; a layout that changes that order is refused."""
    text = "version: 1\nrules:\n  - {allow: a.test, inject: {A: a, B: b}}\n"
    monkeypatch.setattr(layout_module, "_document", lambda _root: text.replace("A: a, B: b", "B: b, A: a"))
    with pytest.raises(ConfigError):
        format_policy(text, "p.yaml")
    monkeypatch.setattr(
        layout_module, "_document", lambda _root: "version: 1\nrules:\n  - {inject: {A: a, B: b}, allow: a.test}\n"
    )
    assert format_policy(text, "p.yaml").changed


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_shipped_policies_are_laid_out(path: Path) -> None:
    """What comes with egress looks as `egress policy fmt` leaves it."""
    assert not format_policy(path.read_text(), path.name).changed


_TEXTS = st.sampled_from(
    ["a.test", '"*.b.test"', "'x y'", "443", '"443"', "yes", "~x", "a-b", '"# no"', "'it''s'", '"a\\tb"', "x#y"]
)
_COMMENTS = st.sampled_from(["", "", " # c", "   #  d # e"])


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A document of rules with comments, blank lines, quotes and nested lists in all sorts of places."""
    lines = [
        "version: 1" + draw(_COMMENTS),
        *draw(st.sampled_from([[], [""], ["# above"], ["", "# above", ""]])),
        "rules:",
    ]
    pad = draw(st.sampled_from(["", "  ", "     "]))
    for _ in range(draw(st.integers(1, 3))):
        dash = f"{pad}- "
        for key in draw(st.permutations(["name", "allow", "methods", "paths", "inject"]))[: draw(st.integers(1, 5))]:
            head = f"{dash}{key}:"
            dash = f"{pad}  "
            form = draw(st.integers(0, 3))
            if form == 0:
                lines.append(f"{head} {draw(_TEXTS)}{draw(_COMMENTS)}")
            elif form == 1:
                lines.append(f"{head} [{', '.join(draw(st.lists(_TEXTS, min_size=1, max_size=9)))}]{draw(_COMMENTS)}")
            elif form == 2:
                lines.append(head + draw(_COMMENTS))
                lines += [f"{dash}- {text}{draw(_COMMENTS)}" for text in draw(st.lists(_TEXTS, min_size=1, max_size=3))]
            else:
                lines.append(f"{head} {{a: {draw(_TEXTS)}, b: [{draw(_TEXTS)}]}}{draw(_COMMENTS)}")
            lines += draw(st.sampled_from([[], [], [""], [f"{dash}# own"], [f"{dash}    # deep"], ["# left"]]))
    return "\n".join(lines) + "\n"


@given(texts())
def test_nothing_is_lost_and_the_second_time_nothing_changes(text: str) -> None:
    """The values, every comment, and a layout that is its own."""
    before, problems = read_document(text, "p.yaml")
    assert before is not None
    assert problems == []
    after = format_policy(text, "p.yaml").after
    again, problems = read_document(after, "p.yaml")
    assert again is not None
    assert again.data == before.data
    assert sorted(words(after)) == sorted(words(text))
    assert format_policy(after, "p.yaml").after == after


def words(text: str) -> list[str]:
    """The words of the comments, as far as the texts above make them."""
    return [word for word in text.split() if word in {"c", "d", "e", "above", "own", "deep", "left"}]
