"""Redirected connections, in all lanes: judged by the name inside, or the address, and dialled where that leads.

The kernel's part is played by the test: where a connection was on its way to. tests/roads has the kernel's own.
"""

from __future__ import annotations

import base64
import socket
import ssl
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
from rig.inside import NAMES, exchange, is_reset, was_reset
from rig.ledger import wait_until
from rig.modes import HOST, RAW, TUNNELLED, Mode, Site, carried, make_site
from rig.proxy import LOOPBACK, SECRET, Carrier, port_of
from rig.redirected import ELSEWHERE, Given, Redirect
from rig.wire import Wire

from egress.config import Limits, SandboxDefinition, hash_token
from egress.policy import Sandbox
from egress.proxy import peeking, transparent
from egress.proxy.limits import OwnClientSlots

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins
    from rig.proxy import Proxy

QUICK = Limits(audit_seconds=0.2, connect_seconds=1, resolve_seconds=1, head_seconds=0.5, tls_seconds=0.5)
SYNTHETIC = "198.18.0.1"


@pytest.fixture
def redirect() -> Redirect:
    """Where connections were on their way to."""
    return Redirect()


@pytest.fixture
def given() -> Given:
    """What our DNS gave out."""
    return Given()


@pytest.fixture
def make(start: Callable[..., Proxy], origin: Origins, redirect: Redirect, given: Given) -> Callable[..., Site]:
    """The usual site behind a transparent listener, from connections to somewhere else."""

    def begin(**more: object) -> Site:
        site = make_site(start, origin, entrance=redirect.entrance(), given=given, **more)
        redirect.aim(ELSEWHERE, site.port)
        return site

    return begin


@pytest.fixture
def site(make: Callable[..., Site]) -> Site:
    """One of these."""
    return make()


def expect(row: object, verdict: str, lane: str) -> None:
    """The row of an exchange."""
    assert (row.verdict, row.lane) == (verdict, lane)  # type: ignore[attr-defined]


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,), (Mode.TLS2,), (Mode.TUNNEL,))
def test_a_name_inside_is_judged_resolved_and_dialled_and_the_original_address_never(
    site: Site, mode: Mode, carrier: Carrier
) -> None:
    """SNI or Host; whatever the client resolved it to. A secret goes up inside TLS only."""
    with site.serving(mode), site.proxy.connect() as wire:
        assert exchange(site, mode, wire).status == 200
    row, outcome = site.proxy.ledger.only()
    assert (row.host, row.port, outcome.address) == (NAMES.get(mode, HOST), site.port, "127.0.0.1")
    expect(row, "allow", "mitm" if carrier is Carrier.MITM else "tunnel" if mode is Mode.TUNNEL else "http")
    assert (SECRET.encode() in site.received) == (mode in {Mode.TLS1, Mode.TLS2})


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,), (Mode.TLS2,), (Mode.TUNNEL,), (Mode.TCP,))
def test_an_address_that_was_given_out_stands_for_its_name(
    site: Site, redirect: Redirect, given: Given, mode: Mode, carrier: Carrier
) -> None:
    """Also where nothing inside says one: raw TCP."""
    given.names[SYNTHETIC] = NAMES.get(mode, HOST)
    redirect.aim(SYNTHETIC, site.port)
    with site.serving(mode), site.proxy.connect() as wire:
        assert exchange(site, mode, wire).status == 200
    row, outcome = site.proxy.ledger.only()
    assert (row.verdict, row.host, outcome.address) == ("allow", NAMES.get(mode, HOST), "127.0.0.1")
    assert row.lane == "mitm" or carrier is Carrier.FRONT or mode is Mode.TCP


def test_an_address_that_stands_for_no_name_is_refused(site: Site, redirect: Redirect) -> None:
    """It leads nowhere by itself: what stood for a name is not a destination."""
    redirect.aim(SYNTHETIC, site.port)
    with site.proxy.connect() as wire:
        assert wire.send(b"GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n").reply().reason == "name-not-resolved"
    row = site.proxy.ledger.only()[0]
    assert (row.verdict, row.reason, row.host) == ("deny", "name-not-resolved", SYNTHETIC)


