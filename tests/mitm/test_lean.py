"""What does less in mitmproxy's place says the same: each replacement beside the original."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.connection import Client, Server
from mitmproxy.coretypes.multidict import MultiDict
from mitmproxy.options import Options
from mitmproxy.proxy.context import Context
from OpenSSL import SSL

from egress.mitm import http1, lean, options_profile
from egress.mitm.tls_connection import LeanConnection
from egress.wire.head import RequestHead, ResponseHead, parse_request_head, parse_response_head

# In a process of its own, since in this one other tests may have replaced them already.
ORIGINALS = """
import sys
from mitmproxy import http
name = sys.argv[1]
fields = ((b"Host", b"a"), (b"accept", b"x"), (b"ACCEPT", b"\\xff\\xc3\\xa4"), (b"X_Y", b""))
headers = http.Headers(fields, x_z="1")
def look():
    made = http.Headers(fields, x_z="1")
    return [(made.get_all(n), made.get(n), made.get(n, "none"), n in made) for n in
            ("host", "HOST", b"Accept", "accept", "x_y", "x-z", "missing", b"missing")] + [made.fields]
before = look()
from egress.mitm import lean
lean.install()
assert look() == before, (before, look())
print("same")
"""

NAMES = st.sampled_from([b"Host", b"host", b"Accept", b"ACCEPT", b"Content-Length", b"x", b"X"])
FIELDS = st.lists(st.tuples(NAMES, st.binary(max_size=6)), max_size=6)


@pytest.fixture(autouse=True, scope="module")
def _installed() -> None:
    lean.install()


def test_fields_are_looked_up_as_before() -> None:
    """Every look-up, before and after, on the same fields."""
    done = subprocess.run(
        [sys.executable, "-c", ORIGINALS, "x"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.strip() == "same", done.stderr


@given(FIELDS, NAMES)
def test_fields_are_found_by_any_spelling(fields: list[tuple[bytes, bytes]], name: bytes) -> None:
    """All values, in order, whatever the case; bytes that are no UTF-8 come back as they were."""
    headers = http.Headers(fields)
    expected = [value for key, value in fields if key.lower() == name.lower()]
    assert [value.encode("utf-8", "surrogateescape") for value in headers.get_all(name)] == expected
    assert (name in headers) is bool(expected)
    assert (headers.get(name.decode()) is None) is not bool(expected)
    assert isinstance(headers, MultiDict)
    assert headers.fields == tuple(fields)


def test_fields_can_be_changed_as_before() -> None:
    """What is built on the look-ups: set, delete, pop, default."""
    headers = http.Headers([(b"Expect", b"100-continue"), (b"A", b"1"), (b"a", b"2")])
    assert headers.pop("expect") == "100-continue"
    assert headers.pop("expect", None) is None
    headers["A"] = "3"
    assert headers.fields == ((b"A", b"3"),)
    del headers["a"]
    assert not headers.fields
    with pytest.raises(KeyError):
        headers["a"]


def test_a_fork_shares_what_it_must_and_no_more() -> None:
    """Client, server and options are the same; the list of layers is its own."""
    context = Context(Client(peername=("a", 1), sockname=("b", 2)), Options())
    context.layers.append("layer")  # type: ignore[arg-type]
    forked = context.fork()
    assert (forked.client, forked.server, forked.options) == (context.client, context.server, context.options)
    assert vars(forked).keys() == vars(context).keys()
    forked.layers.append("more")  # type: ignore[arg-type]
    assert context.layers == ["layer"]


def test_connections_are_the_same_by_their_ids() -> None:
    """Each has its own."""
    servers = [Server(address=("a", 1)) for _ in range(3)]
    assert len({server.id for server in servers}) == 3
    assert servers[0] != servers[1]
    twin = Server(address=None, id=servers[0].id)
    assert twin == servers[0]
    assert hash(twin) == hash(servers[0])
    assert servers[0] != servers[0].id


def test_a_mitmproxy_without_a_place_to_replace_does_not_start() -> None:
    """Another version in which one of them is gone is not the one that this was written for."""
    code = (
        "from mitmproxy import http\nfrom egress.mitm import lean\nfrom egress.errors import StartError\n"
        "del http.MessageData.__post_init__\n"
        "try:\n    lean.install()\nexcept StartError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert "has no __post_init__ to replace" in done.stdout, done.stderr


def test_options_that_are_fixed_have_the_same_values() -> None:
    """Every option, and none can be set through the options that they were taken from."""
    options = options_profile.embedded(idle_seconds=17)
    made = options_profile.fixed(options)
    assert {name: getattr(made, name) for name in options.keys()} == {  # noqa: SIM118 -- no mapping
        name: getattr(options, name)
        for name in options.keys()  # noqa: SIM118
    }
    options.update(tcp_timeout=1)
    assert made.tcp_timeout == 17


# heads


HEADS = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /a/b?c=%20&d HTTP/1.1\r\nHost:  a:8080 \r\nX: y\t \r\nx:\r\nContent-Length: 3\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://a:81/b?c HTTP/1.1\r\nHost: a:81\r\n\r\n",
    b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
    b"PURGE //x HTTP/1.0\r\nX: \xc3\xa4\xff\r\n\r\n",
]
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a\r\nset-cookie: b\r\n\r\n",
    b"HTTP/1.0 404 Not \xc3\xa4 Found\r\n\r\n",
    b"HTTP/1.1 204\r\nX:  \t y \t\r\n\r\n",
    b"HTTP/1.1 301 \r\nLocation: /\r\n\r\n",
]


def data_of(message: http.Request | http.Response) -> dict[str, object]:
    """Everything but the time."""
    return {name: value for name, value in vars(message.data).items() if not name.startswith("timestamp")}


@pytest.mark.parametrize("raw", HEADS)
def test_a_request_is_what_mitmproxy_would_have_read(raw: bytes) -> None:
    """From our parser's value, in every form of target."""
    head = parse_request_head(raw)
    assert isinstance(head, RequestHead)
    expected = http1.http1.read_request_head(raw[:-4].split(b"\r\n"))
    assert data_of(http1._request(head, raw)) == data_of(expected)


