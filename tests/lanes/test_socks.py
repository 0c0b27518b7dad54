"""SOCKS5 on the proxy's listener, in all lanes: judged, carried and recorded like a CONNECT, told in its own way."""

from __future__ import annotations

import socket
import struct
import time
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest
from harness.origins import answer_ok
from rig.inside import NAMES, exchange
from rig.ledger import wait_until
from rig.modes import HOST, RAW, Mode, Site, carried, make_site
from rig.proxy import LOOPBACK, SECRET, Carrier, port_of
from rig.socks import Named, answer, ask, greeting, password, request

from egress.config import DenyPage, Limits, SandboxDefinition, UnixListener, hash_token
from egress.policy import Sandbox
from egress.proxy.entrance import Entrance

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.origins import Origins
    from rig.proxy import Proxy

PROXY = Entrance()
QUICK = Limits(audit_seconds=0.2, connect_seconds=1, resolve_seconds=1, head_seconds=0.5, tls_seconds=0.5)
TOKEN = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Site:
    """The usual site, whose proxy speaks SOCKS in both carriers."""
    return make_site(start, origin, entrance=PROXY)


MODES = ((Mode.PLAIN,), (Mode.TLS1,), (Mode.TLS2,), (Mode.TUNNEL,), (Mode.TCP,))


@carried("mode", *MODES)
def test_every_mode_passes_over_socks(site: Site, mode: Mode, carrier: Carrier) -> None:
    """In its lane, with the row that a CONNECT would have; a secret goes up inside TLS only."""
    with site.serving(mode), site.proxy.connect() as wire:
        assert ask(wire, NAMES.get(mode, HOST).encode(), site.port) == 0
        assert exchange(site, mode, wire).status == 200
    row = site.proxy.ledger.only()[0]
    assert (row.verdict, row.host, row.port, row.road) == ("allow", NAMES.get(mode, HOST), site.port, "socks")
    unopened = mode in {Mode.TUNNEL, Mode.TCP}
    # What may be the server's turn to speak is carried where it was accepted, whichever lane is forced.
    handed = carrier is Carrier.MITM and mode is not Mode.TCP
    assert row.lane == ("mitm" if handed else "tunnel" if unopened else "http")
    assert (SECRET.encode() in site.received) == (mode in {Mode.TLS1, Mode.TLS2})


def test_socks_passes_over_a_unix_socket(start: Callable[..., Proxy], origin: Origins, tmp_path: Path) -> None:
    """As everything else does."""
    site = make_site(start, origin, entrance=PROXY, listener=UnixListener(str(tmp_path / "proxy.sock")))
    with site.serving(Mode.TLS1), site.proxy.connect() as wire:
        assert ask(wire, HOST.encode(), site.port) == 0
        assert exchange(site, Mode.TLS1, wire).status == 200
    assert site.proxy.ledger.only()[0].client.startswith("unix:uid=")


PORT = 0
ASKED: list[tuple[str, Named, int, int, int, str]] = [
    ("a name that no rule allows", b"other.test", PORT, 1, 2, "host-not-allowed"),
    ("an address that no rule allows", ip_address("192.0.2.1"), PORT, 1, 2, "address-not-allowed"),
    ("an IPv6 address", ip_address("2001:db8::1"), PORT, 1, 2, "address-not-allowed"),
    ("another port", HOST.encode(), 9, 1, 2, "port-not-allowed"),
    ("no port", HOST.encode(), -1, 1, 2, "port-invalid"),
    ("a number that libc reads as an address", b"127.1", PORT, 1, 2, "host-invalid"),
    ("another", b"0x7f.0.0.1", PORT, 1, 2, "host-invalid"),
    ("a NUL", b"ok.test\0.evil.test", PORT, 1, 2, "host-invalid"),
    ("bytes that are no text", b"\xff\xfe", PORT, 1, 2, "host-invalid"),
    ("UTF-8", "ök.test".encode(), PORT, 1, 2, "host-invalid"),
    ("a line break", b"ok.test\r\nX: y", PORT, 1, 2, "host-invalid"),
    ("a space", b"ok.test ", PORT, 1, 2, "host-invalid"),
    ("brackets", b"[::1]", PORT, 1, 2, "host-invalid"),
    ("a name with its port", b"ok.test:80", PORT, 1, 2, "host-invalid"),
    ("the longest name", b"a" * 255, PORT, 1, 2, "host-invalid"),
    ("BIND", HOST.encode(), PORT, 2, 7, "request-malformed"),
    ("UDP ASSOCIATE", HOST.encode(), PORT, 3, 7, "request-malformed"),
    ("a command that nobody knows", HOST.encode(), PORT, 200, 7, "request-malformed"),
]


