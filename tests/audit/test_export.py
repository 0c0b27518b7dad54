"""Exports: what HAR 1.2 requires of every entry, CSV that no spreadsheet runs, and pages that miss nothing."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.audit import AuditReader, AuditRow, parse_filter
from egress.audit.export import WRITERS, csv_table, har_log, json_lines
from egress.audit.json_row import COLUMNS
from egress.audit.pages import pages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from egress.audit import AuditWriter

ROW = AuditRow(
    *(7, "id-000007", 1_790_000_000_123_456, "done", "ci", "10.0.0.5:40000", "allow", "rule-allow"),
    *("team", "model API", "/etc/egress/policy.yaml", 7, "9f86", "GET", "https", "api.example.com", 443),
    *("/v1/items", "a=***&b", "api.example.com", "https", "http", "203.0.113.7", 200, 10, 2000, 81_999, 40_999),
    *(("github",), '{"team": "data"}', None, None, None),
)
DENIED = replace(
    ROW, verdict="deny", reason="host-not-allowed", status=None, address=None, duration_us=None, first_byte_us=None
)
TUNNEL = replace(ROW, method="CONNECT", scheme=None, path=None, query=None, status=None)
HOSTILE = "\x1b[31m`<b>|\u202e\ud800é\\"

# HAR 1.2, "List of objects": the fields of each that are not said to be optional.
REQUIRED: dict[str, dict[str, type | tuple[type, ...]]] = {
    "log": {"version": str, "creator": dict, "entries": list},
    "creator": {"name": str, "version": str},
    "entry": {
        "startedDateTime": str,
        "time": (int, float),
        "request": dict,
        "response": dict,
        "cache": dict,
        "timings": dict,
    },
    "request": {
        "method": str,
        "url": str,
        "httpVersion": str,
        "cookies": list,
        "headers": list,
        "queryString": list,
        "headersSize": int,
        "bodySize": int,
    },
    "response": {
        "status": int,
        "statusText": str,
        "httpVersion": str,
        "cookies": list,
        "headers": list,
        "content": dict,
        "redirectURL": str,
        "headersSize": int,
        "bodySize": int,
    },
    "content": {"size": int, "mimeType": str},
    "timings": {"send": (int, float), "wait": (int, float), "receive": (int, float)},
    "pair": {"name": str, "value": str},
}
# Those of its optional fields that we have; others of ours begin with `_`, as it asks for.
OPTIONAL = {"entry": {"comment", "serverIPAddress"}}


def problems(kind: str, value: dict[str, Any]) -> list[str]:
    """What HAR 1.2 has against the object."""
    required = REQUIRED[kind]
    found = [f"{kind}.{name}" for name, type_ in required.items() if not isinstance(value.get(name), type_)]
    known = {*required, *OPTIONAL.get(kind, ())}
    return found + [f"{kind}.{name}" for name in value if name not in known and not name.startswith("_")]


def check(log: dict[str, Any]) -> list[str]:
    """What HAR 1.2 has against the whole log."""
    found = problems("log", log) + problems("creator", log["creator"])
    for entry in log["entries"]:
        request, response = entry["request"], entry["response"]
        found += problems("entry", entry) + problems("request", request) + problems("response", response)
        found += problems("content", response["content"]) + problems("timings", entry["timings"])
        found += [problem for pair in request["queryString"] for problem in problems("pair", pair)]
        # "The time value for the request must be equal to the sum of the timings supplied in this section".
        if abs(entry["time"] - sum(entry["timings"].values())) > 0.01:
            found.append("entry.time")
    return found


def har(*rows: AuditRow) -> dict[str, Any]:
    """Give the log of these rows as a browser reads it."""
    log: dict[str, Any] = json.loads("".join(har_log(rows)))["log"]
    return log


def test_a_har_log_has_no_dns_questions() -> None:
    """They are no requests of a browser's; and no comma is left of them."""
    question = replace(ROW, protocol="dns", method="A", path=None)
    log = har(question, ROW, question, TUNNEL, question)
    assert check(log) == []
    assert [entry["_egress"]["protocol"] for entry in log["entries"]] == [ROW.protocol, TUNNEL.protocol]


@pytest.mark.parametrize("rows", [(), (ROW,), (ROW, DENIED, TUNNEL), (replace(ROW, host=None, sni=None),)])
def test_a_har_log_has_all_that_the_format_requires(rows: tuple[AuditRow, ...]) -> None:
    """An empty one too."""
    log = har(*rows)
    assert check(log) == []
    assert len(log["entries"]) == len(rows)


@given(text=st.text(max_size=50))
def test_whatever_a_client_sends_has_a_url_that_can_be_read(text: str) -> None:
    """A browser refuses a log with one URL that it cannot read."""
    log = har(*(replace(ROW, **{name: text}) for name in ("host", "path", "query", "method", "error", "labels")))
    assert check(log) == []
    for entry in log["entries"]:
        url = urlsplit(entry["request"]["url"])
        assert url.scheme == "https"
        assert url.hostname
        assert entry["request"]["url"].isascii()


