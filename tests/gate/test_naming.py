"""Naming: one destination, named alike everywhere on a request, or a refusal."""

from __future__ import annotations

import pytest
from workbench import host

from egress.gate.naming import Route, name_request
from egress.policy import Protocol, Reason, Refusal, Request
from egress.wire.head import RequestHead, parse_request_head

PLAIN = None
TUNNEL = Route(host("a.test"), 443, tls=True)
CLEAR = Route(host("a.test"), 80, tls=False)
ODD = Route(host("a.test"), 8443, tls=True)
V6 = Route(host("2001:db8::1"), 443, tls=True)

# route, request line's method and target, fields, then host, port, protocol, path and query.
ALLOWED = [
    (PLAIN, "GET http://a.test/x", "Host: a.test", ("a.test", 80, "http", "/x", None)),
    (PLAIN, "GET http://a.test", "Host: a.test", ("a.test", 80, "http", "/", None)),
    (PLAIN, "GET http://a.test/?", "Host: a.test", ("a.test", 80, "http", "/", "")),
    (PLAIN, "GET http://a.test/x?q=1", "Host: a.test:80", ("a.test", 80, "http", "/x", "q=1")),
    (PLAIN, "GET http://a.test:80/x", "Host: a.test", ("a.test", 80, "http", "/x", None)),
    (PLAIN, "GET http://a.test:8080/x", "Host: a.test:8080", ("a.test", 8080, "http", "/x", None)),
    (PLAIN, "GET HTTP://A.Test/x", "Host: a.TEST", ("a.test", 80, "http", "/x", None)),
    (PLAIN, "GET http://a.test./x", "Host: a.test", ("a.test", 80, "http", "/x", None)),
    (PLAIN, "GET http://a.test/x", "Host: a.test.", ("a.test", 80, "http", "/x", None)),
    (PLAIN, "GET http://a.test/x", "", ("a.test", 80, "http", "/x", None)),
    (PLAIN, "GET http://[2001:db8::1]/x", "Host: [2001:DB8:0::1]:80", ("2001:db8::1", 80, "http", "/x", None)),
    (PLAIN, "GET http://192.0.2.1/x", "Host: 192.0.2.1", ("192.0.2.1", 80, "http", "/x", None)),
    (PLAIN, "OPTIONS http://a.test", "Host: a.test", ("a.test", 80, "http", "*", None)),
    (
        PLAIN,
        "GET ws://a.test/x",
        "Host: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade",
        ("a.test", 80, "ws", "/x", None),
    ),
    (TUNNEL, "GET /x?y=1", "Host: a.test", ("a.test", 443, "https", "/x", "y=1")),
    (TUNNEL, "GET /x", "Host: a.test:443", ("a.test", 443, "https", "/x", None)),
    (TUNNEL, "GET /x", "Host: A.TEST.:443", ("a.test", 443, "https", "/x", None)),
    (TUNNEL, "OPTIONS *", "Host: a.test", ("a.test", 443, "https", "*", None)),
    (
        TUNNEL,
        "GET /x",
        "Host: a.test\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade",
        ("a.test", 443, "wss", "/x", None),
    ),
    (CLEAR, "GET /x", "Host: a.test", ("a.test", 80, "http", "/x", None)),
    (ODD, "GET /x", "Host: a.test:8443", ("a.test", 8443, "https", "/x", None)),
    (V6, "GET /x", "Host: [2001:db8::1]", ("2001:db8::1", 443, "https", "/x", None)),
]