@pytest.mark.parametrize("raw", ANSWERS)
def test_an_answer_is_what_mitmproxy_would_have_read(raw: bytes) -> None:
    """From our parser's value."""
    head = parse_response_head(raw)
    assert isinstance(head, ResponseHead)
    expected = http1.http1.read_response_head(raw[:-4].split(b"\r\n"))
    assert data_of(http1._response(head)) == data_of(expected)


# TLS


def shaken(kind: type[SSL.Connection], context: SSL.Context) -> tuple[SSL.Connection, SSL.Connection]:
    """Two ends in memory, both of this kind, after their handshake."""
    client, server = kind(SSL.Context(SSL.TLS_METHOD)), kind(context)
    client.set_connect_state()
    server.set_accept_state()
    for _ in range(4):
        for end, peer in ((client, server), (server, client)):
            with contextlib.suppress(SSL.WantReadError):
                end.do_handshake()
            carry(end, peer)
    return client, server


def carry(end: SSL.Connection, peer: SSL.Connection) -> int:
    """Everything that one end has for the other."""
    carried = 0
    while True:
        try:
            data = end.bio_read(65_535)
        except SSL.WantReadError:
            return carried
        peer.bio_write(data)
        carried += len(data)


def everything(end: SSL.Connection) -> bytes:
    """All that is there to read."""
    got = b""
    while True:
        try:
            got += end.recv(65_535)
        except SSL.WantReadError:
            return got


@pytest.mark.parametrize("size", [1, 16_384, 65_535, 200_000])
def test_bytes_pass_as_through_the_original(size: int, leaf: SSL.Context) -> None:
    """Of any size, both ways, however many records they take."""
    data = bytes(range(256)) * (size // 256 + 1)
    for kind in (LeanConnection, SSL.Connection):
        client, server = shaken(kind, leaf)
        client.sendall(data[:size])
        assert carry(client, server) > size
        assert everything(server) == data[:size]
        assert everything(server) == b""


def test_an_end_is_told_as_by_the_original(leaf: SSL.Context) -> None:
    """A close, and bytes that are no record."""
    for kind in (LeanConnection, SSL.Connection):
        client, server = shaken(kind, leaf)
        client.shutdown()
        carry(client, server)
        with pytest.raises(SSL.ZeroReturnError):
            server.recv(65_535)
        client, server = shaken(kind, leaf)
        server.bio_write(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(SSL.Error):
            server.recv(65_535)


def test_no_certificates_are_taken_apart(leaf: SSL.Context) -> None:
    """Whoever asks is told of none."""
    client, _ = shaken(LeanConnection, leaf)
    assert client.get_peer_cert_chain() is None
    assert client.get_peer_certificate() is None


@pytest.fixture(scope="module")
def leaf(tmp_path_factory: pytest.TempPathFactory) -> SSL.Context:
    """A server's context."""
    from egress.certs import Authority
    from egress.mitm.contexts import _client_context

    return _client_context(Authority.load_or_create(tmp_path_factory.mktemp("leaf") / "ca").leaf("ok.test"))
