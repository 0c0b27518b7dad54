"""Faults in the mitm lane's own steps, mitmproxy's hooks: an exception and a hang in each. No request arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from harness.broken import Broken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.world import World

# Every hook that runs before a request's first byte leaves, by what the client does.
BEFORE_TLS = (
    "client_connected",
    "next_layer",
    "http_connect",
    "http_connected",
    "tls_clienthello",
    "tls_start_client",
    "tls_established_client",
    "requestheaders",
    "server_connect",
    "tls_start_server",
    "tls_established_server",
    "egress_upstream_ready",
)
BEFORE_PLAIN = ("client_connected", "next_layer", "requestheaders", "server_connect", "egress_upstream_ready")
# These run when the request is out already: no body may come back, or at least the proxy must live on.
AFTER = ("responseheaders", "response", "error", "client_disconnected", "server_disconnected", "server_connected")

CASES = (
    *((f"{hook}:{how}", "tls") for hook in BEFORE_TLS for how in ("raise", "hang", "late")),
    *((f"{hook}:{how}", "plain") for hook in BEFORE_PLAIN for how in ("raise", "hang")),
    *((f"{hook}:raise", "h2") for hook in ("requestheaders", "server_connect", "egress_upstream_ready")),
)


@pytest.fixture(scope="module")
def broken(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broken]:
    """One such proxy for all cases."""
    made = Broken(world, tmp_path_factory.mktemp("broken"), (), "mitm")
    yield made
    made.set("")
    assert made.proxy.stop() == 0, made.proxy.log[-3000:]


@pytest.mark.parametrize(("fault", "way"), CASES, ids=[f"{fault}-{way}" for fault, way in CASES])
def test_a_broken_hook_lets_nothing_through(broken: Broken, fault: str, way: str) -> None:
    """With the fault no origin sees a byte of a request; without it, the request passes."""
    tried = broken.attempt(fault, way)
    assert not tried.arrived
    assert b"ok allowed" not in tried.got
    assert broken.mended()


@pytest.mark.parametrize("hook", AFTER)
def test_a_hook_that_breaks_after_the_request_ends_only_that_request(broken: Broken, hook: str) -> None:
    """What is out is out; the proxy lives on, and the next request passes. A response is not passed on unjudged."""
    tried = broken.attempt(f"{hook}:raise", "tls")
    if hook == "responseheaders":
        assert b"ok allowed" not in tried.got
    assert broken.mended()
