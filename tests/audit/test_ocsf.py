"""Every event of the OCSF export meets the published schema: `ocsf/schema-1.6.0.json`, made by `ocsf/digest.py`."""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.audit import AuditRow
from egress.audit.export import ocsf_events
from egress.audit.export.ocsf import ocsf_event
from egress.gate.resolver import NO_ADDRESS, NO_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA: dict[str, Any] = json.loads((Path(__file__).parent / "ocsf" / "schema-1.6.0.json").read_text())
CLASSES = {4000 + found["uid"]: found for found in SCHEMA["classes"].values()}
PLAIN = {"integer_t": int, "long_t": int, "string_t": str, "boolean_t": bool, "float_t": float}
HOSTILE = "\x1b[31m`<b>|\u202e\ud800é"
ROW = AuditRow(
    seq=7,
    id="id-000007",
    time_us=1_790_000_000_123_456,
    state="done",
    sandbox="ci",
    client="10.0.0.5:40000",
    verdict="allow",
    reason="rule-allow",
    scope="team",
    rule="model API",
    file="/etc/egress/policy.yaml",
    line=7,
    policy_hash="9f86d081884c7d65",
    method="GET",
    scheme="https",
    host="api.example.com",
    port=443,
    path="/v1/items",
    query="a=***",
    sni="api.example.com",
    protocol="https",
    lane="http",
    address="203.0.113.7",
    status=200,
    bytes_up=10,
    bytes_down=2000,
    duration_us=81_999,
    first_byte_us=40_999,
    secrets=("github",),
    labels='{"team": "data"}',
    detail=None,
    error=None,
    rewritten=None,
)
NOTHING = replace(
    ROW,
    **dict.fromkeys(
        ("scope", "rule", "file", "line", "policy_hash", "method", "scheme", "host", "port", "path", "query", "sni"),
    ),
    **dict.fromkeys(("protocol", "lane", "address", "status", "bytes_up", "bytes_down", "duration_us", "labels")),
    **dict.fromkeys(("first_byte_us",)),
    secrets=(),
)


def problems(event: dict[str, Any]) -> list[str]:
    """What the schema has against the event."""
    if event.get("class_uid") not in CLASSES:
        return ["no such class"]
    kind = CLASSES[event["class_uid"]]
    known = dict(kind["attributes"])
    for profile in event.get("metadata", {}).get("profiles", ()):
        known |= SCHEMA["profiles"][profile]
    found = [*of_object(event, known, kind["constraints"], "event")]
    if event["category_uid"] != event["class_uid"] // 1000:
        found.append("another category than the class")
    if event["type_uid"] != event["class_uid"] * 100 + event["activity_id"]:
        found.append("another type than class and activity make")
    return found


def of_object(values: dict[str, Any], known: dict[str, Any], constraints: dict[str, Any], place: str) -> Iterator[str]:
    """Attributes that are not known, missing, or of another type; constraints that are not met."""
    for name, value in values.items():
        if name not in known:
            yield f"{place}.{name} is not in the schema"
        elif known[name].get("array"):
            if not isinstance(value, list) or not value:
                yield f"{place}.{name} is no list of something"
            else:
                for item in value:
                    yield from of_value(item, known[name], f"{place}.{name}")
        else:
            yield from of_value(value, known[name], f"{place}.{name}")
    for name, stated in known.items():
        if stated["requirement"] == "required" and name not in values:
            yield f"{place}.{name} is missing"
    one_of = constraints.get("at_least_one", ())
    if one_of and not set(one_of) & set(values):
        yield f"{place} has none of {one_of}"


def of_value(value: Any, stated: dict[str, Any], place: str) -> Iterator[str]:
    """One value against its type and its enumeration."""
    kind = stated["type"]
    # The schema's own texts say that these two are narrowed by the class: see `problems`.
    closed = place not in {"event.class_uid", "event.category_uid"}
    if closed and "enum" in stated and str(value) not in stated["enum"]:
        yield f"{place}: {value!r} is no value of the enumeration"
    if kind in SCHEMA["objects"]:
        if isinstance(value, dict):
            yield from of_object(
                value, SCHEMA["objects"][kind]["attributes"], SCHEMA["objects"][kind]["constraints"], place
            )
        else:
            yield f"{place} is no object"
    elif kind == "object":
        if not isinstance(value, dict):
            yield f"{place} is no object"
    else:
        yield from of_scalar(value, kind, place)


