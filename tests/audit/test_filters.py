"""The filter language: what is written is what is asked, and what cannot be read says where."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.audit import AuditReader, FilterError, parse_filter
from egress.audit.filters import KINDS, LONGEST, Term, one

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from egress.audit import AuditWriter

NOW_US = 1_790_000_600_000_000

READ = {
    "": (),
    "verdict:deny": (Term("verdict", ("deny",)),),
    "road:socks,forward": (Term("road", ("socks", "forward")),),
    "verdict:deny,ask": (Term("verdict", ("deny", "ask")),),
    "-method:GET": (Term("method", ("GET",), negated=True),),
    'rule:"our repos"': (Term("rule", ("our repos",)),),
    r'rule:"a \"b\" \\ c"': (Term("rule", (r'a "b" \ c',)),),
    "HOST:*.github.com": (Term("host", ("*.github.com",)),),
    "since:10m": (Term("since", (NOW_US - 600_000_000,)),),
    "status:>=500": (Term("status", (500,), ">="),),
    "status:200,204": (Term("status", (200, 204)),),
    "bytes:>1.5mb": (Term("bytes", (1_500_000,), ">"),),
    "took:<250ms": (Term("took", (250_000,), "<"),),
    "took:>2": (Term("took", (2_000_000,), ">"),),
    "label:team=data": (Term("label", ("team=data",)),),
    "text": (Term(None, ("text",)),),
    "a,b": (Term(None, ("a,b",)),),
    '"-method:GET"': (Term(None, ("-method:GET",)),),
    "-text": (Term(None, ("text",), negated=True),),
    "-": (Term(None, ("-",)),),
    "https://a.test/x": (Term(None, ("https://a.test/x",)),),
    "one  two\tthree": (Term(None, ("one",)), Term(None, ("two",)), Term(None, ("three",))),
}

WRONG = {
    "verdict:maybe": ("`verdict` is allow, deny or ask, not `maybe`", 0, 13),
    "x verdict:maybe y": ("`verdict` is", 2, 15),
    "hots:a": ("`hots` is no field", 0, 5),
    "host:": ("something is missing after `host:`", 0, 5),
    "host:a,": ("something is missing after `host:`", 0, 7),
    'rule:"our': ("no other end", 5, 9),
    'rule:"our"repos': ("a space is missing after the quote", 10, 11),
    "status:>=x": ("`>=x` is no number, write `status:>500`", 0, 10),
    "status:5kb": ("`5kb` is no number", 0, 10),
    "bytes:>1,>2": ("`>` takes one value", 0, 11),
    "since:yesterday": ("`yesterday` is no duration or time", 0, 15),
    "label:=x": ("write `label:key`", 0, 8),
    "took:>5days": ("`>5days` is no time, write `took:>250ms`", 0, 11),
}


@pytest.mark.parametrize("text", READ)
def test_what_is_written_is_what_is_asked(text: str) -> None:
    """Each form of the language."""
    assert parse_filter(text, NOW_US).terms == READ[text]


@pytest.mark.parametrize("text", WRONG)
def test_what_cannot_be_read_says_where(text: str) -> None:
    """The message says what to write, and the place is the term's, or closer."""
    message, start, end = WRONG[text]
    with pytest.raises(FilterError) as caught:
        parse_filter(text, NOW_US)
    assert message in str(caught.value)
    assert (caught.value.start, caught.value.end) == (start, end)


def test_a_filter_has_limits() -> None:
    """A long one, or one of many terms, is refused."""
    for text in ("x" * (LONGEST + 1), "x " * 51):
        with pytest.raises(FilterError, match="at most"):
            parse_filter(text, NOW_US)


ROWS: list[dict[str, object]] = [
    {"host": "api.github.com", "method": "GET", "path": "/user", "secrets": ("github",), "rule": "our repos"},
    {"host": "api.github.com", "method": "POST", "path": "/user", "secrets": ("github", "other"), "sandbox": "ci"},
    {"host": "evil.test", "method": "GET", "verdict": "deny", "reason": "host-not-allowed", "sandbox": "ci"},
    {"host": None, "method": None, "verdict": "deny", "reason": "request-malformed", "labels": '{"team": "data"}'},
    {"host": "big.test", "port": 8443, "path": "/[x]?", "labels": "no json"},
]
ENDS = {
    0: {"status": 200, "bytes_down": 10, "duration_us": 1_000},
    1: {"status": 503, "error": "upstream-tls: certificate has expired"},
    4: {"status": 200, "bytes_up": 1_000_000, "bytes_down": 600_000, "duration_us": 3_000_000},
}

ASKED = {
    "": [0, 1, 2, 3, 4],
    "host:api.github.com": [0, 1],
    "host:.GITHUB.com method:post": [1],
    "host:*.github.com,evil.test": [0, 1, 2],
    "-host:*github*": [2, 3, 4],
    "-method:GET": [1, 3],
    "verdict:deny": [2, 3],
    "verdict:deny -sandbox:ci": [3],
    "reason:host-*": [2],
    "reason:upstream-tls": [1],
    "secret:github": [0, 1],
    "secret:oth*": [1],
    "-secret:github": [2, 3, 4],
    'rule:"our repos"': [0],
    "status:>=500": [1],
    "status:200": [0, 4],
    "-status:200": [1, 2, 3],
    "bytes:>1mb": [4],
    "up:>0": [4],
    "took:>=3s": [4],
    "state:open": [],
    "port:8443": [4],
    "path:/user": [0, 1],
    "path:/[*": [4],
    "label:team": [3],
    "label:team=d*": [3],
    "label:team=x": [],
    "expired": [1],
    "GITHUB -POST": [0, 1],
    "user ci": [1],
    "since:1s": [],
    "until:1s": [0, 1, 2, 3, 4],
    "' OR 1=1 --": [],
}


@pytest.fixture
def reader(database: Path, start: Callable[..., AuditWriter], decision: Callable, outcome: Callable) -> AuditReader:
    """A record of a few different rows."""
    writer = start()
    for number, row in enumerate(ROWS):
        assert writer.offer(decision(number, **row))
    for number, end in ENDS.items():
        assert writer.offer(outcome(number, **end))
    assert writer.close(10)
    return AuditReader(database)


@pytest.mark.parametrize("text", ASKED)
def test_the_rows_that_a_filter_gives(reader: AuditReader, text: str) -> None:
    """Each field, alone and with others; a negated condition holds where the column is empty."""
    with reader:
        assert [int(row.id[3:]) for row in reader.newest(parse_filter(text, NOW_US))] == ASKED[text]


def test_every_field_can_be_asked(reader: AuditReader) -> None:
    """No field leads to SQL that cannot be run."""
    values = {"verdict": "deny", "state": "done", "since": "1h", "until": "1h", "label": "a=b"}
    with reader:
        for field in KINDS:
            value = values.get(field, "7")
            for sign in ("", "-"):
                assert isinstance(reader.newest(parse_filter(f"{sign}{field}:{value}", NOW_US)), list)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No other error, and the place is within the text."""
    try:
        parse_filter(text, NOW_US)
    except FilterError as error:
        assert 0 <= error.start <= error.end <= len(text)  # noqa: PT017 -- others are the failure


@given(st.sampled_from(sorted(KINDS)), st.text(min_size=1, max_size=30))
def test_a_shorthand_takes_a_value_as_it_is(field: str, value: str) -> None:
    """No character of a flag's value is taken for the language's."""
    with contextlib.suppress(FilterError):
        (term,) = one(field, value, NOW_US).terms
        assert term.field == field
        assert KINDS[field] != "pattern" or term.values == (value,)