def test_a_name_that_was_given_to_another_sandbox_is_not_told(site: Site, redirect: Redirect, given: Given) -> None:
    """In no page and no certificate: who tries the addresses of the range learns of nobody's names. The row has it."""
    given.names[SYNTHETIC] = "of-another.test"
    redirect.aim(SYNTHETIC, site.port)
    with site.proxy.connect() as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        plain = wire.reply()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=site.proxy.authority.certificate_pem.decode())
    with site.proxy.connect() as wire:
        secured = context.wrap_socket(wire.carrier)
        certificate = secured.getpeercert(binary_form=True) or b""
        with Wire(secured) as inside:
            page = inside.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").reply()
    for told in (plain, page):
        assert (told.reason, told.problem["destination"]) == ("host-not-allowed", f"{SYNTHETIC}:{site.port}")
        assert b"of-another" not in told.whole
    assert b"of-another" not in certificate
    assert {(row.reason, row.host) for row in site.proxy.ledger.wait(2)} == {("host-not-allowed", "of-another.test")}


def test_a_name_that_is_the_client_s_to_ask_for_is_told(site: Site, redirect: Redirect, given: Given) -> None:
    """It is refused at this port alone, and its client knows it anyway."""
    given.names[SYNTHETIC] = HOST
    redirect.aim(SYNTHETIC, 81)
    with site.proxy.connect() as wire:
        page = wire.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()).reply()
    assert page.problem["destination"] == f"{HOST}:81"
    assert site.proxy.ledger.only()[0].verdict == "deny"


def test_where_nobody_can_say_what_an_address_stands_for_nothing_passes(
    site: Site, redirect: Redirect, given: Given
) -> None:
    """A fault is a refusal."""
    given.failing = True
    redirect.aim(SYNTHETIC, site.port)
    with site.proxy.connect() as wire:
        assert wire.send(b"GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n").reply().reason == "internal-error"
    assert site.proxy.ledger.only()[0].reason == "internal-error"


def test_what_is_said_inside_must_be_the_name_that_was_given_out(site: Site, redirect: Redirect, given: Given) -> None:
    """By Host: a page. By SNI: a page inside TLS, under the name that the client wants."""
    given.names[SYNTHETIC] = HOST
    redirect.aim(SYNTHETIC, site.port)
    with site.proxy.connect() as wire:
        page = wire.send(f"GET / HTTP/1.1\r\nHost: {RAW}:{site.port}\r\n\r\n".encode()).reply()
        assert page.reason == "name-mismatch"
    with site.proxy.connect() as wire, site.proxy.secure(wire, RAW, "http/1.1") as inside:
        assert inside.send(f"GET / HTTP/1.1\r\nHost: {RAW}\r\n\r\n".encode()).reply().reason == "name-mismatch"
    assert {row.reason for row in site.proxy.ledger.wait(2)} == {"name-mismatch"}
    assert not site.origin.connections


def test_a_connection_keeps_the_name_that_it_began_with(site: Site) -> None:
    """The next request on it names somebody else, who is allowed, too: refused."""
    with site.serving(Mode.PLAIN), site.proxy.connect() as wire:
        assert exchange(site, Mode.PLAIN, wire).status == 200
        page = wire.send(f"GET / HTTP/1.1\r\nHost: {TUNNELLED}:{site.port}\r\n\r\n".encode()).reply()
        assert page.reason == "name-mismatch"


