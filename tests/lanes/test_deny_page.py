"""`deny_page: inside-tls`: a CONNECT that is refused is answered with a yes, and the refusal is a page inside.

Only the front tells so: where the mitm lane is forced, it takes connections before their CONNECT.
"""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING

import pytest
from rig.ledger import wait_until
from rig.modes import HOST, Mode, Site, make_site
from rig.proxy import Carrier

from egress.config import DenyPage, Limits, SandboxDefinition, hash_token
from egress.policy import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins
    from rig.proxy import Proxy

pytestmark = pytest.mark.parametrize("carrier", [Carrier.FRONT], indirect=True, ids=["front"])

QUICK = Limits(audit_seconds=0.2, connect_seconds=1, resolve_seconds=1, head_seconds=0.5, tls_seconds=0.5)
GET = b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n"


@pytest.fixture
def make(start: Callable[..., Proxy], origin: Origins) -> Callable[..., Site]:
    """The usual site, whose refusals are told inside."""

    def begin(**more: object) -> Site:
        return make_site(start, origin, deny_page=DenyPage.INSIDE_TLS, **more)

    return begin


@pytest.fixture
def site(make: Callable[..., Site]) -> Site:
    """One of these."""
    return make()


def test_the_page_is_inside_tls_under_the_name_that_was_asked_for(site: Site) -> None:
    """With one row, one answer, and nothing dialled; the connection ends with it."""
    wire, reply = site.proxy.tunnel("other.test", site.port)
    assert reply.status == 200
    with wire, site.proxy.secure(wire, "other.test", "http/1.1") as inside:
        page = inside.send(GET + GET).reply()
        assert (page.status, page.reason, page.field("connection")) == (403, "host-not-allowed", "close")
        assert inside.rest() == b""
    row = site.proxy.ledger.only()[0]
    assert (row.reason, row.host, row.port) == ("host-not-allowed", "other.test", site.port)
    assert page.problem["decision"] == row.id
    assert not site.origin.connections


def test_what_is_not_tls_gets_the_page_in_the_clear_or_a_reset(site: Site) -> None:
    """HTTP in the tunnel, or anything else."""
    wire, reply = site.proxy.tunnel("other.test", site.port)
    assert reply.status == 200
    with wire:
        assert wire.send(GET).reply().reason == "host-not-allowed"
    wire, _ = site.proxy.tunnel("other.test", site.port)
    with wire, pytest.raises(ConnectionResetError):
        wire.send(b"\0\0").carrier.recv(1)
    assert len(site.proxy.ledger.wait(2)) == 2


def test_a_head_request_gets_no_body(site: Site) -> None:
    """As everywhere."""
    wire, _ = site.proxy.tunnel("other.test", site.port)
    with wire, site.proxy.secure(wire, "other.test") as inside:
        inside.send(GET.replace(b"GET", b"HEAD"))
        assert inside.rest().endswith(b"\r\n\r\n")


def test_a_client_that_takes_no_page_gets_an_alert(site: Site) -> None:
    """HTTP/2 alone, or a hello that cannot be read; one that does not trust our CA says so itself."""
    wire, _ = site.proxy.tunnel("other.test", site.port)
    with wire, pytest.raises(ssl.SSLError, match="ALERT_ACCESS_DENIED"):
        site.proxy.secure(wire, "other.test", "h2")
    wire, _ = site.proxy.tunnel("other.test", site.port)
    with wire:
        assert wire.send(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00").rest() == b"\x15\x03\x03\x00\x02\x02\x31"
    wire, _ = site.proxy.tunnel("other.test", site.port)
    with wire, pytest.raises(ssl.SSLCertVerificationError):
        site.proxy.secure(wire, "other.test", ca=site.origin._authority.ca_file.read_bytes())
    assert {row.reason for row in site.proxy.ledger.wait(3)} == {"host-not-allowed"}


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01", b"GET"], ids=["nothing", "hello", "method"])
def test_nobody_is_waited_for_without_end(make: Callable[..., Site], sent: bytes) -> None:
    """No second row either: the refusal has its own."""
    site = make(limits=QUICK)
    wire, _ = site.proxy.tunnel("other.test", site.port)
    with wire:
        wire.send(sent).rest()
    wait_until(lambda: site.proxy.connections == 0, "the end", 10)
    assert site.proxy.ledger.only()[0].reason == "host-not-allowed"


def test_half_a_head_inside_tls_is_not_waited_for_without_end(make: Callable[..., Site]) -> None:
    """As above, behind the handshake."""
    site = make(limits=QUICK)
    wire, _ = site.proxy.tunnel("other.test", site.port)
    began = time.monotonic()
    with wire, site.proxy.secure(wire, "other.test") as inside:
        for _ in range(100):
            inside.send(b"GET / HTTP/1.1\r\nX: y" if inside.ended else b"G")
            if inside.ended or time.monotonic() - began > 5:
                break
            time.sleep(0.05)
    wait_until(lambda: site.proxy.connections == 0, "the end")
    assert site.proxy.ledger.only()[0].reason == "host-not-allowed"


def test_who_must_say_who_it_is_learns_so_from_the_proxy(make: Callable[..., Site]) -> None:
    """The token is sent with CONNECT, never inside."""
    site = make(sandboxes=(SandboxDefinition(Sandbox("key"), token=hash_token(b"0" * 32)),))
    wire, reply = site.proxy.tunnel("other.test", site.port)
    with wire:
        assert (reply.status, reply.reason) == (407, "sandbox-unknown")


def test_a_connect_that_cannot_be_read_is_refused_at_once(site: Site) -> None:
    """There is no name to be inside."""
    with site.proxy.connect() as wire:
        wire.send(b"CONNECT 127.1:443 HTTP/1.1\r\nHost: 127.1:443\r\n\r\n")
        assert wire.reply("CONNECT").reason == "host-invalid"


def test_what_is_allowed_is_as_it_was(site: Site) -> None:
    """In its lane."""
    with site.serving(Mode.TLS1):
        assert site.exchange(Mode.TLS1).status == 200
    assert site.proxy.ledger.only()[0].host == HOST
