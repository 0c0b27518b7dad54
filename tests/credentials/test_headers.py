"""Header fields on their way upstream: what is set is there once, and nothing of the hop goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.credentials import Rendered, Secret, apply_headers, settable, strip_hop_by_hop

type Field = tuple[bytes, bytes]

VALUE = "Bearer canary"


def rendered(*names: str) -> Rendered:
    """Each of `names` set to the canary."""
    return Rendered(tuple((name, Secret("github", VALUE)) for name in names), ("github",))


SAME_NAME = [
    b"authorization",
    b"Authorization",
    b"AUTHORIZATION",
    b"aUtHoRiZaTiOn",
    b"Authorization_",
    b"Authorization-",
    b"_Authorization",
    b"Authorization.",
]


@pytest.mark.parametrize("name", SAME_NAME)
def test_every_spelling_of_an_injected_header_is_replaced(name: bytes) -> None:
    """The server sees one value, ours, however it reads the client's spelling."""
    fields = [(b"Host", b"a"), (name, b"evil"), (b"Accept", b"*/*"), (name, b"evil again")]
    assert apply_headers(fields, (), rendered("authorization")) == [
        (b"Host", b"a"),
        (b"Accept", b"*/*"),
        (b"authorization", VALUE.encode()),
    ]


@pytest.mark.parametrize("name", [b"X-Api-Key", b"x_api_key", b"X_Api-Key", b"x.api.key", b"X-API-KEY", b"X!Api~Key"])
def test_names_that_servers_fold_together_are_one_name(name: bytes) -> None:
    """CGI, WSGI and PHP make one variable of `X-Api-Key`, `X_Api_Key` and `X.Api.Key`."""
    assert apply_headers([(name, b"evil")], (), rendered("x-api-key")) == [(b"x-api-key", VALUE.encode())]
    assert apply_headers([(name, b"evil")], ("X-Api-Key",), Rendered()) == []


@pytest.mark.parametrize("name", [b"XApiKey", b"X-Api-Key-2", b"Api-Key", b"X-Api", b"~"])
def test_other_names_stay(name: bytes) -> None:
    """Folding takes away nothing that is another header to every server."""
    assert apply_headers([(name, b"mine")], ("X-Api-Key",), Rendered()) == [(name, b"mine")]


def test_order_and_duplicates_of_what_stays_are_kept() -> None:
    """Cookies and the like come in several fields, whose order counts (RFC 9110, section 5.3)."""
    fields = [(b"B", b"1"), (b"a", b"2"), (b"B", b"3"), (b"C", b"4")]
    assert apply_headers(fields, ("c",), rendered("d")) == [*fields[:3], (b"d", VALUE.encode())]


def test_two_injections_of_one_header_are_both_sent() -> None:
    """What the policy merged is what is sent."""
    assert len(apply_headers([(b"X", b"evil")], (), rendered("x", "X"))) == 2


STRUCTURAL = ["Host", "content-length", "Transfer-Encoding", "TE", "Trailer", "Connection", "Upgrade", "Expect",
              "Proxy-Authorization", "Keep-Alive", "HTTP2-Settings"]  # fmt: skip


@pytest.mark.parametrize("name", STRUCTURAL)
def test_no_rule_touches_what_frames_or_routes_a_message(name: str) -> None:
    """A removed Content-Length or a second Host would let two servers read two requests."""
    fields = [(name.encode(), b"x")]
    assert not settable(name)
    assert apply_headers(fields, (name, name.lower(), name.replace("-", "_")), Rendered()) == fields
    assert apply_headers(fields, (), rendered(name)) == fields


@pytest.mark.parametrize("name", ["", "a b", "a:", ":path", "a\r\nb", "\u00e9", "a\x00", "(x)"])
def test_what_is_no_token_is_no_header(name: str) -> None:
    """A line break in a name would begin another field."""
    assert not settable(name)
    assert apply_headers([(b"A", b"1")], (name,), rendered(name)) == [(b"A", b"1")]


