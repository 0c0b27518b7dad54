"""What a rule's injections came to is remembered, and still goes only where it may go."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from egress.config import EnvSource, FileSource, SecretDefinition
from egress.credentials import CredentialStore, Rendered
from egress.credentials import headers as headers_module
from egress.credentials import store as store_module
from egress.credentials.headers import is_ruled, ruled_names
from egress.policy import (
    Host,
    Injection,
    Protocol,
    Reason,
    Refusal,
    Request,
    SecretRef,
    Target,
    parse_host,
    parse_target,
)

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "canary-4711"
BEARER = (Injection("Authorization", ("Bearer ", SecretRef("github"))),)
PLAIN = (Injection("X-Team", ("blue",)),)


def definition(source: EnvSource | FileSource) -> dict[str, SecretDefinition]:
    """The one secret, bound to one host."""
    target = parse_target("api.example.com")
    assert isinstance(target, Target)
    return {"github": SecretDefinition("github", source, (target,))}


@pytest.fixture
def store() -> CredentialStore:
    """A store with the secret in a variable."""
    return CredentialStore(definition(EnvSource("TOKEN")), env={"TOKEN": CANARY})


def ask(name: str = "api.example.com", port: int = 443, protocol: Protocol = Protocol.HTTPS) -> Request:
    """A request to that destination."""
    host = parse_host(name)
    assert isinstance(host, Host)
    return Request("box", protocol, host, port, "GET", "/")


def value(rendered: Rendered | Refusal) -> str:
    """The one header's value."""
    assert isinstance(rendered, Rendered)
    ((_, secret),) = rendered.headers
    return secret.reveal()


def test_the_same_again_is_the_same_again(store: CredentialStore) -> None:
    """Without any work the second time: the very same value."""
    first = store.render(BEARER, ask(), verified_tls=True)
    assert value(first) == f"Bearer {CANARY}"
    assert store.render(BEARER, ask(), verified_tls=True) is first


@pytest.mark.parametrize(
    ("request_", "unverified"),
    [(ask(), "unverified"), (ask(protocol=Protocol.HTTP), ""), (ask(protocol=Protocol.WS), "")],
)
def test_what_went_over_verified_tls_goes_over_nothing_else(
    store: CredentialStore, request_: Request, unverified: str
) -> None:
    """INVARIANT secret-confinement: that it was sent before opens no other way."""
    value(store.render(BEARER, ask(), verified_tls=True))
    refused = store.render(BEARER, request_, verified_tls=not unverified)
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.CREDENTIAL_INSECURE


@pytest.mark.parametrize("request_", [ask("evil.example"), ask(port=8443), ask("192.0.2.1")])
def test_what_went_to_the_bound_host_goes_to_no_other(store: CredentialStore, request_: Request) -> None:
    """Nor is what another host did not get kept from the bound one."""
    for _ in range(2):
        value(store.render(BEARER, ask(), verified_tls=True))
        other = store.render(BEARER, request_, verified_tls=True)
        assert isinstance(other, Rendered)
        assert (other.headers, other.withheld, other.unbound) == ((), ("Authorization",), ("github",))


def test_another_rules_headers_are_its_own(store: CredentialStore) -> None:
    """Rules for the same host, one after the other; a rule that is gone leaves its place to none."""
    for number in range(50):
        injections = (Injection("Authorization", (f"{number} ", SecretRef("github"))),)
        assert value(store.render(injections, ask(), verified_tls=True)) == f"{number} {CANARY}"
        del injections


def test_a_header_without_a_secret_goes_over_plain_http(store: CredentialStore) -> None:
    """Each time."""
    for _ in range(2):
        for protocol in (Protocol.HTTP, Protocol.HTTPS):
            assert value(store.render(PLAIN, ask(protocol=protocol), verified_tls=False)) == "blue"


def test_a_file_is_looked_at_each_time(tmp_path: Path) -> None:
    """A value that was taken back is not sent again; the next one is."""
    path = tmp_path / "token"
    path.write_text("first")
    old = time.time_ns() - 10_000_000_000
    os.utime(path, ns=(old, old))
    store = CredentialStore(definition(FileSource(path)), env={})
    for _ in range(2):
        assert value(store.render(BEARER, ask(), verified_tls=True)) == "Bearer first"
    path.write_text("second")
    assert value(store.render(BEARER, ask(), verified_tls=True)) == "Bearer second"
    path.unlink()
    refused = store.render(BEARER, ask(), verified_tls=True)
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.CREDENTIAL_UNAVAILABLE


def test_what_is_remembered_is_bounded(store: CredentialStore) -> None:
    """A sandbox that walks through the names of a wildcard rule adds no memory beyond the limit."""
    for number in range(store_module._SETTLED_AT_MOST + 10):
        store.render(BEARER, ask(f"h{number}.example.com"), verified_tls=True)
        assert len(store._settled) <= store_module._SETTLED_AT_MOST


def test_spellings_are_remembered_within_a_bound_and_never_mixed_up() -> None:
    """Thousands of names later each is still taken for the header that servers take it for."""
    ruled = ruled_names(("X-Api-Key",))
    for number in range(headers_module._REMEMBERED_AT_MOST + 10):
        assert not is_ruled(b"X-%d" % number, ruled)
        assert is_ruled(b"x_api.key", ruled)
        assert is_ruled(b"-" * 70 + b"X-Api-Key", ruled)
        assert len(headers_module._FOLDED_NAMES) <= headers_module._REMEMBERED_AT_MOST
    assert all(len(name) <= headers_module._REMEMBERED_LENGTH for name in headers_module._FOLDED_NAMES)
