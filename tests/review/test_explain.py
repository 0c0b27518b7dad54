"""Explanations say what the proxy would do, and what they cannot read is denied."""

# ruff: noqa: E501  a row of a table is one line

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.config import LoadedPolicy, PolicySource, load_policy, parse_pin
from egress.config.pins import Pin
from egress.policy import Lane, Protocol, Reason, Refusal, Scope, Verdict
from egress.review import MAX_LINE_BYTES, Question, explain, lane_text, read_lines, read_question

if TYPE_CHECKING:
    from pathlib import Path

POLICY = """\
version: 1
secrets:
  key: {env: KEY, hosts: [api.example.com]}
  other: {env: OTHER, hosts: [api.example.net]}
rules:
  - deny: 169.254.169.254
  - name: model API
    allow: api.example.com
    methods: [POST]
    paths: [/v1/*]
    inject: {x-api-key: "Bearer ${key}"}
    remove: [Cookie]
  - allow: [api.example.net, api.example.org]
    inject: {x-api-key: "${other}"}
  - name: passed unopened
    allow: tunnel.example.com
    tls: tunnel
  - name: database
    allow: db.corp.example:5432
    protocol: tcp
    addresses: [10.20.0.0/16]
  - ask: packages.example.com
  - allow: intranet.corp.example
    addresses: [10.0.0.0/8]
  - allow: 8.8.8.8
  - name: streams
    allow: grpc.example.com
    http2: true
  - name: closed, but for what is read
    allow: auto.example.com
    tls: auto
  - name: looked up, and no more
    allow: lookup.example.com
    protocol: dns
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedPolicy:
    """The policy above."""
    path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    path.write_text(POLICY)
    return load_policy([PolicySource(Scope.SANDBOX, path)])


ANSWERS = [
    # question, verdict, reason, line of the rule
    ({"url": "https://api.example.com/v1/messages", "method": "POST"}, "allow", "rule-allow", 7),
    ({"url": "https://api.example.com/v1/messages"}, "deny", "method-not-allowed", 7),
    ({"url": "https://api.example.com/v2", "method": "POST"}, "deny", "path-not-allowed", 7),
    ({"url": "https://api.example.com/v1/..%2fadmin", "method": "POST"}, "deny", "path-ambiguous", 7),
    ({"url": "http://api.example.com/v1/messages", "method": "POST"}, "deny", "credential-insecure", 7),
    ({"url": "https://api.example.net/"}, "allow", "rule-allow", 13),
    ({"url": "https://api.example.org/"}, "allow", "rule-allow", 13),
    ({"url": "https://evil.test/"}, "deny", "host-not-allowed", None),
    ({"url": "https://api.example.net:8443/"}, "deny", "port-not-allowed", 13),
    ({"url": "https://tunnel.example.com/any", "method": "DELETE"}, "allow", "rule-allow", 15),
    ({"url": "tcp://db.corp.example:5432", "address": "10.20.0.1"}, "allow", "rule-allow", 18),
    ({"url": "db.corp.example:5432", "address": "10.20.0.1"}, "allow", "rule-allow", 18),
    ({"url": "tcp://db.corp.example:5432", "address": "10.21.0.1"}, "deny", "address-not-public", 18),
    ({"url": "tcp://tunnel.example.com:443"}, "deny", "protocol-not-allowed", 15),
    ({"url": "dns://lookup.example.com"}, "allow", "rule-allow", 32),
    ({"url": "https://lookup.example.com/"}, "deny", "protocol-not-allowed", 32),
    ({"url": "dns://api.example.org"}, "deny", "protocol-not-allowed", 13),
    ({"url": "dns://evil.test"}, "deny", "host-not-allowed", None),
    ({"url": "dns://packages.example.com"}, "ask", "approval-required", 22),
    ({"url": "https://packages.example.com/"}, "ask", "approval-required", 22),
    ({"url": "https://intranet.corp.example/", "address": ["10.1.1.1", "127.0.0.1"]}, "allow", "rule-allow", 23),
    ({"url": "https://intranet.corp.example/", "address": "169.254.169.254"}, "deny", "address-denied", 6),
    ({"url": "https://intranet.corp.example/", "address": "127.0.0.1"}, "deny", "address-not-public", 23),
    ({"url": "https://8.8.8.8/", "address": "127.0.0.1"}, "allow", "rule-allow", 25),
    ({"url": "http://169.254.169.254/latest"}, "deny", "rule-deny", 6),
    ({"url": "https://[::ffff:169.254.169.254]/"}, "deny", "rule-deny", 6),
    ({"url": "https://api.example.net/", "headers": {"Host": "api.example.net"}}, "allow", "rule-allow", 13),
    ({"url": "https://api.example.net/", "headers": {"host": "evil.test"}}, "deny", "name-mismatch", None),
    ({"url": "https://api.example.net/", "headers": {"host": "a@b"}}, "deny", "host-invalid", None),
    ({"url": "https://api.example.net/", "headers": {"Host": ["a", "a"]}}, "deny", "request-malformed", None),
    ({"url": "https://api.example.net/", "headers": [["X", "a\r\nb: c"]]}, "deny", "request-malformed", None),
    ({"url": "https://api.example.net/", "headers": [["X y", "a"]]}, "deny", "request-malformed", None),
    ({"url": "https://api.example.net/", "headers": {f"x{n}": "" for n in range(101)}}, "deny", "limit-head", None),
    ({"url": "https://api.example.net/", "method": "G ET"}, "deny", "method-invalid", None),
    ({"url": "https://api.example.net/", "method": ""}, "deny", "method-invalid", None),
    ({"url": "https://api.example.net/", "method": 7}, "deny", "request-malformed", None),
    ({"url": "https://api.example.net/", "address": "x"}, "deny", "request-malformed", None),
    ({"url": "https://api.example.net/", "address": 7}, "deny", "request-malformed", None),
    ({"url": "https://127.1/"}, "deny", "host-invalid", None),
    ({"url": "https://api.example.net:0/"}, "deny", "port-invalid", None),
    ({"url": 7}, "deny", "request-malformed", None),
    ({"method": "GET"}, "deny", "request-malformed", None),
]


@pytest.mark.parametrize(("asked", "verdict", "reason", "line"), ANSWERS)
def test_answer_is_the_proxys(
    asked: dict[str, object], verdict: str, reason: str, line: int | None, loaded: LoadedPolicy
) -> None:
    """Verdict, reason and rule of each question."""
    answer = explain(read_question(json.dumps(asked).encode()), loaded).as_json()
    rule = answer["rule"]
    assert (answer["verdict"], answer["reason"]) == (verdict, reason)
    assert (rule["line"] if isinstance(rule, dict) else None) == line


LANES = [
    ({"url": "https://api.example.net/"}, "http"),
    ({"url": "wss://api.example.net/"}, "http"),
    ({"url": "http://api.example.org/", "headers": {"X": "y"}}, "http"),
    ({"url": "http://intranet.corp.example/"}, "http"),
    ({"url": "https://grpc.example.com/"}, "mitm"),
    ({"url": "grpc.example.com:443"}, "mitm"),
    ({"url": "wss://grpc.example.com/"}, "http"),
    ({"url": "http://grpc.example.com/"}, "http"),
    ({"url": "https://tunnel.example.com/"}, "tunnel"),
    ({"url": "wss://tunnel.example.com/"}, "tunnel"),
    ({"url": "https://auto.example.com/"}, "tunnel"),
    ({"url": "tcp://db.corp.example:5432"}, "tunnel"),
    ({"url": "db.corp.example:5432"}, "tunnel"),
    # refused by the lane that reads the request
    ({"url": "https://api.example.com/v2", "method": "POST"}, "http"),
    ({"url": "http://evil.test/"}, "http"),
    ({"url": "http://api.example.com/v1/messages", "method": "POST"}, "http"),
    ({"url": "https://api.example.net/", "headers": {"host": "evil.test"}}, "http"),
    ({"url": "https://grpc.example.com/", "method": "G ET"}, "mitm"),
    ({"url": "https://intranet.corp.example/", "address": "127.0.0.1"}, "http"),
    ({"url": "tcp://db.corp.example:5432", "address": "127.0.0.1"}, "tunnel"),
    # refused before there is one
    ({"url": "https://evil.test/"}, None),
    ({"url": "evil.test:80"}, None),
    ({"url": "https://packages.example.com/"}, None),
    ({"url": "tcp://tunnel.example.com:443"}, None),
    ({"url": "dns://lookup.example.com"}, None),
    ({"url": "https://tunnel.example.com/", "address": "127.0.0.1"}, None),
    ({"url": "https://tunnel.example.com/", "headers": {"host": "evil.test"}}, None),
    ({"url": "https://127.1/"}, None),
    ({"method": "GET"}, None),
]


@pytest.mark.parametrize(("name", "told"), [("lookup.example.com", 0), ("api.example.org", 1), ("evil.test", 0)])
def test_a_dns_question_is_told_with_what_is_answered_all_the_same(name: str, told: int, loaded: LoadedPolicy) -> None:
    """Addresses of a host that could be connected to need no rule for questions."""
    answer = explain(read_question(json.dumps({"url": f"dns://{name}"}).encode()), loaded)
    assert len([note for note in answer.notes if note.startswith("addresses (A, AAAA) are answered")]) == told


@pytest.mark.parametrize(("asked", "lane"), LANES)
def test_the_lane_is_that_of_a_common_client(asked: dict[str, object], lane: str | None, loaded: LoadedPolicy) -> None:
    """One that offers HTTP/2 and HTTP/1.1; a WebSocket client offers HTTP/1.1 alone."""
    answer = explain(read_question(json.dumps(asked).encode()), loaded).as_json()
    assert answer["lane"] == lane


def test_every_lane_has_words_for_people() -> None:
    """Each says what the lane does, and `http` what becomes of clients that it cannot serve."""
    texts = {(lane, protocol): lane_text(lane, protocol) for lane in Lane for protocol in Protocol}
    assert all(texts.values())
    assert "HTTP/2 alone" in texts[Lane.HTTP, Protocol.HTTPS]
    assert "HTTP/2" not in texts[Lane.HTTP, Protocol.HTTP]


def test_answer_has_the_promised_keys(loaded: LoadedPolicy) -> None:
    """`verdict`, `reason`, `rule` (name, scope, file, line), `host`, `port`, and what would be done."""
    answer = explain(Question("https://api.example.com/v1/x", "POST"), loaded).as_json()
    assert list(answer)[:7] == ["verdict", "reason", "rule", "host", "port", "detail", "lane"]
    rule = answer["rule"]
    assert isinstance(rule, dict)
    assert (rule["name"], rule["scope"], rule["line"]) == ("model API", "sandbox", 7)
    assert str(rule["file"]).endswith("policy.yaml")
    assert (answer["host"], answer["port"], answer["tls"]) == ("api.example.com", 443, "inspect")
    assert answer["scopes"] == [
        {"scope": "sandbox", "verdict": "allow", "reason": "rule-allow", "rule": rule},
    ]
    assert answer["headers"] == {"set": [{"name": "x-api-key", "secrets": ["key"]}], "remove": ["Cookie"]}


def test_refusal_has_the_same_keys(loaded: LoadedPolicy) -> None:
    """A line that cannot be read is answered in the same form."""
    answer = explain(read_question(b"{"), loaded).as_json()
    assert [answer[key] for key in ("verdict", "rule", "host", "port", "lane")] == ["deny", None, None, None, None]


def test_denied_answer_tells_no_headers(loaded: LoadedPolicy) -> None:
    """INVARIANT secret-confinement: nothing is injected into what is refused, and none is named."""
    assert "headers" not in explain(Question("http://api.example.com/v1/x", method="POST"), loaded).as_json()


def test_unbound_secret_is_told_as_withheld(loaded: LoadedPolicy) -> None:
    """INVARIANT secret-confinement: a host that the secret is not bound to gets neither it nor the client's header."""
    answer = explain(Question("https://api.example.org/"), loaded).as_json()
    assert answer["headers"] == {"set": [], "remove": ["x-api-key"]}
    assert any("not bound to this host" in note for note in answer["notes"])  # type: ignore[union-attr]


