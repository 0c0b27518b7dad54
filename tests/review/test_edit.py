"""A rule put into the text of a policy file: everything else stays as it was, character by character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.config.document import read_document
from egress.errors import ConfigError
from egress.policy import Verdict
from egress.review.edit import NewRule, insert_rule

ALLOW = NewRule(Verdict.ALLOW, ("new.example.com",))
FULL = NewRule(
    Verdict.ALLOW,
    ("*.example.com", "10.0.0.0/8"),
    ports=("443", "8000-8010"),
    methods=("GET", "POST"),
    paths=("/v1/**",),
    protocol=("https",),
    until="2026-11-21T09:00:00Z",
    reason="because of the migration\nask Ada",
)

# What it is about, the text before, the place (None: the last), the text after.
EDITS = (
    (
        "after the last rule, before what follows the list",
        "version: 1\nrules:\n  - allow: a.example.com\n    # its comment\n# of the file\ntls: inspect\n",
        None,
        (
            "version: 1\nrules:\n  - allow: a.example.com\n    # its comment\n  - allow: new.example.com\n"
            "# of the file\ntls: inspect\n"
        ),
    ),
    (
        "before a rule, above the comments that belong to it",
        "rules:\n  # of a\n  - allow: a.example.com\n    # of a, too\n  # of b\n  - deny: b.example.com\n",
        1,
        (
            "rules:\n  # of a\n  - allow: a.example.com\n    # of a, too\n  - allow: new.example.com\n  # of b\n"
            "  - deny: b.example.com\n"
        ),
    ),
    (
        "first, below a heading that a blank line sets apart",
        "rules:\n  # Rules in order.\n\n  # of a\n  - allow: a.example.com\n",
        0,
        "rules:\n  # Rules in order.\n\n  - allow: new.example.com\n  # of a\n  - allow: a.example.com\n",
    ),
    (
        "with a blank line where the rules have them",
        "rules:\n  - allow: a.example.com\n\n  - deny: b.example.com\n",
        1,
        "rules:\n  - allow: a.example.com\n\n  - allow: new.example.com\n\n  - deny: b.example.com\n",
    ),
    (
        "with the indentation of the list and the gap after its dashes",
        "rules:\n-   allow: a.example.com\n    methods: [GET]\n",
        None,
        "rules:\n-   allow: a.example.com\n    methods: [GET]\n-   allow: new.example.com\n",
    ),
    (
        "with Windows line ends",
        "version: 1\r\nrules:\r\n  - allow: a.example.com\r\n",
        None,
        "version: 1\r\nrules:\r\n  - allow: a.example.com\r\n  - allow: new.example.com\r\n",
    ),
    (
        "without a final newline",
        "rules:\n  - allow: a.example.com",
        None,
        "rules:\n  - allow: a.example.com\n  - allow: new.example.com",
    ),
    (
        "without a final newline, first",
        "rules:\n  - allow: a.example.com",
        0,
        "rules:\n  - allow: new.example.com\n  - allow: a.example.com",
    ),
    (
        "comments at the end stay there",
        "rules:\n  - allow: a.example.com\n\n# the end\n",
        None,
        "rules:\n  - allow: a.example.com\n  - allow: new.example.com\n\n# the end\n",
    ),
    ("an empty list", "rules: []\n# more\n", None, "rules:\n  - allow: new.example.com\n# more\n"),
    (
        "an empty list with a comment",
        "rules: [ ]   # none yet\ntls: auto\n",
        None,
        "rules:   # none yet\n  - allow: new.example.com\ntls: auto\n",
    ),
    ("a key without a value", "version: 1\nrules:\n", None, "version: 1\nrules:\n  - allow: new.example.com\n"),
    ("no key", "version: 1\n# the end\n", None, "version: 1\n# the end\nrules:\n  - allow: new.example.com\n"),
    ("no key, no newline", "version: 1", None, "version: 1\nrules:\n  - allow: new.example.com"),
    (
        "tabs where YAML takes them",
        "rules: #\ttab\n  - allow: a.example.com #\ttab\n",
        None,
        "rules: #\ttab\n  - allow: a.example.com #\ttab\n  - allow: new.example.com\n",
    ),
    (
        "a list that goes over lines, a folded text",
        "rules:\n  - deny: [a.example.com,\n      b.example.com]\n    name: >-\n      one\n\n      two\n\nversion: 1\n",
        None,
        (
            "rules:\n  - deny: [a.example.com,\n      b.example.com]\n    name: >-\n      one\n\n      two\n"
            "  - allow: new.example.com\n\nversion: 1\n"
        ),
    ),
    (
        "a rule below its dash",
        "rules:\n  -\n    # of a\n    allow: a.example.com\n",
        0,
        "rules:\n  - allow: new.example.com\n  -\n    # of a\n    allow: a.example.com\n",
    ),
)


@pytest.mark.parametrize(("before", "index", "after"), [edit[1:] for edit in EDITS], ids=[edit[0] for edit in EDITS])
def test_only_the_lines_of_the_rule_are_put_in(before: str, index: int | None, after: str) -> None:
    """Comments, order, indentation, line ends and the end of the file stay."""
    edit = insert_rule(before, "policy.yaml", ALLOW, index)
    assert edit.text == after
    assert after.splitlines()[edit.line - 1].lstrip("- ") == "allow: new.example.com"


def test_every_part_of_a_rule_is_written_so_that_it_is_read_again() -> None:
    """Text that YAML would take for something else is quoted; the reason is a comment, a line each."""
    edit = insert_rule("rules:\n  - deny: a.example.com\n", "policy.yaml", FULL, 0)
    assert edit.text == (
        "rules:\n"
        "  # because of the migration\n"
        "  # ask Ada\n"
        '  - allow: ["*.example.com", 10.0.0.0/8]\n'
        '    ports: [443, "8000-8010"]\n'
        "    methods: [GET, POST]\n"
        "    paths: [/v1/**]\n"
        "    protocol: https\n"
        "    until: 2026-11-21T09:00:00Z\n"
        "  - deny: a.example.com\n"
    )
    assert edit.line == 4


# Layouts that lines cannot be put into.
UNFIT = (
    "rules: [{allow: a.example.com}]\n",
    "{version: 1, rules: []}\n",
    "{version: 1}\n",
    "rules: [\n  {allow: a.example.com},\n]\n",
    "version: 1\n...\n",
)


@pytest.mark.parametrize("text", UNFIT)
def test_a_layout_that_lines_cannot_be_put_into_is_an_error(text: str) -> None:
    """Never a policy that nobody meant: the message says how to write the rules."""
    with pytest.raises(ConfigError) as raised:
        insert_rule(text, "policy.yaml", ALLOW)
    assert "write `rules:` on a line of its own" in str(raised.value)


@pytest.mark.parametrize("text", ["rules:\n\t- allow: a\n", "rules: *x\n", "a: 1\na: 2\n", ""])
def test_a_text_that_does_not_load_is_not_edited(text: str) -> None:
    """What cannot be read has no place for a rule."""
    with pytest.raises(ConfigError):
        insert_rule(text, "policy.yaml", ALLOW)


COMMENT = st.sampled_from(["", "# a comment\n", "\n", "  # indented\n", "    # deeper\n", "\n# a\n\n"])
RULE = st.sampled_from(
    [
        "  - allow: a.example.com\n",
        "  - name: two\n    deny: [b.example.com, c.example.com]\n    ports: [443]\n",
        '  - deny:\n      - 10.0.0.0/8\n      # inside\n      - "**"\n',
        "  -\n    ask: d.example.com\n",
    ]
)


@given(
    pieces=st.lists(st.tuples(COMMENT, RULE), max_size=5),
    ending=st.sampled_from(["\n", "\r\n"]),
    final=st.booleans(),
    tail=COMMENT,
    data=st.data(),
)
def test_old_values_and_old_lines_are_kept_whatever_the_file(
    pieces: list[tuple[str, str]],
    ending: str,
    final: bool,  # noqa: FBT001 -- drawn
    tail: str,
    data: st.DataObject,
) -> None:
    """Without the new lines the file is the old one; the new values are the old ones with the rule among them."""
    text = "version: 1\nrules:\n" + "".join(comment + rule for comment, rule in pieces) + tail
    text = (text if final else text.rstrip("\n")).replace("\n", ending)
    index = data.draw(st.integers(0, len(pieces)))
    edit = insert_rule(text, "policy.yaml", ALLOW, index)
    old, _ = read_document(text, "policy.yaml")
    new, problems = read_document(edit.text, "policy.yaml")
    assert old is not None
    assert new is not None
    assert not problems
    rules = list(old.data["rules"] or [])  # type: ignore[call-overload]
    assert new.data["rules"] == [*rules[:index], {"allow": "new.example.com"}, *rules[index:]]
    kept = edit.text.splitlines()
    del kept[edit.line - 1]
    assert [line for line in kept if line] == [line for line in text.splitlines() if line]
    assert edit.text.endswith(ending) == text.endswith(ending)
    assert ("\r\n" in edit.text) == (ending == "\r\n")
