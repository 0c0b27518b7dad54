"""The upstream's certificate: verified for the judged name, or the request and its secret stay here."""

from __future__ import annotations

import socket
import ssl
import threading
import warnings
from typing import TYPE_CHECKING

import pytest
from harness.origins import answer_ok
from rig.http2_origin import answer_http2
from rig.modes import HOST, Mode, Site, carried, make_site
from rig.proxy import SECRET, Proxy, Setup, origin_on, port_of
from rig.wire import trusting

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.authority import TestAuthority
    from harness.origins import Origins

    from egress.gate.grant import Grant


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Site:
    """The usual site."""
    return make_site(start, origin)


@pytest.mark.parametrize("fault", ["expired", "self-signed", "wrong-name"])
@carried("mode", (Mode.TLS1,), (Mode.TLS2,))
def test_a_certificate_that_does_not_verify_gets_nothing(site: Site, mode: Mode, fault: str) -> None:
    """The client reads why; the origin was sent no byte of the request, and no secret."""
    alpn = ("h2",) if mode is Mode.TLS2 else ("http/1.1",)
    behave = answer_http2 if mode is Mode.TLS2 else answer_ok
    with site.origin.behaving(behave, alpn=alpn, fault=fault):
        reply = site.exchange(mode)
    assert (reply.status, reply.reason) == (502, "upstream-tls")
    assert site.received == b""
    outcome = site.proxy.ledger.only()[1]
    assert (outcome.error or "").startswith("upstream-tls")
    assert outcome.status == 502
    assert SECRET.encode() not in reply.whole


def test_a_root_that_is_not_trusted_gets_nothing(start: Callable[..., Proxy], origin: Origins) -> None:
    """The test CA is trusted only because --upstream-ca names it."""
    site = make_site(start, origin)
    untrusting = Proxy(
        site.proxy.folder.parent,
        Setup(site.proxy.policy_file.read_text(), site.proxy.config.resolve, {"CANARY": SECRET}),
        site.proxy.carrier,
    )
    try:
        reply = Site(untrusting, origin, site.port).exchange(Mode.TLS1)
        assert (reply.status, reply.reason) == (502, "upstream-tls")
        assert site.received == b""
    finally:
        untrusting.close()


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,), (Mode.TLS2,))
def test_a_connection_that_the_gate_does_not_find_ready_carries_nothing(
    mode: Mode, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate's last look counts: its word is the page's detail, and the request stays here."""
    monkeypatch.setattr(type(site.proxy.gate), "ready", lambda *_, **__: "not like this")
    with site.serving(mode):
        reply = site.exchange(mode)
    assert (reply.status, reply.reason) == (502, "upstream-unreachable")
    assert reply.problem["detail"] == "not like this"
    assert site.received == b""
    site.proxy.ledger.only()


@pytest.mark.parametrize("mode", [Mode.PLAIN, Mode.TLS1])
def test_a_connection_that_reached_another_address_carries_nothing(
    mode: Mode, site: Site, roots: TestAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One name: the peer of the socket is judged too, whatever dialled it."""
    from egress.gate import gate as gate_module
    from egress.gate.dial import Dialled

    other = origin_on(roots, "127.0.0.2")

    async def misdial(grant: Grant, *, timeout_seconds: float) -> Dialled:
        sock = socket.create_connection(("127.0.0.2", port_of(other)), timeout_seconds)
        sock.setblocking(False)  # noqa: FBT003 -- the method takes it so
        return Dialled(sock, grant.addresses[0])

    text = site.proxy.policy_file.read_text().replace("127.0.0.0/8", "127.0.0.1/32")
    site.proxy.reload(text)
    monkeypatch.setattr(gate_module, "dial", misdial)
    try:
        with other.behaving(answer_ok, role="evil"):
            assert site.exchange(mode).status == 502
        site.proxy.until(lambda: bool(other.connections), "the connection to the other address")
        assert [bytes(record.received) for record in other.connections] == [b""]
    finally:
        other.close()


def test_the_upstream_is_sent_the_judged_name(site: Site) -> None:
    """SNI is the CONNECT target, whatever the client's spelling was."""
    with site.origin.behaving(answer_ok):
        assert site.exchange(Mode.TLS1).status == 200
    assert [record.sni for record in site.origin.connections] == [HOST]


def test_a_server_that_is_no_tls_server_is_told_so(site: Site) -> None:
    """Plain bytes in place of a ServerHello: our page, no byte of theirs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            carrier, _ = listener.accept()
            with carrier:
                carrier.recv(4096)
                carrier.sendall(b"HTTP/1.1 200 OK\r\n\r\ncanary-bytes")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        text = site.proxy.policy_file.read_text().replace(f":{site.port}", f":{port}")
        site.proxy.reload(text.replace('inject: {X-Api-Key: "Key ${canary}"}', "tls: inspect"))
        reply = Site(site.proxy, site.origin, port).exchange(Mode.TLS1)
        thread.join(5)
    assert (reply.status, reply.reason) == (502, "upstream-tls")
    assert b"canary-bytes" not in reply.whole


def test_a_client_that_does_not_trust_us_leaves_a_row(site: Site) -> None:
    """Its handshake ends with an alert; the row says what to do."""
    wire, _ = site.proxy.tunnel(HOST, site.port)
    with pytest.raises(ssl.SSLError):
        site.proxy.secure(wire, HOST, ca=site.origin._authority.ca_file.read_bytes())
    row = site.proxy.ledger.only()[0]
    assert (row.reason, row.host) == ("client-tls", HOST)
    assert row.detail == (
        "the client refused the proxy's certificate (unknown_ca): likely pinned, or its store lacks the CA"
    )
    assert site.origin.connections == []


def test_why_a_client_closes_without_a_word_is_not_made_up(site: Site) -> None:
    """It had its reasons; the row says that it ended the handshake, and no more."""
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(ours, theirs, server_hostname=HOST)
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    wire, _ = site.proxy.tunnel(HOST, site.port)
    with wire:
        wire.send(theirs.read())
        assert wire.carrier.recv(1)
    row = site.proxy.ledger.only()[0]
    assert (row.reason, row.detail) == ("client-tls", "the client ended the TLS handshake")


def test_old_tls_is_refused(site: Site) -> None:
    """TLS 1.2 or later, towards the client too."""
    context = trusting(site.proxy.authority.certificate_pem)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    wire, _ = site.proxy.tunnel(HOST, site.port)
    with wire, pytest.raises(OSError, match=r"(?i)version|protocol|alert|EOF|reset"):
        context.wrap_socket(wire.carrier, server_hostname=HOST)
