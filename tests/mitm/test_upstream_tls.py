"""TLS of this lane's own: whose handshake counts as verified, and which protocol a client gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rig.modes import HOST, Mode, Site, make_site

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins
    from rig.proxy import Proxy


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Site:
    """The usual site."""
    return make_site(start, origin)


@pytest.mark.parametrize("mode", [Mode.TLS1, Mode.TLS2])
def test_a_handshake_that_our_context_did_not_verify_gets_no_secret(
    mode: Mode, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS that somebody else made (another addon, a changed context) is TLS that was not verified."""
    from egress.mitm.contexts import TlsContexts

    monkeypatch.setattr(TlsContexts, "is_verifying", lambda *_: False)
    with site.serving(mode):
        reply = site.exchange(mode)
    assert reply.status == 502
    assert site.received == b""


@pytest.mark.parametrize(("offer", "spoken"), [(("h2", "http/1.1"), "h2"), (("http/1.1",), "http/1.1"), ((), None)])
def test_the_client_gets_the_protocol_that_it_offers(site: Site, offer: tuple[str, ...], spoken: str | None) -> None:
    """ALPN by the client's own order, of those that the lane carries."""
    with site.proxy.inside(HOST, site.port, *offer) as wire:
        assert wire.carrier.selected_alpn_protocol() == spoken  # type: ignore[attr-defined]