def of_scalar(value: Any, kind: str, place: str) -> Iterator[str]:
    """A number or text with the bounds of its type."""
    if kind not in SCHEMA["types"]:
        yield f"{place} has the type {kind}, which the digest lacks"
        return
    stated = SCHEMA["types"][kind]
    plain = PLAIN[stated.get("type", kind)]
    if type(value) is not plain:
        yield f"{place}: {value!r} is no {kind}"
        return
    if "regex" in stated and not re.search(stated["regex"], value):
        yield f"{place}: {value!r} does not fit {kind}"
    if "max_len" in stated and len(value) > stated["max_len"]:
        yield f"{place} is too long"
    if "range" in stated and not stated["range"][0] <= value <= stated["range"][1]:
        yield f"{place}: {value!r} is out of range"


QUESTION = replace(
    ROW,
    **dict.fromkeys(("scheme", "path", "query", "sni", "status", "lane")),
    protocol="dns",
    method="A",
    port=53,
    bytes_up=0,
    bytes_down=0,
    address="198.18.0.1",
)
ROWS = {
    "a DNS question": (QUESTION, 400_306, (1, 1)),
    "a DNS question that was denied": (replace(QUESTION, verdict="deny", address=None), 400_306, (2, 2)),
    "a DNS question of another type": (replace(QUESTION, method="TYPE65280", address=None), 400_306, (1, 1)),
    "a hostile DNS question": (replace(QUESTION, method=HOSTILE, host=HOSTILE, address=HOSTILE), 400_306, (1, 1)),
    "a DNS message that cannot be read": (replace(QUESTION, method=None, host=None, verdict="deny"), 400_306, (2, 2)),
    "a request": (ROW, 400_203, (1, 1)),
    "a request that was denied": (replace(ROW, verdict="deny", status=403), 400_203, (2, 2)),
    "a request that waits for a person": (replace(ROW, verdict="ask", reason="approval-required"), 400_203, (2, 2)),
    "one that only would have been denied": (replace(ROW, reason="would-deny"), 400_203, (3, 17)),
    "a request under way": (replace(ROW, state="open", status=None, duration_us=None), 400_203, (1, 1)),
    "a method of its own": (replace(ROW, method="PROPFIND"), 400_299, (1, 1)),
    "a hostile request": (
        replace(ROW, method=HOSTILE, host=HOSTILE, path=HOSTILE, client=HOSTILE, labels=HOSTILE, address=HOSTILE),
        400_299,
        (1, 1),
    ),
    "a tunnel": (replace(ROW, method="CONNECT", path=None, query=None, status=None, lane="tunnel"), 400_102, (1, 1)),
    "a tunnel that is open": (replace(ROW, method="CONNECT", path=None, state="open", lane="tunnel"), 400_101, (1, 1)),
    "a tunnel that broke": (replace(ROW, method=None, path=None, error="limit-bytes"), 400_104, (1, 1)),
    "a tunnel that was denied": (replace(ROW, method="CONNECT", path=None, verdict="deny"), 400_105, (2, 2)),
    "a client on a unix socket": (replace(ROW, client="unix:uid=1001"), 400_203, (1, 1)),
    "IPv6": (replace(ROW, client="[2001:db8::1]:4", host="2001:db8::2", address="::ffff:192.0.2.1"), 400_203, (1, 1)),
    "a port that is none": (replace(ROW, port=70_000), 400_203, (1, 1)),
    "hardly anything": (NOTHING, 400_102, (1, 1)),
}


@pytest.mark.parametrize(("row", "kind", "decided"), ROWS.values(), ids=ROWS)
def test_every_row_gives_an_event_that_the_schema_takes(row: AuditRow, kind: int, decided: tuple[int, int]) -> None:
    """Nothing missing, nothing of our own outside of `unmapped`, and the decision where a reader looks for it."""
    event = ocsf_event(row)
    assert problems(event) == []
    assert event["type_uid"] == kind
    assert (event["action_id"], event["disposition_id"]) == decided


TEXT = st.none() | st.text(max_size=30)
NUMBER = st.none() | st.integers(0, 2**63 - 1)


