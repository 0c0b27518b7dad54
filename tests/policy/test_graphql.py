"""Operations of GraphQL documents: every one that a server could see is seen, or the document is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.policy.graphql import operations_of
from egress.policy.request import Operation

READ: tuple[tuple[str, tuple[tuple[str, str | None], ...]], ...] = (
    ("{ a }", (("query", None),)),
    ("query { a }", (("query", None),)),
    ("query A { a }", (("query", "A"),)),
    ("mutation B { b }", (("mutation", "B"),)),
    ("subscription C { c }", (("subscription", "C"),)),
    ("query query { query }", (("query", "query"),)),
    ("{ mutation }", (("query", None),)),
    ("{ alias: mutation { a } }", (("query", None),)),
    ('{ a(text: "mutation { b }") }', (("query", None),)),
    ('{ a(text: """mutation { b }""") }', (("query", None),)),
    ('{ a(text: """ \\""" } mutation { b } """) }', (("query", None),)),
    ('{ a(text: "") } mutation { b }', (("query", None), ("mutation", None))),
    ('{ a(text: """""") } mutation { b }', (("query", None), ("mutation", None))),
    ('{ a(text: "\\\\") } mutation { b(t: "") }', (("query", None), ("mutation", None))),
    ('{ a(text: """\\\\\\""" } # """) } mutation { b }', (("query", None), ("mutation", None))),
    ("{ a } # mutation { b }", (("query", None),)),
    ("{ a } # x\nmutation { b }", (("query", None), ("mutation", None))),
    ("{ a } # x\r\nmutation { b }", (("query", None), ("mutation", None))),
    ("query A { a } mutation B { b }", (("query", "A"), ("mutation", "B"))),
    ("query($a: [In!]! = [{x: {y: 1}}] @d(e: {f: 1})) @g { a @include(if: $a) }", (("query", None),)),
    ("fragment F on T { f } query { ...F ... on T { a } ... @d { b } ... { c } }", (("query", None),)),
    ("query A { a(n: -1.5e3, b: true, e: RED, l: [], o: {}) { b, c } }", (("query", "A"),)),
    ('{ a(t: "\\u00e9 \\u{1F600} é") }', (("query", None),)),
)
REFUSED = (
    "",
    "   # nothing",
    "fragment F on T { f }",
    "{ }",
    "{ a",
    "{ a } }",
    "{ a } mutation",
    "{ a } Mutation { b }",
    "MUTATION { a }",
    "query A B { a }",
    "query A() { a }",
    "query A { a() }",
    "query ($a) { a }",
    "fragment on on T { f } { a }",
    "type T { a: Int } { a }",
    "extend type T { a: Int }",
    "schema { query: Q } { a }",
    '"described" query { a }',
    "{ a(x: ) }",
    "{ a(x: 01) }",
    "{ a(x: 1a) }",
    "{ a(x: 1.) }",
    '{ a(t: "new\nline") }',
    '{ a(t: "\\x") }',
    '{ a(t: "open) }',
    '{ a(t: """open) }',
    "{ a } # ends\rmutation { b }",
    "{ a } # ends\u2028mutation { b }",
    "\ufeff{ a }",
    "{ a\0 }",
    "{ é }",
    "{ a ? }",
    "{ ..a }",
    "{ ...on }",
    "{" * 65 + "a" + "}" * 65,
    "{ " + "a " * 10_001 + "}",
)


@pytest.mark.parametrize(("document", "expected"), READ, ids=[row[0] for row in READ])
def test_operations_are_found(document: str, expected: tuple[tuple[str, str | None], ...]) -> None:
    """Their kinds and names in order, whatever strings, comments, aliases and fragments say."""
    assert operations_of(document) == tuple(Operation(kind, name) for kind, name in expected)


@pytest.mark.parametrize("document", REFUSED)
def test_what_is_no_executable_document_is_refused(document: str) -> None:
    """To the last token: a lenient server could see more in it than we do."""
    assert operations_of(document) is None


NAMES = st.sampled_from(["a", "b", "query", "mutation", "on", "fragment", "type", "true"])
VALUES = st.recursive(
    st.sampled_from(["1", "-0.5", '"mutation { x }"', '"""} mutation { x } \\""" """', "RED", "$v", '""', '""""""']),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda some: "[" + " ".join(some) + "]")
        | st.lists(st.tuples(NAMES, inner), max_size=3).map(
            lambda some: "{" + ", ".join(f"{name}: {value}" for name, value in some) + "}"
        )
    ),
    max_leaves=5,
)
ARGUMENTS = st.lists(st.tuples(NAMES, VALUES), max_size=2).map(
    lambda some: f"({', '.join(f'{name}: {value}' for name, value in some)})" if some else ""
)
DIRECTIVES = st.lists(st.tuples(NAMES, ARGUMENTS), max_size=1).map(
    lambda some: "".join(f" @{name}{arguments}" for name, arguments in some)
)
SELECTIONS = st.recursive(
    st.tuples(NAMES, ARGUMENTS, DIRECTIVES).map("".join),
    lambda inner: st.tuples(
        st.sampled_from(["a", "x: mutation", "...", "... on T", "# } mutation { x }\n a"]),
        st.lists(inner, min_size=1, max_size=3),
    ).map(lambda both: f"{both[0]} {{ {' '.join(both[1])} }}"),
    max_leaves=8,
)
KINDS = st.sampled_from(["query", "mutation", "subscription"])


@given(st.lists(st.tuples(KINDS, NAMES | st.none(), DIRECTIVES, SELECTIONS), min_size=1, max_size=4))
def test_every_operation_of_a_document_is_seen(parts: list[tuple[str, str | None, str, str]]) -> None:
    """Written by the grammar, read back: the same kinds and names, in order."""
    text = "\n".join(f"{kind} {name or ''}{directives} {{ {inner} }}" for kind, name, directives, inner in parts)
    assert operations_of(text) == tuple(Operation(kind, name) for kind, name, _, _ in parts)


@given(st.text(alphabet=st.sampled_from('{}()[]"\\#\n\r\u2028 ,:.$@!=|&azquerymtion01-"""')))
def test_any_text_gives_an_answer(text: str) -> None:
    """No exception, whatever comes."""
    found = operations_of(text)
    assert found is None or found


@pytest.mark.parametrize("text", ['"' * 300_000, '{a(t:"' + '\\"' * 150_000, "#" * 300_000, "{a(x:" + "[" * 300_000])
def test_the_worst_texts_are_read_as_fast_as_others(text: str) -> None:
    """Reading is linear: otherwise this would not end."""
    assert operations_of(text) is None
