"""The fixtures of the folders whose tests have a proxy, a recorded origin and a test CA; a conftest imports them."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from harness.authority import TestAuthority

from egress.certs import bundle
from egress.certs.bundle import SYSTEM_BUNDLES, _system_roots
from rig.proxy import Carrier, Proxy, Setup, origin_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from harness.origins import Origins

__all__ = ["carrier", "origin", "roots", "start"]


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    """The CA of the origins' certificates, made once a run."""
    return TestAuthority(tmp_path_factory.mktemp("roots"))


@pytest.fixture
def origin(roots: TestAuthority) -> Iterator[Origins]:
    """A recorded origin on 127.0.0.1, HTTP and TLS on one port."""
    origins = origin_on(roots)
    yield origins
    origins.close()


@pytest.fixture
def carrier() -> Carrier:
    """What carries the connections of `start`."""
    return Carrier.MITM


@pytest.fixture
def start(
    tmp_path: Path, roots: TestAuthority, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Proxy]]:
    """Start proxies; `*.test` names that are given as `names` are pinned to 127.0.0.1. Stopped after the test."""
    monkeypatch.setattr(bundle, "SYSTEM_BUNDLES", (_few_roots(roots.ca_file.with_name("system.pem")),))
    running: list[Proxy] = []

    def begin(policy: str, *names: str, **more: object) -> Proxy:
        pins = {name: (ip_address("127.0.0.1"),) for name in names}
        folder = tmp_path / f"proxy{len(running)}"
        folder.mkdir(mode=0o700)
        usual: dict[str, object] = {"pins": pins, "roots": (roots.ca_file,)}
        proxy = Proxy(folder, Setup(policy, **(usual | more)), carrier)  # type: ignore[arg-type]
        running.append(proxy)
        return proxy

    yield begin
    for proxy in running:
        proxy.close()


def _few_roots(path: Path) -> Path:
    """Some of the system's roots: to load them all takes longer than most tests."""
    if not path.exists():
        path.write_bytes(b"".join(root.public_bytes(Encoding.PEM) for root in _system_roots(SYSTEM_BUNDLES)[:3]))
    return path