@given(
    method=st.sampled_from(["GET", "CONNECT", "X", None]),
    protocol=st.sampled_from(["dns", "https", None]),
    path=TEXT,
    host=TEXT | st.ip_addresses().map(str),
    client=st.text(max_size=30) | st.ip_addresses().map(lambda address: f"{address}:1"),
    port=NUMBER,
    rule=TEXT,
    labels=TEXT,
    address=TEXT | st.ip_addresses().map(str),
    status=NUMBER,
    bytes_up=NUMBER,
    verdict=st.sampled_from(["allow", "deny", "ask"]),
    error=TEXT,
)
def test_whatever_a_client_sends_gives_an_event_that_the_schema_takes(**changed: Any) -> None:
    """A lake that refuses one event refuses the batch that it is in."""
    assert problems(ocsf_event(replace(ROW, **changed))) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"verdict": "deny"}, "event.verdict is not in the schema"),
        ({"metadata": {"version": "1.6.0"}}, "event.metadata.product is missing"),
        ({"metadata": {"version": "1.6.0", "product": {"name": "Egress"}}}, "event.action_id is not in the schema"),
        ({"action_id": 5}, "event.action_id: 5 is no value of the enumeration"),
        ({"time": "now"}, "event.time: 'now' is no timestamp_t"),
        ({"dst_endpoint": {"port": 70_000, "name": "x"}}, "event.dst_endpoint.port: 70000 is out of range"),
        ({"dst_endpoint": {"port": 7}}, "event.dst_endpoint has none of"),
        ({"type_uid": 400_201}, "another type than class and activity make"),
    ],
)
def test_the_validator_finds_what_is_wrong(change: dict[str, Any], problem: str) -> None:
    """A validator that takes anything proves nothing."""
    assert any(found.startswith(problem) for found in problems(ocsf_event(ROW) | change))


@pytest.mark.parametrize(
    ("changed", "code", "answers"),
    [
        ({}, 0, [{"rdata": "198.18.0.1", "type": "A"}]),
        ({"method": "PTR"}, 0, None),
        ({"address": None, "error": f"name-not-resolved: {NO_NAME}"}, 3, None),
        ({"address": None, "error": f"name-not-resolved: {NO_ADDRESS}"}, 0, None),
        ({"address": None, "error": "name-not-resolved: no server answered"}, 2, None),
        ({"address": None, "verdict": "deny"}, None, None),
    ],
)
def test_a_dns_question_is_told_with_what_came_of_it(changed: dict[str, Any], code: int | None, answers: Any) -> None:
    """Its name and type; the response code where the row tells it; and never a destination that it went to over TCP."""
    event = ocsf_event(replace(QUESTION, **changed))
    assert event["query"] == {"hostname": "api.example.com", "type": changed.get("method", "A")}
    assert (event.get("rcode_id"), event.get("answers")) == (code, answers)
    assert event["connection_info"] == {"direction_id": 2}
    assert "dst_endpoint" not in event


def test_a_method_that_the_schema_lacks_is_told_by_its_name() -> None:
    """As activity `Other`; those that it has need no name of ours."""
    event = ocsf_event(replace(ROW, method="PROPFIND"))
    assert (event["activity_id"], event["activity_name"], event["unmapped"]["method"]) == (99, "PROPFIND", "PROPFIND")
    assert "activity_name" not in ocsf_event(ROW)


def test_a_row_is_one_line_of_ascii() -> None:
    """A path cannot begin an event of its own."""
    (line,) = ocsf_events([replace(ROW, path='/\n{"class_uid": 1}\u2028')])
    assert line.isascii()
    assert line.count("\n") == 1


def test_addresses_are_those_of_both_ends() -> None:
    """The sandbox is the source, by its name too; the address that was dialled is the destination's."""
    event = ocsf_event(ROW)
    assert event["src_endpoint"] == {"name": "ci", "ip": "10.0.0.5", "port": 40000}
    assert event["dst_endpoint"] == {"hostname": "api.example.com", "ip": "203.0.113.7", "port": 443}
    assert ipaddress.ip_address(event["dst_endpoint"]["ip"])


def test_what_the_schema_has_no_place_for_is_kept_unmapped() -> None:
    """Names of secrets, the lane, where it was rewritten to: a reviewer needs them."""
    event = ocsf_event(replace(ROW, rewritten="https://gateway.example/v1"))
    assert event["unmapped"]["secrets"] == ["github"]
    assert event["unmapped"]["rewritten"] == "https://gateway.example/v1"