def test_dropped_addresses_are_told(loaded: LoadedPolicy) -> None:
    """Of several addresses those that fail are dropped, each with its reason."""
    asked = {"url": "https://intranet.corp.example/", "address": ["10.1.1.1", "127.0.0.1"]}
    answer = explain(read_question(json.dumps(asked).encode()), loaded)
    assert answer.addresses is not None
    assert answer.addresses.allowed == ("10.1.1.1",)
    assert [address for address, why in answer.addresses.dropped if why] == ["127.0.0.1"]


def test_pin_answers_for_its_name_only(loaded: LoadedPolicy) -> None:
    """`--resolve` gives an answer, not a permission."""
    pin = parse_pin("intranet.corp.example:127.0.0.1")
    assert isinstance(pin, Pin)
    pins = {pin.name: pin.addresses}
    assert explain(Question("https://intranet.corp.example/"), loaded, pins=pins).reason is Reason.ADDRESS_NOT_PUBLIC
    assert explain(Question("https://api.example.net/"), loaded, pins=pins).allowed


def test_unresolved_name_is_noted(loaded: LoadedPolicy) -> None:
    """Without any network, so the address step is open."""
    answer = explain(Question("https://intranet.corp.example/"), loaded)
    assert answer.allowed
    assert "not resolved here" in answer.notes[-1]


