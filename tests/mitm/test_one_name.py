"""One name over HTTP/2: :authority, Host and :scheme are those of the tunnel, or nothing reaches any origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rig.modes import HOST, Site, make_site
from rig.wire import head

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins
    from rig.proxy import Proxy


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Site:
    """The usual site."""
    return make_site(start, origin)


@pytest.mark.parametrize(
    "authority", ["evil.test", HOST, f"{HOST}:1", f"{HOST}.", "", f"x@{HOST}", f"{HOST}:443"], ids=repr
)
def test_a_stream_for_another_name_is_refused(site: Site, authority: str) -> None:
    """HTTP/2's :authority is held to the same destination; the next stream goes on."""
    with site.proxy.http2(HOST, site.port, strict=False) as client:
        fields = [(":method", "GET"), (":scheme", "https"), (":path", "/")] if not authority else head(authority)
        reply = client.reply(client.request(fields))
    assert reply.status in {0, 400, 403}
    rows = site.proxy.ledger.wait(1)
    assert rows[0].verdict == "deny"
    assert site.received == b""


def test_a_scheme_that_lies_is_refused(site: Site) -> None:
    """HTTP/2 is spoken inside TLS only; a server may believe `:scheme: http`."""
    with site.proxy.http2(HOST, site.port, strict=False) as client:
        fields = [(name, "http" if name == ":scheme" else value) for name, value in head(f"{HOST}:{site.port}")]
        assert client.reply(client.request(fields)).status in {0, 400}
    assert site.received == b""
    assert site.proxy.ledger.wait(1)[0].verdict == "deny"


def test_host_beside_authority_must_be_the_same(site: Site) -> None:
    """Two names in one HTTP/2 request."""
    with site.proxy.http2(HOST, site.port, strict=False) as client:
        name = f"{HOST}:{site.port}"
        reply = client.reply(client.request([*head(name), ("host", "evil.test")]))
    assert reply.status in {0, 400, 403}
    assert site.received == b""
    assert site.proxy.ledger.wait(1)[0].verdict == "deny"
