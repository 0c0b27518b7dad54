"""A CA with name constraints: what it may not sign for is denied with a reason, not by a broken handshake."""

from __future__ import annotations

import ssl
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from rig.modes import HOST, Mode, carried, make_site
from rig.proxy import LOOPBACK
from rig.redirected import ELSEWHERE, Redirect

from egress.certs import Authority, NameConstraints

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.origins import Origins
    from rig.proxy import Proxy


def constrained(*names: str) -> Callable[[Path], Authority]:
    """What makes the CA of a proxy's state folder before the proxy looks for one."""
    return lambda folder: Authority.load_or_create(folder / "ca", constraints=NameConstraints.parse(names))


@carried("mode", (Mode.TLS1,), (Mode.TLS2,))
def test_what_the_ca_may_not_sign_for_is_denied_at_connect(
    mode: Mode, start: Callable[..., Proxy], origin: Origins
) -> None:
    """A 403 that says why, one row, and not a byte to the origin."""
    site = make_site(start, origin, prepare=constrained("corp.example"))
    with site.serving(mode):
        reply = site.exchange(mode)
    assert (reply.status, reply.reason) == (403, "ca-constrained")
    row = site.proxy.ledger.only()[0]
    assert (row.reason, row.host) == ("ca-constrained", HOST)
    assert origin.connections == []


@carried("mode", (Mode.TLS1,), (Mode.TLS2,))
def test_what_the_ca_may_sign_for_is_inspected(mode: Mode, start: Callable[..., Proxy], origin: Origins) -> None:
    """Python's client verifies the constraint too."""
    site = make_site(start, origin, prepare=constrained(HOST.partition(".")[2], "192.0.2.0/24"))
    with site.serving(mode):
        assert site.exchange(mode).status == 200


@carried("mode", (Mode.PLAIN,), (Mode.TUNNEL,), (Mode.TCP,))
def test_what_is_not_opened_needs_no_certificate(mode: Mode, start: Callable[..., Proxy], origin: Origins) -> None:
    """Plain HTTP, a tunnel and raw TCP go on as before."""
    site = make_site(start, origin, prepare=constrained("corp.example"))
    with site.serving(mode):
        assert site.exchange(mode).status == 200


def test_tls_where_none_was_to_be_expected_is_refused_at_its_hello(start: Callable[..., Proxy]) -> None:
    """At port 80 the tunnel stands, for plain HTTP; TLS in it ends with an alert, the same reason on record."""
    text = f'version: 1\nrules:\n  - {{allow: "{HOST}", tls: inspect, {LOOPBACK}}}\n'
    proxy = start(text, HOST, prepare=constrained("corp.example"))
    wire, reply = proxy.tunnel(HOST, 80)
    assert reply.status == 200
    with pytest.raises((ssl.SSLError, OSError)):
        proxy.secure(wire, HOST)
    proxy.until(lambda: bool(proxy.ledger.decisions), "the row")
    row = proxy.ledger.only()[0]
    assert (row.reason, row.host, row.port) == ("ca-constrained", HOST, 80)


def test_a_page_that_no_certificate_can_carry_is_an_alert(
    start: Callable[..., Proxy], origin: Origins, caplog: pytest.LogCaptureFixture
) -> None:
    """And no fault of ours: a sandbox does not fill the log by naming others."""
    redirect = Redirect()
    site = make_site(start, origin, prepare=constrained("corp.example"), entrance=redirect.entrance())
    redirect.aim(ELSEWHERE, 443)
    with site.proxy.connect() as wire, pytest.raises(ssl.SSLError, match="ALERT_ACCESS_DENIED"):
        site.proxy.secure(wire, "other.test", "http/1.1")
    assert site.proxy.ledger.only()[0].reason == "host-not-allowed"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_rotation_lifts_the_constraints(start: Callable[..., Proxy], origin: Origins) -> None:
    """The gate asks the CA of today."""
    site = make_site(start, origin, prepare=constrained("corp.example"))
    with site.serving(Mode.TLS1):
        assert site.exchange(Mode.TLS1).reason == "ca-constrained"
        site.proxy.authority.rotate(keep=timedelta(days=1), constraints=NameConstraints())
        assert site.exchange(Mode.TLS1).status == 200