def test_a_name_that_is_not_allowed_gets_a_page_in_what_it_speaks(site: Site) -> None:
    """HTTP, or TLS with our leaf; HTTP/2 alone gets an alert. Nothing is resolved or dialled."""
    with site.proxy.connect() as wire:
        page = wire.send(f"GET / HTTP/1.1\r\nHost: other.test:{site.port}\r\n\r\n".encode()).reply()
        assert (page.status, page.reason) == (403, "host-not-allowed")
    with site.proxy.connect() as wire:
        assert wire.send(f"HEAD / HTTP/1.1\r\nHost: other.test:{site.port}\r\n\r\n".encode()).rest().endswith(b"\n\r\n")
    with site.proxy.connect() as wire, site.proxy.secure(wire, "other.test") as inside:
        assert inside.send(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").reply().reason == "host-not-allowed"
    with site.proxy.connect() as wire, pytest.raises(ssl.SSLError, match="ALERT_ACCESS_DENIED"):
        site.proxy.secure(wire, "other.test", "h2")
    with site.proxy.connect() as wire, pytest.raises(ssl.SSLCertVerificationError):
        site.proxy.secure(wire, "other.test", ca=site.origin._authority.ca_file.read_bytes())
    rows = site.proxy.ledger.wait(5)
    assert {(row.reason, row.host, row.road) for row in rows} == {("host-not-allowed", "other.test", "transparent")}
    assert not site.origin.connections


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses of this machine are as good as any other, so that the test's origin can be one."""
    monkeypatch.setattr(transparent, "is_local", lambda _: False)


def literal(start: Callable[..., Proxy], redirect: Redirect, origin: Origins, protocol: str, **more: object) -> Site:
    """A proxy that allows the origin's range."""
    port = port_of(origin)
    rule = f"{{allow: 127.0.0.0/8, ports: [{port}], protocol: {protocol}}}"
    redirect.aim("127.0.0.1", port)
    proxy = start(f"version: 1\nrules: [{rule}]\n", HOST, entrance=redirect.entrance(), **more)
    return Site(proxy, origin, port)


@pytest.mark.usefixtures("near")
@carried("mode", (Mode.PLAIN,), (Mode.TLS1,), (Mode.TCP,))
def test_without_a_name_the_address_is_the_destination(
    start: Callable[..., Proxy], redirect: Redirect, origin: Origins, mode: Mode
) -> None:
    """Judged by a rule for its range: HTTP that names it, TLS without SNI, raw TCP."""
    protocol = "tcp" if mode is Mode.TCP else "[http, https]"
    site = literal(start, redirect, origin, protocol)
    with site.serving(mode), site.proxy.connect() as wire:
        if mode is Mode.TLS1:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.load_verify_locations(cadata=site.proxy.authority.certificate_pem.decode())
            with Wire(context.wrap_socket(wire.carrier)) as inside:
                inside.send(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n\r\n".encode())
                inside.reply()
        else:
            reply = wire.send(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n\r\n".encode()).reply()
            assert reply.status == 200
    row = site.proxy.ledger.only()[0]
    assert (row.verdict, row.host) == ("allow", "127.0.0.1")


@pytest.mark.usefixtures("near")
def test_a_name_counts_more_than_an_allowed_address(
    start: Callable[..., Proxy], redirect: Redirect, origin: Origins
) -> None:
    """SNI and Host of somebody else, on the way to an address that is allowed: judged as somebody else."""
    site = literal(start, redirect, origin, "[http, https]")
    with site.proxy.connect() as wire:
        assert wire.send(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").reply().reason == "host-not-allowed"
    with site.proxy.connect() as wire, site.proxy.secure(wire, "other.test", "http/1.1") as inside:
        assert inside.send(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").reply().reason == "host-not-allowed"
    assert not site.origin.connections


FORGED = [
    ("another address", "Host: 10.0.0.1", "name-mismatch"),
    ("an address that libc reads so", "Host: 127.1", "host-invalid"),
    ("another port", "Host: ok.test:1", "name-mismatch"),
    ("no host", "X: y", "request-malformed"),
    ("two", "Host: ok.test\r\nHost: other.test", "request-malformed"),
]


@pytest.mark.parametrize(("field", "reason"), [row[1:] for row in FORGED], ids=[row[0] for row in FORGED])
def test_what_names_no_one_destination_is_refused(site: Site, field: str, reason: str) -> None:
    """With its page."""
    with site.proxy.connect() as wire:
        assert wire.send(f"GET / HTTP/1.1\r\n{field}\r\n\r\n".encode()).reply().reason == reason
    assert site.proxy.ledger.only()[0].verdict == "deny"
    assert not site.origin.connections


SENT = [b"\x00\x01", b"\x05\x01\x00", b"SSH-2.0-x\r\n", b"get / HTTP/1.1\r\n\r\n"]


@pytest.mark.parametrize("sent", SENT, ids=["bytes", "socks", "ssh", "lower case"])
def test_what_is_neither_http_nor_tls_is_judged_as_its_address_and_reset(site: Site, sent: bytes) -> None:
    """At once, also where it comes in two segments: no client of another protocol reads pages."""
    for segments in ((sent,), (sent[:1], sent[1:])):
        with site.proxy.connect() as wire:
            for segment in segments:
                wire.send(segment)
            # Whichever call comes after the reset is the one that it ends.
            assert wire.ended or was_reset(wire)
    rows = site.proxy.ledger.wait(2)
    assert {(row.verdict, row.reason, row.host) for row in rows} == {("deny", "address-not-allowed", ELSEWHERE)}


def test_who_says_nothing_is_refused_in_time(make: Callable[..., Site]) -> None:
    """On record, with where it was on its way to; never a hang. Half a hello or half a head alike."""
    site = make(limits=QUICK)
    for sent in (b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nHo"):
        assert is_reset(site.proxy, sent)
    rows = site.proxy.ledger.wait(3)
    assert {(row.reason, row.host, row.port) for row in rows} == {("limit-time", ELSEWHERE, site.port)}


@pytest.mark.usefixtures("near")
def test_where_only_raw_tcp_may_pass_nothing_is_waited_for(
    start: Callable[..., Proxy], redirect: Redirect, origin: Origins
) -> None:
    """The server may be the first to speak: its address is dialled before the client says anything."""
    site = literal(start, redirect, origin, "tcp")
    with site.proxy.connect():
        wait_until(lambda: bool(site.proxy.ledger.decisions), "a decision")
        assert site.proxy.ledger.decisions[0].verdict == "allow"


STRAIGHT = [("nobody knows", None), ("here", "127.0.0.1"), ("everywhere", "0.0.0.0"), ("mapped", "::ffff:127.0.0.1")]


@pytest.mark.parametrize("address", [row[1] for row in STRAIGHT], ids=[row[0] for row in STRAIGHT])
def test_a_connection_that_was_redirected_from_nowhere_else_is_refused(
    site: Site, redirect: Redirect, address: str | None
) -> None:
    """Straight to the listener, or to another address of this machine: it would come back, or is nobody's business."""
    redirect.to = None
    if address is not None:
        redirect.aim(address, site.port)
    with site.proxy.connect() as wire:
        page = wire.send(f"GET / HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode()).reply()
        assert (page.status, page.reason) == (403, "address-is-proxy")
    assert site.proxy.ledger.only()[0].reason == "address-is-proxy"
    assert not site.origin.connections


def test_a_port_that_is_none_is_refused(site: Site, redirect: Redirect) -> None:
    """No connection has it; if one had, it would lead nowhere."""
    redirect.aim(ELSEWHERE, 0)
    assert is_reset(site.proxy, b"\0")
    assert site.proxy.ledger.wait(1)[0].verdict == "deny"


def test_a_name_that_leads_to_the_proxy_is_refused(start: Callable[..., Proxy], redirect: Redirect) -> None:
    """A loop by the name inside."""
    rule = f"{{allow: {HOST}, ports: [1-65535], protocol: http, {LOOPBACK}}}"
    proxy = start(f"version: 1\nrules: [{rule}]\n", HOST, entrance=redirect.entrance())
    port = proxy.address[1]
    redirect.aim(ELSEWHERE, port)
    with proxy.connect() as wire:
        assert wire.send(f"GET / HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode()).reply().reason == "address-is-proxy"


def test_only_its_place_says_who_a_client_is(start: Callable[..., Proxy], origin: Origins, redirect: Redirect) -> None:
    """A token inside is a field like any other, and a page asks for none."""
    own = SandboxDefinition(Sandbox("key"), token=hash_token(b"0" * 32))
    near = SandboxDefinition(Sandbox("near"), (ip_network("127.0.0.0/8"),))
    said = base64.b64encode(b"key:" + b"0" * 32).decode()
    for sandbox, reason in ((own, "sandbox-unknown"), (near, None)):
        site = make_site(start, origin, entrance=redirect.entrance(), sandboxes=(sandbox,))
        redirect.aim(ELSEWHERE, site.port)
        with site.serving(Mode.PLAIN), site.proxy.connect() as wire:
            fields = f"Host: {HOST}:{site.port}\r\nProxy-Authorization: Basic {said}"
            page = wire.send(f"GET / HTTP/1.1\r\n{fields}\r\n\r\n".encode()).reply()
        assert (page.status, page.reason) == ((403, reason) if reason else (200, None))
        assert page.field("proxy-authenticate") is None
        assert site.proxy.ledger.only()[0].sandbox == ("unknown" if reason else "near")


def test_a_connection_without_room_is_a_reset(site: Site) -> None:
    """And not a page in the middle of somebody's protocol."""
    site.proxy.front._client_slots = OwnClientSlots(0).of
    assert is_reset(site.proxy)
    assert site.proxy.ledger.only()[0].reason == "limit-connections"


def test_a_reload_cuts_what_it_denies(site: Site) -> None:
    """Idle, after an answer."""
    with site.serving(Mode.PLAIN), site.proxy.connect() as wire:
        assert exchange(site, Mode.PLAIN, wire).status == 200
        wait_until(lambda: not (site.proxy.gate.open or site.proxy.front_gate.open), "the end of the request")
        assert site.proxy.reload("version: 1\n") == 1
        assert wire.receive() == b""


def test_a_client_that_leaves_is_no_refusal(site: Site) -> None:
    """Before its first byte, or in the middle of a hello."""
    for sent in (b"", b"\x16\x03\x01\x02\x00\x01"):
        with site.proxy.connect() as wire:
            wire.send(sent).carrier.shutdown(socket.SHUT_WR)
            wire.rest()
    assert not site.proxy.ledger.decisions


def test_a_hello_that_fills_every_limit_is_refused_at_once(site: Site) -> None:
    """And not looked at again and again until its deadline."""
    hello = b"\x01" + (65_532).to_bytes(3) + bytes(65_532)
    sizes = (16_384, 16_384, 16_384, 16_364)
    sent = b"".join(
        b"\x16\x03\x01" + size.to_bytes(2) + hello[number * 16_384 :][:size] for number, size in enumerate(sizes)
    )
    assert len(sent) == 65_536
    with site.proxy.connect() as wire:
        wire.send(sent + b"\x16")
        wait_until(lambda: bool(site.proxy.ledger.decisions), "the refusal")
    assert site.proxy.ledger.decisions[0].reason == "request-malformed"


def test_a_byte_out_of_band_is_one_of_the_stream(site: Site) -> None:
    """Looked at and read alike: else a byte that was passed over could be there when the rest is read."""
    with site.serving(Mode.PLAIN), site.proxy.connect() as wire:
        wire.carrier.send(b"P", socket.MSG_OOB)
        wire.send(f"UT /x HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode())
        wire.reply()
    assert site.proxy.ledger.only()[0].method == "PUT"


def test_urgent_data_has_nobody_look_again_and_again(
    make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking stops before it, whatever comes behind: the kernel calls that readable all the time."""
    looks: list[None] = []
    ended = peeking._ended

    def look(sock: socket.socket) -> bool:
        looks.append(None)
        return ended(sock)

    monkeypatch.setattr(peeking, "_ended", look)
    site = make(limits=QUICK)
    with site.proxy.connect() as wire:
        wire.send(b"\x16\x03\x01\x02\x00\x01")
        wire.carrier.send(b"!", socket.MSG_OOB)
        wire.send(bytes(64))
        assert was_reset(wire)
    assert site.proxy.ledger.only()[0].reason == "limit-time"
    assert len(looks) < 100