def test_unknown_keys_are_told_not_silently_dropped(loaded: LoadedPolicy) -> None:
    """`metod` is no method."""
    answer = explain(read_question(b'{"url": "https://api.example.net/", "metod": "DELETE"}'), loaded)
    assert answer.notes[0] == "ignored: `metod`"


def test_failure_inside_is_a_denial(loaded: LoadedPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    """INVARIANT fail-closed: an exception while judging is never an allow, and never stops a stream."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(sys.modules["egress.review.explain"], "_judge", broken)
    answer = explain(Question("https://api.example.net/"), loaded)
    assert (answer.verdict, answer.reason) == (Verdict.DENY, Reason.INTERNAL_ERROR)


@pytest.mark.parametrize(
    "line",
    [b"", b"  ", b"null", b"[]", b'"https://a.example.com"', b"{", b"\xff\xfe", b'{"url": NaN}', b'{"url": "https://evil.test/", "url": "https://api.example.net/"}',
     b'{"url": "\\ud800"}', b"[" * 100_000, b'{"url": "https://a.example.com", "headers": 7}',
     b'{"url": "https://a.example.com", "headers": [["a"]]}', b'{"url": "https://a.example.com", "x": ' + b"9" * 10_000 + b"}"],
)  # fmt: skip
def test_bad_line_is_denied(line: bytes, loaded: LoadedPolicy) -> None:
    """Whatever stands on a line, it is answered with a denial."""
    assert explain(read_question(line), loaded).verdict is Verdict.DENY


@given(
    st.binary(max_size=80)
    | st.text(max_size=80).map(lambda text: json.dumps({"url": text, "headers": {text: text}}).encode())
)
def test_any_line_is_answered(line: bytes) -> None:
    """Total: a question or a refusal."""
    assert isinstance(read_question(line), (Question, Refusal))


def test_lines_are_bounded_and_kept_apart() -> None:
    """A line over the limit is one bad line; the next one is read as if nothing had been."""
    at_limit = b"x" * MAX_LINE_BYTES
    stream = io.BytesIO(b"a\r\n\n" + at_limit + b"\n" + at_limit + b"x\nb\n" + at_limit * 3 + b"\nlast")
    assert list(read_lines(stream)) == [b"a", b"", at_limit, None, b"b", None, b"last"]


def test_each_scope_says_its_own(tmp_path: Path) -> None:
    """The answer shows what every scope said; the strictest wins."""
    org, user = tmp_path / "org.yaml", tmp_path / "user.yaml"
    org.write_text("version: 1\nrules:\n  - deny: evil.example.com\n")
    user.write_text("version: 1\nrules:\n  - allow: .example.com\n")
    both = load_policy([PolicySource(Scope.ORG, org), PolicySource(Scope.SANDBOX, user)])
    answer = explain(Question("https://evil.example.com/"), both).as_json()
    says = answer["scopes"]
    assert isinstance(says, list)
    assert [(say["scope"], say["verdict"]) for say in says] == [("org", "deny"), ("sandbox", "allow")]
    rule = answer["rule"]
    assert isinstance(rule, dict)
    assert (answer["verdict"], rule["scope"]) == ("deny", "org")
