"""One name: CONNECT target, SNI, Host and :authority are one destination, or nothing reaches any origin."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
from harness.origins import answer_ok
from rig.modes import HOST, RAW, TUNNELLED, Site, make_site
from rig.proxy import LOOPBACK, Carrier, port_of
from rig.wire import Http2, Wire, trusting

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins
    from rig.proxy import Proxy


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Site:
    """The usual site."""
    return make_site(start, origin)


def shake(wire: Wire, site: Site, name: str | None) -> bool:
    """Whether a TLS handshake that names `name` gets through the proxy."""
    context = trusting(site.proxy.authority.certificate_pem)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        Wire(context.wrap_socket(wire.carrier, server_hostname=name)).close()
    except OSError:
        return False
    finally:
        wire.close()
    return True


@pytest.mark.parametrize("target", [HOST, TUNNELLED])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("evil.test", "name-mismatch"),
        ("sub.ok.test", "name-mismatch"),
        ("ok.test.evil.test", "name-mismatch"),
        ("test", "name-mismatch"),
        ("127.0.0.1", "sni-missing"),
        (None, "sni-missing"),
    ],
)
def test_a_tls_hello_for_another_name_is_refused(site: Site, target: str, name: str | None, reason: str) -> None:
    """Inspected or not: the handshake ends, one row says why, and the origin is not even connected to."""
    wire, reply = site.proxy.tunnel(target, site.port)
    assert reply.status == 200
    assert not shake(wire, site, name)
    row = site.proxy.ledger.only()[0]
    assert (row.reason, row.host, row.verdict) == (reason, target, "deny")
    assert site.origin.connections == []


def test_a_tls_hello_is_compared_in_canonical_form(site: Site) -> None:
    """Upper case is the same name."""
    wire, reply = site.proxy.tunnel(HOST, site.port)
    assert reply.status == 200
    assert shake(wire, site, "OK.Test")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (["GET / HTTP/1.1", "Host: evil.test"], "name-mismatch"),
        (["GET / HTTP/1.1", "Host: {host}"], "name-mismatch"),
        (["GET / HTTP/1.1", "Host: {host}:1"], "name-mismatch"),
        (["GET http://evil.test/ HTTP/1.1", "Host: {host}:{port}"], "name-mismatch"),
        (["GET https://{host}:{port}/ HTTP/1.1", "Host: {host}:{port}"], "name-mismatch"),
        (["CONNECT evil.test:443 HTTP/1.1", "Host: evil.test:443"], None),
        (["CONNECT {host}:{port} HTTP/1.1", "Host: {host}:{port}"], None),
        (["GET / HTTP/1.1", "Host: {host}:{port}", "Host: evil.test"], "request-malformed"),
        (["GET / HTTP/1.1", "Host: {host}:{port}, evil.test"], "request-malformed"),
        (["GET / HTTP/1.1"], "request-malformed"),
        (["GET / HTTP/1.0"], "request-malformed"),
        (["TRACE / HTTP/1.1", "Host: {host}:{port}"], "method-not-allowed"),
        ([" GET / HTTP/1.1", "Host: {host}:{port}"], "request-malformed"),
        (["GET / HTTP/1.1", "Host : {host}:{port}"], "request-malformed"),
        (["GET / HTTP/1.1", "Host: {host}:{port}", " evil: 1"], "request-malformed"),
        (["GET / HTTP/9.9", "Host: {host}:{port}"], "request-malformed"),
        (["GET / HTTP/1.1", "Host: {host}:{port}", "Upgrade: x", "Connection: Upgrade"], "upgrade-not-allowed"),
    ],
)
def test_a_request_for_another_name_is_refused_in_a_tunnel(site: Site, rows: list[str], reason: str | None) -> None:
    """One refusal, one row, and the origin sees nothing."""
    text = "\r\n".join([*rows, "", ""]).format(host=HOST, port=site.port)
    with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(text.encode())
        reply = wire.reply()
    assert reply.status >= 400
    assert reason is None or reply.reason == reason
    (row,) = site.proxy.ledger.wait(1)
    assert (row.verdict, row.reason) == ("deny", reply.reason)
    assert site.received == b""


@pytest.mark.parametrize(
    ("line", "host", "reason"),
    [
        ("CONNECT {host}:{port}", "evil.test:443", "name-mismatch"),
        ("CONNECT {host}:{port}", "{host}:1", "name-mismatch"),
        ("CONNECT evil.test:{port}", "{host}:{port}", "name-mismatch"),
        ("CONNECT evil.test:{port}", "evil.test:{port}", "host-not-allowed"),
        ("CONNECT {host}:1", "{host}:1", "port-not-allowed"),
        ("CONNECT {host}", "{host}", "request-malformed"),
        ("CONNECT http://{host}:{port}/", "{host}:{port}", "request-malformed"),
        ("CONNECT 2130706433:{port}", "2130706433:{port}", "host-invalid"),
        ("CONNECT {host}:0", "{host}:0", "port-invalid"),
        ("CONNECT {host}:99999", "{host}:99999", "port-invalid"),
        ("CONNECT 127.0.0.1:{port}", "127.0.0.1:{port}", "address-not-allowed"),
    ],
)
def test_a_connect_is_judged_at_connect(site: Site, line: str, host: str, reason: str) -> None:
    """A readable answer before any tunnel, with a phrase that says it too, and one row."""
    if reason == "port-invalid" and site.proxy.carrier is Carrier.MITM:
        reason = "request-malformed"  # mitmproxy's own reader of targets comes first
    names = {"host": HOST, "port": site.port}
    with site.proxy.connect() as wire:
        wire.send(f"{line} HTTP/1.1\r\nHost: {host}\r\n\r\n".format(**names).encode())
        reply = wire.reply()
    assert reply.reason == reason
    assert reply.phrase.startswith(f"egress: {reason} (")
    row = site.proxy.ledger.only()[0]
    assert (row.reason, row.verdict) == (reason, "deny")
    assert site.origin.connections == []


@pytest.mark.parametrize(
    "data",
    [b"SSH-2.0-x\r\n", b"\x00\x01\x02\x03", b"\x05\x01\x00", b" GET / HTTP/1.1\r\n\r\n", b"\r\nGET / HTTP/1.1\r\n\r\n"],
)
@pytest.mark.parametrize("secure", [False, True])
def test_what_is_neither_tls_nor_http_is_refused(*, site: Site, secure: bool, data: bytes) -> None:
    """Raw bytes in a tunnel that no rule opens for them reach nobody; in one segment or in many."""
    if secure:
        with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
            wire.send(data[:1]).send(data[1:] + b"\r\n\r\n")
            reply = wire.reply()
    else:
        wire, _ = site.proxy.tunnel(HOST, site.port)
        with wire:
            wire.send(data + b"\r\n\r\n")
            reply = wire.reply()
    assert reply.status in {0, 400, 403}
    assert site.received == b""
    assert site.proxy.ledger.wait(1)[0].verdict == "deny"


def test_a_request_in_two_segments_is_one_request(site: Site) -> None:
    """A first byte of its own does not make it something else (nor let it past the hooks)."""
    import time

    with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(b"G")
        time.sleep(0.05)
        wire.send(f"ET / HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode())
        assert wire.reply().status == 200
    assert site.proxy.ledger.only()[0].method == "GET"


def test_plain_http_in_a_tunnel_is_judged_as_plain_http(site: Site) -> None:
    """CONNECT, then no TLS: the rule for `http` counts, and no secret goes along."""
    wire, reply = site.proxy.tunnel(HOST, site.port)
    with wire:
        assert reply.status == 200
        # Without TLS the default port is 80, so Host names the port.
        wire.send(f"GET / HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode())
        assert wire.reply().status == 200
    assert site.proxy.ledger.only()[0].protocol == "http"
    assert b"X-Api-Key" not in site.received


def test_tls_towards_the_proxy_itself_is_no_request(site: Site) -> None:
    """The listener speaks HTTP: a ClientHello there is refused and recorded."""
    with site.proxy.connect() as wire:
        wire.send(b"\x16\x03\x01\x00\x05hello")
        assert wire.reply().status in {0, 400}
    assert site.proxy.ledger.wait(1)[0].verdict == "deny"


def test_raw_tcp_passes_where_a_rule_allows_it(site: Site) -> None:
    """Both ways, with both counts in the row; and TLS in it is no business of ours."""
    wire, reply = site.proxy.tunnel(RAW, site.port)
    with wire:
        assert reply.status == 200
        wire.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert wire.reply().status == 200
    row, outcome = site.proxy.ledger.only()
    assert (row.protocol, row.method, row.host) == ("tcp", None, RAW)
    assert outcome.bytes_up == len(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert outcome.bytes_down > 0


def test_http2_without_tls_is_refused(site: Site) -> None:
    """The preface in the clear, towards the proxy and in a tunnel."""
    with site.proxy.connect() as wire:
        client = Http2(wire)
        client.pump()
    wire, _ = site.proxy.tunnel(HOST, site.port)
    with wire:
        Http2(wire).pump()
    assert site.received == b""
    assert {row.verdict for row in site.proxy.ledger.wait(2)} == {"deny"}


def test_host_is_that_of_each_request_to_the_proxy(start: Callable[..., Proxy], origin: Origins) -> None:
    """A URL may stand in place of Host: what is taken over from the last request is not its name."""
    port = port_of(origin)
    names = ("one.test", "two.test")
    listed = ", ".join(f'"{name}:{port}"' for name in names)
    proxy = start(f"version: 1\nrules:\n  - {{allow: [{listed}], {LOOPBACK}}}\n", *names)
    with origin.behaving(answer_ok), proxy.connect() as wire:
        for name in names:
            wire.send(f"GET http://{name}:{port}/ HTTP/1.1\r\nAccept: */*\r\n\r\n".encode())
            assert wire.reply().status == 200
    hosts = [value for each in origin.connections for request in each.requests for value in request.values(b"host")]
    assert hosts == [f"{name}:{port}".encode() for name in names]