STRIPPED: list[tuple[str, list[Field], list[Field]]] = [
    ("proxy credentials", [(b"Proxy-Authorization", b"Basic x"), (b"A", b"1")], [(b"A", b"1")]),
    ("proxy credentials in odd case", [(b"pRoXy-AuThOrIzAtIoN", b"Basic x")], []),
    ("old proxy field", [(b"Proxy-Connection", b"keep-alive")], []),
    ("keep-alive", [(b"Keep-Alive", b"timeout=5"), (b"Connection", b"keep-alive")], []),
    ("nominated", [(b"Connection", b"X-Hop"), (b"X-Hop", b"1"), (b"X-End", b"2")], [(b"X-End", b"2")]),
    ("nominated in odd case", [(b"connection", b"x-HOP"), (b"X-Hop", b"1")], []),
    ("nominated after", [(b"X-Hop", b"1"), (b"Connection", b"X-Hop")], []),
    ("nominated in a list", [(b"Connection", b"close, ,\tX-Hop ,Y"), (b"X-Hop", b"1"), (b"y", b"2")], []),
    ("nominated in two fields", [(b"Connection", b"a"), (b"Connection", b"b"), (b"a", b"1"), (b"b", b"2")], []),
    ("nominated by the old field", [(b"Proxy-Connection", b"X-Hop"), (b"X-Hop", b"1")], []),
    ("host nominated", [(b"Host", b"a"), (b"Connection", b"host")], [(b"Host", b"a")]),
    ("length nominated", [(b"Content-Length", b"5"), (b"Connection", b"Content-Length")], [(b"Content-Length", b"5")]),
    (
        "coding nominated",
        [(b"Transfer-Encoding", b"chunked"), (b"Connection", b"transfer-encoding, te")],
        [(b"Transfer-Encoding", b"chunked")],
    ),
    ("trailer nominated", [(b"Trailer", b"X"), (b"Connection", b"trailer")], [(b"Trailer", b"X")]),
    ("te without trailers", [(b"TE", b"gzip;q=0.5")], []),
    ("te with trailers", [(b"TE", b"gzip, Trailers"), (b"A", b"1")],
     [(b"A", b"1"), (b"TE", b"trailers"), (b"Connection", b"TE")]),
    ("upgrade", [(b"Upgrade", b"h2c"), (b"Connection", b"Upgrade, HTTP2-Settings"), (b"HTTP2-Settings", b"AA")], []),
    ("upgrade without connection", [(b"Upgrade", b"h2c"), (b"HTTP2-Settings", b"AA")], []),
    ("nothing", [(b"A", b"1"), (b"B", b"2")], [(b"A", b"1"), (b"B", b"2")]),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "expected"), [row[1:] for row in STRIPPED], ids=[row[0] for row in STRIPPED])
def test_hop_by_hop_fields_end_here(fields: list[Field], expected: list[Field]) -> None:
    """RFC 9110, section 7.6.1, and no more than it asks for where the message's framing would change."""
    assert strip_hop_by_hop(fields) == expected


WEBSOCKET: list[Field] = [
    (b"Connection", b"keep-alive, Upgrade"),
    (b"Upgrade", b"WebSocket"),
    (b"Sec-WebSocket-Key", b"k"),
]


def test_a_websocket_handshake_keeps_its_upgrade_only_when_told() -> None:
    """The gate decides whether there may be one; without it the request goes on as a plain one."""
    assert strip_hop_by_hop(WEBSOCKET) == [(b"Sec-WebSocket-Key", b"k")]
    assert strip_hop_by_hop(WEBSOCKET, upgrade=True) == [
        (b"Sec-WebSocket-Key", b"k"),
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
    ]


@pytest.mark.parametrize("value", [b"h2c", b"websocket, h2c", b"h2c, websocket", b"TLS/1.0", b""])
def test_nothing_but_websocket_is_upgraded_to(value: bytes) -> None:
    """A list with another protocol in it is h2c smuggling (threat of CVE-2020-11076's class), flag or not."""
    assert strip_hop_by_hop([(b"Connection", b"Upgrade"), (b"Upgrade", value)], upgrade=True) == []


@pytest.mark.parametrize("order", ["strip first", "apply first"])
def test_connection_cannot_take_an_injected_header_away(order: str) -> None:
    """`Connection: authorization` (E35): the client's own goes, ours arrives, in either order of the calls."""
    fields = [(b"Connection", b"authorization"), (b"Authorization", b"evil")]
    if order == "strip first":
        out = apply_headers(strip_hop_by_hop(fields), (), rendered("Authorization"))
    else:
        out = strip_hop_by_hop(apply_headers(fields, (), rendered("Authorization")), protected=["Authorization"])
    assert out == [(b"Authorization", VALUE.encode())]


NAMES = st.sampled_from(
    [b"Authorization", b"authorization_", b"Connection", b"X-Hop", b"TE", b"Upgrade", b"Host", b"A"]
)
VALUES = st.sampled_from([b"authorization", b"x-hop, close", b"trailers", b"websocket", b"host", b"", b", ,"])
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=8)


@given(fields=FIELDS, upgrade=st.booleans())
def test_stripping_twice_is_stripping_once(fields: list[Field], *, upgrade: bool) -> None:
    """What one hop passes on, the next of our kind passes on too."""
    once = strip_hop_by_hop(fields, upgrade=upgrade)
    assert strip_hop_by_hop(once, upgrade=upgrade) == once


@given(fields=FIELDS)
def test_exactly_one_injected_value_whatever_the_client_sends(fields: list[Field]) -> None:
    """One Authorization, ours, last; Host as it came; applying twice is applying once."""
    out = apply_headers(strip_hop_by_hop(fields), (), rendered("Authorization"))
    assert [field for field in out if b"authorization" in field[0].lower()] == [(b"Authorization", VALUE.encode())]
    assert [value for name, value in out if name == b"Host"] == [value for name, value in fields if name == b"Host"]
    assert apply_headers(out, (), rendered("Authorization")) == out


def test_nothing_to_do_changes_nothing_and_copies() -> None:
    """The result is a list of its own, so that changing it leaves the request that was judged as it was."""
    fields = [(b"A", b"1")]
    out = apply_headers(fields, (), Rendered())
    assert out == fields
    assert out is not fields
