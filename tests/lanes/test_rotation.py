"""Rotating the CA under a running proxy: new connections get the new one, open ones go on, clients trust both."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from rig.modes import HOST, Mode, Site, make_site

from egress.certs import Authority

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins
    from rig.proxy import Proxy

MONTH = timedelta(days=30)


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Site:
    """The usual site."""
    return make_site(start, origin)


def presented(site: Site, trusted: bytes) -> x509.Certificate:
    """The leaf that a client gets which trusts these."""
    with site.proxy.inside(HOST, site.port, "http/1.1", ca=trusted) as wire:
        der = wire.carrier.getpeercert(binary_form=True)  # type: ignore[attr-defined]
        return x509.load_der_x509_certificate(der)


def test_new_connections_get_the_new_ca_and_clients_trust_both(site: Site) -> None:
    """A client with the bundle of today verifies before the proxy takes it over, and after."""
    proxy = site.proxy
    old = proxy.authority.certificate
    turning = Authority.load(proxy.config.ca_dir)
    turning.prepare()
    early = turning.trusted_pem
    presented(site, early).verify_directly_issued_by(old)
    turning.rotate(keep=MONTH)
    for trusted in (early, turning.trusted_pem):
        presented(site, trusted).verify_directly_issued_by(old)
    assert proxy.authority.renew()
    for trusted in (early, turning.trusted_pem):
        presented(site, trusted).verify_directly_issued_by(turning.certificate)


def test_an_open_connection_goes_on(site: Site) -> None:
    """Its handshake is over; what it asks next is answered."""
    request = f"GET /x HTTP/1.1\r\nHost: {HOST}:{site.port}\r\n\r\n".encode()
    with site.serving(Mode.TLS1), site.proxy.inside(HOST, site.port, "http/1.1") as wire:
        wire.send(request)
        assert wire.reply().status == 200
        Authority.load(site.proxy.config.ca_dir).rotate(keep=MONTH)
        assert site.proxy.authority.renew()
        wire.send(request)
        assert wire.reply().status == 200


def test_who_trusts_the_old_ca_alone_is_refused_afterwards(site: Site) -> None:
    """The rotation is real: nothing is signed with the old key any more."""
    old = site.proxy.authority.certificate_pem
    presented(site, old)
    site.proxy.authority.rotate(keep=MONTH)
    with pytest.raises(OSError, match="verify failed"):
        presented(site, old)