@pytest.mark.parametrize(
    ("host", "port", "command", "code", "reason"), [row[1:] for row in ASKED], ids=[row[0] for row in ASKED]
)
def test_what_is_not_to_be_reached_is_refused_in_the_words_of_socks(  # noqa: PLR0917 -- one row
    site: Site, host: Named, port: int, command: int, code: int, reason: str
) -> None:
    """With one row, and nothing dialled; what the client sends on goes nowhere."""
    port = {PORT: site.port, -1: 0}.get(port, port)
    with site.proxy.connect() as wire:
        wire.send(greeting(0) + request(host, port, command) + b"GET / HTTP/1.1\r\n\r\n")
        assert wire.exactly(2) == b"\5\0"
        assert answer(wire) == code
        assert wire.rest() == b""
    row = site.proxy.ledger.only()[0]
    assert (row.verdict, row.reason) == ("deny", reason)
    assert not site.origin.connections


LITERALS: list[Named] = [b"127.0.0.1", ip_address("127.0.0.1"), ip_address("::ffff:127.0.0.1"), b"::ffff:127.0.0.1"]


@pytest.mark.parametrize("host", LITERALS, ids=str)
def test_an_address_is_judged_as_an_address_however_it_is_written(
    start: Callable[..., Proxy], origin: Origins, host: Named
) -> None:
    """By a rule for its range; one for a name that has the address opens nothing."""
    port = port_of(origin)
    rule = f'{{allow: "127.0.0.0/8", ports: [{port}], protocol: [http, tcp]}}'
    site = Site(start(f"version: 1\nrules: [{rule}]\n", HOST, entrance=PROXY), origin, port)
    with origin.behaving(answer_ok), site.proxy.connect() as wire:
        assert ask(wire, host, port) == 0
        assert wire.send(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()).reply().status == 200
    assert site.proxy.ledger.only()[0].host == "127.0.0.1"
    names = Site(make_site(start, origin, entrance=PROXY).proxy, origin, port)
    with names.proxy.connect() as wire:
        assert ask(wire, host, port) == 2


@pytest.mark.parametrize("mode", [Mode.TLS1, Mode.TCP])
def test_messages_may_come_in_pieces_or_all_at_once(site: Site, mode: Mode) -> None:
    """Each is consumed exactly: what is sent on before the answer is the destination's."""
    host = NAMES.get(mode, HOST).encode()
    with site.serving(mode):
        with site.proxy.connect() as wire:
            for byte in greeting(0, 1) + request(host, site.port):
                wire.send(bytes([byte]))
                time.sleep(0.002)
            assert wire.exactly(2) == b"\5\0"
            assert answer(wire) == 0
            assert exchange(site, mode, wire).status == 200
        with site.proxy.connect() as wire:
            early = f"GET /x HTTP/1.1\r\nHost: {RAW}\r\n\r\n".encode() if mode is Mode.TCP else b""
            wire.send(greeting(0) + request(host, site.port) + early)
            assert wire.exactly(2) == b"\5\0"
            assert answer(wire) == 0
            assert (wire.reply() if early else exchange(site, mode, wire)).status == 200
    assert {row.verdict for row in site.proxy.ledger.wait(2)} == {"allow"}


PIECES = [b"\5", b"\5\2\0", greeting(0) + b"\5\1\0\3\x20ok"]


@pytest.mark.parametrize("pieces", PIECES, ids=["version", "greeting", "request"])
def test_a_message_that_never_ends_meets_its_deadline(
    start: Callable[..., Proxy], origin: Origins, pieces: bytes
) -> None:
    """With a row; who leaves instead leaves none."""
    site = make_site(start, origin, entrance=PROXY, limits=QUICK)
    with site.proxy.connect() as wire:
        wire.send(pieces).carrier.shutdown(socket.SHUT_WR)
        wire.rest()
    wait_until(lambda: not site.proxy.front.connections, "the end")
    assert not site.proxy.ledger.decisions
    with site.proxy.connect() as wire:
        wire.send(pieces)
        wire.rest()
    assert site.proxy.ledger.only()[0].reason == "limit-time"