REFUSED = [
    # outside a tunnel, a proxy is asked for a whole URL, in the clear
    (PLAIN, "GET /x", "Host: a.test", Reason.REQUEST_MALFORMED),
    (PLAIN, "OPTIONS *", "Host: a.test", Reason.REQUEST_MALFORMED),
    (PLAIN, "GET https://a.test/x", "Host: a.test", Reason.REQUEST_MALFORMED),
    (PLAIN, "GET wss://a.test/x", "Host: a.test", Reason.REQUEST_MALFORMED),
    # CONNECT is judged elsewhere, and never names a request
    (PLAIN, "CONNECT a.test:443", "Host: a.test:443", Reason.REQUEST_MALFORMED),
    (TUNNEL, "CONNECT a.test:443", "Host: a.test", Reason.REQUEST_MALFORMED),
    # inside, a path only
    (TUNNEL, "GET https://a.test/x", "Host: a.test", Reason.NAME_MISMATCH),
    (TUNNEL, "GET http://evil.test/x", "Host: a.test", Reason.NAME_MISMATCH),
    # Host is the destination
    (PLAIN, "GET http://a.test/x", "Host: b.test", Reason.NAME_MISMATCH),
    (PLAIN, "GET http://a.test/x", "Host: sub.a.test", Reason.NAME_MISMATCH),
    (PLAIN, "GET http://a.test/x", "Host: a.test:81", Reason.NAME_MISMATCH),
    (PLAIN, "GET http://a.test:8080/x", "Host: a.test", Reason.NAME_MISMATCH),
    (PLAIN, "GET http://a.test:443/x", "Host: a.test", Reason.NAME_MISMATCH),
    (PLAIN, "GET http://192.0.2.1/x", "Host: a.test", Reason.NAME_MISMATCH),
    (TUNNEL, "GET /x", "Host: b.test", Reason.NAME_MISMATCH),
    (TUNNEL, "GET /x", "Host: a.test:80", Reason.NAME_MISMATCH),
    (TUNNEL, "GET /x", "Host: a.test:8443", Reason.NAME_MISMATCH),
    (CLEAR, "GET /x", "Host: a.test:443", Reason.NAME_MISMATCH),
    (ODD, "GET /x", "Host: a.test", Reason.NAME_MISMATCH),
    (V6, "GET /x", "Host: [2001:db8::2]", Reason.NAME_MISMATCH),
    # and can be read in one way
    (PLAIN, "GET http://a..test/x", "Host: a..test", Reason.HOST_INVALID),
    (PLAIN, "GET http://2130706433/x", "Host: 2130706433", Reason.HOST_INVALID),
    (PLAIN, "GET http://0x7f.1/x", "Host: 0x7f.1", Reason.HOST_INVALID),
    (PLAIN, "GET http://a.test:0/x", "Host: a.test:0", Reason.PORT_INVALID),
    (PLAIN, "GET http://a.test:70000/x", "Host: a.test:70000", Reason.PORT_INVALID),
    (TUNNEL, "GET /x", "Host: 127.1", Reason.HOST_INVALID),
    # upgrades
    (TUNNEL, "GET /x", "Host: a.test\r\nUpgrade: h2c\r\nConnection: Upgrade", Reason.UPGRADE_NOT_ALLOWED),
    (PLAIN, "GET http://a.test/", "Host: a.test\r\nUpgrade: H2C", Reason.UPGRADE_NOT_ALLOWED),
    (TUNNEL, "GET /x", "Host: a.test\r\nUpgrade: foo\r\nConnection: Upgrade", Reason.UPGRADE_NOT_ALLOWED),
    (TUNNEL, "GET /x", "Host: a.test\r\nUpgrade: websocket, foo\r\nConnection: Upgrade", Reason.UPGRADE_NOT_ALLOWED),
    (TUNNEL, "GET /x", "Host: a.test\r\nUpgrade: websocket, h2c\r\nConnection: Upgrade", Reason.UPGRADE_NOT_ALLOWED),
    (
        TUNNEL,
        "GET /x",
        "Host: a.test\r\nUpgrade: websocket\r\nUpgrade: websocket\r\nConnection: Upgrade",
        Reason.UPGRADE_NOT_ALLOWED,
    ),
    (TUNNEL, "GET /x", "Host: a.test\r\nUpgrade: websocket", Reason.UPGRADE_NOT_ALLOWED),
    (TUNNEL, "POST /x", "Host: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade", Reason.UPGRADE_NOT_ALLOWED),
    (PLAIN, "GET http://a.test/", "Host: a.test\r\nUpgrade: TLS/1.0", Reason.UPGRADE_NOT_ALLOWED),
]  # fmt: skip


def parse(line: str, fields: str) -> RequestHead:
    """A head that the strict parser takes."""
    head = parse_request_head(f"{line} HTTP/1.1\r\n{fields}{'\r\n' if fields else ''}\r\n".encode())
    assert isinstance(head, RequestHead), head
    return head


@pytest.mark.parametrize(("route", "line", "fields", "named"), ALLOWED)
def test_one_name(route: Route | None, line: str, fields: str, named: tuple[str, int, str, str, str | None]) -> None:
    """What agrees in every place is named: canonical host, port with its default, protocol, path and query."""
    found = name_request(parse(line, fields), "agent", route)
    assert isinstance(found, Request), found
    assert (found.host.text, found.port, found.protocol.value, found.path, found.query) == named
    assert (found.sandbox, found.method) == ("agent", line.split(maxsplit=1)[0])


@pytest.mark.parametrize(("route", "line", "fields", "reason"), REFUSED)
def test_two_names_are_refused(route: Route | None, line: str, fields: str, reason: Reason) -> None:
    """What disagrees, or could be read in another way by the next reader, is refused with its own reason."""
    found = name_request(parse(line, fields), "agent", route)
    assert isinstance(found, Refusal), found
    assert found.reason is reason


def test_announced_trailers_are_refused() -> None:
    """They would come after the decision."""
    found = name_request(parse("POST /", "Host: a.test\r\nTrailer: X-Later"), "agent", TUNNEL)
    assert isinstance(found, Refusal), found
    assert found.reason is Reason.REQUEST_MALFORMED


def test_trace_is_refused() -> None:
    """Its answer would repeat injected headers."""
    for line, route in (("TRACE /", TUNNEL), ("TRACE http://a.test/", PLAIN)):
        found = name_request(parse(line, "Host: a.test"), "agent", route)
        assert isinstance(found, Refusal), found
        assert found.reason is Reason.METHOD_NOT_ALLOWED


def test_headers_are_kept_as_sent() -> None:
    """The policy core sees every field, spelled as the client did, in order."""
    found = name_request(parse("GET /", "Host: a.test\r\nX-A: 1\r\nx-a: \xe9"), "agent", TUNNEL)
    assert isinstance(found, Request)
    assert found.headers == (("Host", "a.test"), ("X-A", "1"), ("x-a", "\xc3\xa9"))


def test_websocket_is_named_by_how_it_travels() -> None:
    """`ws` in the clear, `wss` over TLS; so that a rule with `protocol: https` does not allow it."""
    fields = "Host: a.test\r\nUpgrade: websocket\r\nConnection: upgrade"
    protocols = []
    for line, route in (("GET http://a.test/", PLAIN), ("GET /", CLEAR), ("GET /", TUNNEL)):
        found = name_request(parse(line, fields), "agent", route)
        assert isinstance(found, Request)
        protocols.append(found.protocol)
    assert protocols == [Protocol.WS, Protocol.WS, Protocol.WSS]