@pytest.mark.parametrize(
    ("changed", "url"),
    [
        ({}, "https://api.example.com/v1/items?a=***&b"),
        ({"port": 8443, "query": None}, "https://api.example.com:8443/v1/items"),
        ({"scheme": "http", "port": 80, "query": None, "path": "*"}, "http://api.example.com/*"),
        ({"host": "2001:db8::1", "query": None}, "https://[2001:db8::1]/v1/items"),
        ({"path": "@evil.test/", "query": None}, "https://api.example.com/@evil.test/"),
        ({"host": "a@b c", "path": "/\\x1b", "query": None}, "https://a_b_c/%5Cx1b"),
    ],
)
def test_a_url_is_that_of_the_request(changed: dict[str, Any], url: str) -> None:
    """Without the port that the scheme implies; nothing that a client wrote moves from the path into the host."""
    (entry,) = har(replace(ROW, **changed))["entries"]
    assert entry["request"]["url"] == url


def test_a_denied_request_is_a_403_that_says_why() -> None:
    """The column that a reader looks at first, and the comment."""
    (entry,) = har(DENIED)["entries"]
    assert entry["response"]["status"] == 403
    assert entry["comment"] == "deny: host-not-allowed"
    assert "serverIPAddress" not in entry


def test_a_tunnel_is_a_connect() -> None:
    """What is inside is not known."""
    (entry,) = har(TUNNEL)["entries"]
    assert (entry["request"]["method"], entry["request"]["url"]) == ("CONNECT", "https://api.example.com/")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "\uff1d"])
def test_no_cell_is_a_formula(start: str) -> None:
    """The path is the client's: `=HYPERLINK(...)` must stay text in a reviewer's spreadsheet."""
    text = f"{start}cmd|' /C calc'!A0"
    names, values = csv.reader(io.StringIO("".join(csv_table([replace(ROW, path=text, rule=text)]))))
    cells = dict(zip(names, values, strict=True))
    assert cells["path"] == cells["rule"]
    assert cells["path"][0] in "'\\"
    assert cells["path"].endswith("A0")


def test_csv_has_the_columns_of_the_view_and_nothing_hostile() -> None:
    """A row is one line, whatever is in it; numbers stay numbers, and nothing stays empty."""
    text = "".join(csv_table([replace(ROW, path=f'"{HOSTILE},\n')]))
    assert text.count("\r\n") == 2
    assert "\x1b" not in text
    names, values = csv.reader(io.StringIO(text))
    assert names == ["time", *COLUMNS]
    cells = dict(zip(names, values, strict=True))
    assert (cells["port"], cells["detail"], cells["secrets"]) == ("443", "", '["github"]')


def test_json_lines_are_ascii_with_a_row_each() -> None:
    """The same object as `egress audit --json`."""
    (line,) = json_lines([replace(ROW, path=HOSTILE)])
    assert line.isascii()
    assert line.count("\n") == 1
    assert json.loads(line)["labels"] == {"team": "data"}


@pytest.mark.parametrize("name", WRITERS)
def test_no_format_holds_more_than_a_row(name: str) -> None:
    """The first text comes before the second row is asked for, so memory does not depend on the record's size."""
    given: list[int] = []

    def rows() -> Any:
        for number in range(3):
            given.append(number)
            yield ROW

    pieces = WRITERS[name](rows())
    next(pieces)
    assert len(given) <= 1


def _record(start: Callable[..., AuditWriter], decision: Callable[..., Any], count: int) -> None:
    writer = start()
    for number in range(count):
        assert writer.offer(decision(number, host="rare.test" if number % 10 == 0 else "api.example.com"))
    assert writer.close(10)


@pytest.mark.parametrize(("rows", "looked_at"), [(1, 1), (3, 100), (7, 2), (100, 100), (5, 10)])
def test_pages_give_every_row_once_and_in_order(
    start: Callable[..., AuditWriter], decision: Callable[..., Any], database: Path, rows: int, looked_at: int
) -> None:
    """Whatever the sizes of the pages; none has more than it may, and the last says that all is done."""
    _record(start, decision, 25)
    with AuditReader(database) as reader:
        for text, expected in (("", list(range(25))), ("host:rare.test", [0, 10, 20]), ("host:none.test", [])):
            found = list(pages(reader, parse_filter(text, 0), rows=rows, looked_at=looked_at))
            assert [int(row.id[3:]) for page in found for row in page.rows] == expected
            assert all(len(page.rows) <= rows for page in found)
            assert (found[-1].done, found[-1].total) == (25, 25)


def test_an_empty_record_has_no_pages(start: Callable[..., AuditWriter], database: Path) -> None:
    """And is no error."""
    start().close(5)
    with AuditReader(database) as reader:
        assert list(pages(reader)) == []


def test_pages_begin_where_the_filter_does(
    start: Callable[..., AuditWriter], decision: Callable[..., Any], database: Path
) -> None:
    """`since` is found by bisection; what is before it is not read."""
    hour = 3_600_000_000
    writer = start()
    for number in range(10):
        assert writer.offer(decision(number, time_us=number * hour))
    assert writer.close(10)
    with AuditReader(database) as reader:
        (page,) = pages(reader, parse_filter("since:2h", 9 * hour + 1))
        assert [row.id for row in page.rows] == ["id-000008", "id-000009"]
        assert page.total < 10