BROKEN: list[tuple[str, bytes, bytes, str]] = [
    ("SOCKS4", b"\4\1\0\x50\x7f\0\0\1me\0", b"\0\x5b" + bytes(6), "SOCKS4 is not spoken here: SOCKS5 is"),
    ("SOCKS4a", b"\4\1\0\x50\0\0\0\1\0ok.test\0", b"\0\x5b" + bytes(6), "SOCKS4 is not spoken here: SOCKS5 is"),
    ("no method", b"\5\0", b"\5\xff", "the SOCKS greeting names no method of authentication"),
    ("a method that is not spoken", greeting(1, 0x80), b"\5\xff", ""),
    (
        "a request of another version",
        greeting(0) + b"\4\1\0\1\0\0\0\0\0\0",
        b"\5\0\5\1\0\1" + bytes(6),
        "the SOCKS message's version is another than before",
    ),
    (
        "an address of no known type",
        greeting(0) + b"\5\1\0\7aaaaaaaaa",
        b"\5\0\5\x08\0\1" + bytes(6),
        "the SOCKS request names its host in a way that is not known",
    ),
]


@pytest.mark.parametrize(("sent", "told", "detail"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_what_cannot_be_read_is_refused_and_recorded(site: Site, sent: bytes, told: bytes, detail: str) -> None:
    """With the answer of its own version."""
    with site.proxy.connect() as wire:
        assert wire.send(sent).rest() == told
    row = site.proxy.ledger.only()[0]
    assert row.verdict == "deny"
    assert detail in row.detail


def test_the_name_inside_must_be_the_one_that_socks_named(site: Site) -> None:
    """By SNI or Host."""
    with site.proxy.connect() as wire:
        assert ask(wire, HOST.encode(), site.port) == 0
        page = wire.send(f"GET / HTTP/1.1\r\nHost: {RAW}:{site.port}\r\n\r\n".encode()).reply()
        assert page.reason == "name-mismatch"
    with site.proxy.connect() as wire:
        assert ask(wire, HOST.encode(), site.port) == 0
        with pytest.raises(OSError, match=r"ALERT|reset"):
            site.proxy.secure(wire, RAW, "http/1.1")
    assert {row.reason for row in site.proxy.ledger.wait(2)} == {"name-mismatch"}
    assert not site.origin.connections


def test_the_proxy_itself_is_no_destination(start: Callable[..., Proxy]) -> None:
    """However SOCKS names it."""
    rule = "{allow: 127.0.0.0/8, ports: [1-65535], protocol: tcp}"
    proxy = start(f"version: 1\nrules: [{rule}]\n", entrance=PROXY)
    with proxy.connect() as wire:
        assert ask(wire, ip_address("127.0.0.1"), proxy.address[1]) == 2
    assert proxy.ledger.only()[0].reason == "address-is-proxy"


def test_a_dial_that_fails_is_told_by_its_code(start: Callable[..., Proxy]) -> None:
    """Where the client has no answer yet: connection refused, and a name that nobody knows."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    rules = f'{{allow: ["{RAW}:{port}", "unknown.invalid:{port}"], protocol: tcp, {LOOPBACK}}}'
    proxy = start(f"version: 1\nrules: [{rules}]\n", RAW, entrance=PROXY)
    for host, code in ((RAW.encode(), 5), (b"unknown.invalid", 4)):
        with proxy.connect() as wire:
            assert ask(wire, host, port) == code
    row, other = proxy.ledger.wait(2)
    assert (row.verdict, other.reason) == ("allow", "name-not-resolved")
    assert (proxy.ledger.outcome(row).error or "").startswith("upstream-unreachable")


# who a client is


def sandboxed(start: Callable[..., Proxy], origin: Origins, *own: SandboxDefinition) -> Site:
    """The usual host for all, with these sandboxes."""
    port = port_of(origin)
    text = f'version: 1\nrules:\n  - {{allow: "{HOST}:{port}", protocol: [http, https], {LOOPBACK}}}\n'
    return Site(start(text, HOST, entrance=PROXY, sandboxes=own), origin, port)


KEY = SandboxDefinition(Sandbox("key"), token=hash_token(TOKEN))
NEAR = SandboxDefinition(Sandbox("near"), (ip_network("127.0.0.0/8"),))
FAR = SandboxDefinition(Sandbox("far"), (ip_network("192.0.2.0/24"),))
WHO: list[tuple[str, tuple[SandboxDefinition, ...], tuple[int, ...], bytes, bytes, str | None]] = [
    ("name and token", (KEY,), (2,), password(b"key", TOKEN), b"\5\2\1\0", "key"),
    ("both offered", (KEY, NEAR), (0, 2), password(b"key", TOKEN), b"\5\2\1\0", "key"),
    ("another token", (KEY, NEAR), (0, 2), password(b"key", TOKEN[1:]), b"\5\2\1\1", None),
    ("another name", (KEY, NEAR), (0, 2), password(b"kei", TOKEN), b"\5\2\1\1", None),
    ("a name that is no text", (KEY,), (2,), password(b"\xff", TOKEN), b"\5\2\1\1", None),
    ("a name with a colon", (KEY,), (2,), password(b"key:" + TOKEN, b"x"), b"\5\2\1\1", None),
    ("an empty name", (KEY,), (2,), b"\1\0\1x", b"\5\2\1\1", None),
    ("its place", (KEY, NEAR), (0,), b"", b"\5\0", "near"),
    ("its place, and no token known there", (NEAR,), (0, 2), b"", b"\5\0", "near"),
    ("nothing where a token is needed", (KEY,), (0,), b"", b"\5\xff", None),
    ("nothing, from nowhere", (FAR,), (0,), b"", b"\5\xff", None),
    ("no roster", (), (2,), password(b"any", b"thing"), b"\5\2\1\0", "default"),
]


@pytest.mark.parametrize(
    ("own", "methods", "said", "told", "name"), [row[1:] for row in WHO], ids=[row[0] for row in WHO]
)
def test_a_client_is_who_its_token_says_or_its_place_or_nobody(  # noqa: PLR0917 -- one row
    start: Callable[..., Proxy],
    origin: Origins,
    own: tuple[SandboxDefinition, ...],
    methods: tuple[int, ...],
    said: bytes,
    told: bytes,
    name: str | None,
) -> None:
    """As where HTTP says it: the same sandboxes, by the same words."""
    site = sandboxed(start, origin, *own)
    with site.serving(Mode.PLAIN), site.proxy.connect() as wire:
        wire.send(greeting(*methods) + said)
        assert wire.exactly(len(told)) == told
        if name is not None:
            wire.send(request(HOST.encode(), site.port))
            assert answer(wire) == 0
            assert exchange(site, Mode.PLAIN, wire).status == 200
        else:
            assert wire.rest() == b""
    row = site.proxy.ledger.only()[0]
    assert row.sandbox == (name or "unknown")
    assert row.verdict == ("deny" if name is None else "allow")


def test_a_refusal_may_be_told_inside_tls(start: Callable[..., Proxy], origin: Origins) -> None:
    """Where the configuration says so: SOCKS then says yes, and the page says no."""
    site = make_site(start, origin, entrance=PROXY, deny_page=DenyPage.INSIDE_TLS)
    with site.proxy.connect() as wire:
        assert ask(wire, b"other.test", site.port) == 0
        with site.proxy.secure(wire, "other.test", "http/1.1") as inside:
            assert inside.send(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").reply().reason == "host-not-allowed"
    assert site.proxy.ledger.only()[0].host == "other.test"


def test_many_clients_at_once_are_each_their_own(site: Site) -> None:
    """Nothing of one opening is another's."""
    with site.serving(Mode.TCP):
        wires = [site.proxy.connect() for _ in range(20)]
        for wire in wires:
            wire.send(greeting(0))
        for number, wire in enumerate(wires):
            assert wire.exactly(2) == b"\5\0"
            wire.send(request(RAW.encode() if number % 2 else b"other.test", site.port))
        assert [answer(wire) for wire in wires] == [2, 0] * 10
        for wire in wires:
            wire.close()
    assert sum(row.verdict == "allow" for row in site.proxy.ledger.wait(20)) == 10


def test_a_reset_in_the_middle_takes_nothing_down(site: Site) -> None:
    """The next client is served."""
    for sent in (b"\5", greeting(0), greeting(0) + request(HOST.encode(), site.port)):
        wire = site.proxy.connect().send(sent)
        wire.carrier.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.close()
    with site.serving(Mode.PLAIN), site.proxy.connect() as wire:
        assert ask(wire, HOST.encode(), site.port) == 0
        assert exchange(site, Mode.PLAIN, wire).status == 200
