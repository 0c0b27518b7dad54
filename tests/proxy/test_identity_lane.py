"""The listener of the identity endpoints: what it answers, to whom, and that nothing passes by it."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
from rig.fixtures import origin, roots, start
from rig.identities import ARM, EMAIL, PROJECT, UNBOUND, VALUES, ask, begin, placeholder, token_of
from rig.modes import HOST
from rig.proxy import Carrier
from rig.wire import Wire

from egress.config import SandboxDefinition
from egress.gate.exchange import Client
from egress.gate.roster import Roster
from egress.policy import Host, Protocol, Reason, Request, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins
    from rig.modes import Site
    from rig.proxy import Proxy

__all__ = ["origin", "roots", "start"]

SERVICE = f"/msi/token?api-version=2019-08-01&resource={ARM}/"
ACCOUNTS = "/computeMetadata/v1/instance/service-accounts"
FLAVOR = "Metadata-Flavor: Google"


@pytest.fixture
def carrier() -> Carrier:
    """The front: it accepts for the listener of the endpoints."""
    return Carrier.FRONT


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Site:
    """A proxy that answers the endpoints."""
    return begin(start, origin)


def test_app_service_gets_a_token_for_who_shows_the_header(site: Site) -> None:
    """A slash at the resource's end makes no difference, and the answer repeats what was asked."""
    reply = ask(site.proxy, SERVICE, f"X-IDENTITY-HEADER: {token_of(site.proxy)}")
    token = json.loads(reply.body)
    assert (token["access_token"], token["resource"]) == (placeholder(site.proxy, "arm"), f"{ARM}/")


def test_containers_get_keys_that_are_of_nobody(site: Site) -> None:
    """Of the form that AWS's have; the secret key is the placeholder, and nothing else tells it."""
    reply = ask(site.proxy, "/aws/credentials", f"Authorization: {token_of(site.proxy)}")
    keys = json.loads(reply.body)
    held = placeholder(site.proxy, "keys")
    assert keys.pop("SecretAccessKey") == held
    assert (len(keys["AccessKeyId"]), keys["AccessKeyId"][:4]) == (20, "ASIA")
    assert keys["AccessKeyId"].isalnum()
    assert held not in json.dumps(keys)
    assert keys["Expiration"].endswith("Z")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/", "computeMetadata/\n"),
        (f"{ACCOUNTS}/", f"default/\n{EMAIL}/\n"),
        (f"{ACCOUNTS}/default/email", EMAIL),
        (f"{ACCOUNTS}/{EMAIL}/scopes", "https://www.googleapis.com/auth/cloud-platform\n"),
        (f"{ACCOUNTS}/default/", "aliases\nemail\nscopes\ntoken\n"),
        ("/computeMetadata/v1/project/project-id", PROJECT),
        ("/computeMetadata/v1/universe/universe-domain", "googleapis.com"),
    ],
)
def test_google_is_told_of_the_account(site: Site, path: str, text: str) -> None:
    """As plain text, with the header by which clients know the server."""
    reply = ask(site.proxy, path, FLAVOR)
    assert (reply.status, reply.body.decode()) == (200, text)
    assert (reply.field("metadata-flavor"), reply.field("content-type")) == ("Google", "application/text")


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        (SERVICE, (), 401),
        (SERVICE, ("X-IDENTITY-HEADER: wrong",), 401),
        (SERVICE, ("X-IDENTITY-HEADER: \xe9",), 401),
        (SERVICE.replace("2019-08-01", "2017-09-01"), ("X-IDENTITY-HEADER: TOKEN",), 400),
        (SERVICE.replace("management", "graph"), ("X-IDENTITY-HEADER: TOKEN",), 400),
        (SERVICE + "&x=1" * 40, ("X-IDENTITY-HEADER: TOKEN",), 400),
        ("/msi/token/", ("X-IDENTITY-HEADER: TOKEN",), 404),
        ("/aws/credentials", (), 401),
        ("/aws/credentials", ("Authorization: Bearer TOKEN",), 401),
        ("/aws/credentials", ("Authorization: TOKEN", "Authorization: TOKEN"), 401),
        (f"{ACCOUNTS}/default/token", (), 403),
        (f"{ACCOUNTS}/somebody@else.example/token", (FLAVOR,), 404),
        ("/elsewhere", (), 404),
    ],
)
def test_what_is_asked_wrongly_is_refused(site: Site, path: str, fields: tuple[str, ...], status: int) -> None:
    """Without a placeholder, with a row."""
    shown = [field.replace("TOKEN", token_of(site.proxy)) for field in fields]
    reply = ask(site.proxy, path, *shown)
    assert reply.status == status
    held = [placeholder(site.proxy, name) for name in ("arm", "vault", "keys", "cloud")]
    assert all(each.encode() not in reply.body for each in held)
    row, _ = site.proxy.ledger.only()
    assert (row.verdict, row.reason, row.lane) == ("deny", "identity-refused", "http")


@pytest.mark.parametrize("host", ["rebound.example", "127.0.0.1", "ok.test:80"])
def test_a_name_that_somebody_else_pointed_here_reads_nothing(site: Site, host: str) -> None:
    """DNS rebinding: a page's own origin is not one of the endpoints."""
    assert ask(site.proxy, f"{ACCOUNTS}/default/token", FLAVOR, host=host).reason == "name-mismatch"


@pytest.mark.parametrize("host", ["metadata.google.internal", "169.254.169.254"])
def test_a_metadata_host_that_is_routed_here_is_answered(site: Site, host: str) -> None:
    """So that clients which take no variable can be served by a route or a redirection."""
    assert ask(site.proxy, f"{ACCOUNTS}/default/token", FLAVOR, host=host).status == 200


def test_the_listener_is_no_proxy(site: Site, origin: Origins) -> None:
    """Neither a whole URL nor a tunnel goes anywhere, though the policy allows the host."""
    where = f"{HOST}:{site.port}"
    for text in (f"GET http://{where}/arm/x HTTP/1.1", f"CONNECT {where} HTTP/1.1", f"POST http://{where}/ HTTP/1.1"):
        with Wire(socket.create_connection(site.proxy.endpoints, timeout=10)) as wire:
            reply = wire.send(f"{text}\r\nHost: {where}\r\n\r\n".encode()).reply()
        assert reply.status in {400, 403}
    assert origin.connections == []
    assert {row.verdict for row in site.proxy.ledger.wait(3)} == {"deny"}


def test_a_connection_takes_several_questions_and_no_more_than_its_limits(site: Site) -> None:
    """Each is a row; what is no HTTP ends it, on record."""
    address, port = site.proxy.endpoints
    asked = f"GET {ACCOUNTS}/default/token HTTP/1.1\r\nHost: {address}:{port}\r\n{FLAVOR}\r\n\r\n".encode()
    with Wire(socket.create_connection(site.proxy.endpoints, timeout=10)) as wire:
        assert [wire.send(asked).reply().status for _ in range(3)] == [200] * 3
        assert wire.send(b"\x16\x03\x01\x00\x00\r\n\r\n").reply().status == 400
    assert [row.verdict for row in site.proxy.ledger.wait(4)] == ["allow"] * 3 + ["deny"]


def test_the_proxy_itself_never_dials_the_listener(start: Callable[..., Proxy], origin: Origins) -> None:
    """Whatever a rule allows, and by whatever name: the address is the proxy's own."""
    site = begin(start, origin, f'  - {{allow: "{UNBOUND}", ports: [1024-65535], addresses: [127.0.0.0/8]}}')
    assert site.proxy.ask(UNBOUND, site.proxy.endpoints[1]).reason == "address-is-proxy"


def test_a_sandbox_is_known_by_its_address(start: Callable[..., Proxy], origin: Origins) -> None:
    """As at the proxy: the row has its name."""
    own = SandboxDefinition(Sandbox("agent"), sources=(ip_network("127.0.0.1/32"),))
    site = begin(start, origin, sandboxes=(own,))
    assert ask(site.proxy, f"{ACCOUNTS}/default/token", FLAVOR).status == 200
    row, _ = site.proxy.ledger.only()
    assert (row.sandbox, row.verdict) == ("agent", "allow")


def test_who_is_no_sandbox_gets_nothing(start: Callable[..., Proxy], origin: Origins) -> None:
    """Refused, on record, and nothing of the configuration is told."""
    own = SandboxDefinition(Sandbox("agent"), sources=(ip_network("192.0.2.1/32"),))
    site = begin(start, origin, sandboxes=(own,))
    reply = ask(site.proxy, f"{ACCOUNTS}/default/token", FLAVOR)
    assert (reply.status, reply.reason) == (403, "sandbox-unknown")
    row, _ = site.proxy.ledger.only()
    assert (row.verdict, row.reason) == ("deny", "sandbox-unknown")


def test_a_sandbox_that_is_gone_gets_nothing(site: Site) -> None:
    """The gate asks for itself: it was known when its head was read, and has been removed since."""
    gate = site.proxy.gate
    gate.generation = replace(gate.generation, roster=Roster(()))
    asked = Request("gone", Protocol.HTTP, Host("metadata.google.internal"), 80, "GET", "/")
    denial = site.proxy.call(gate.answer(Client("gone", "127.0.0.1:1"), asked))
    assert denial.reason is Reason.SANDBOX_UNKNOWN


def test_no_value_of_a_secret_leaves_by_it(site: Site) -> None:
    """Placeholders are all that it knows."""
    shown = token_of(site.proxy)
    asked = [
        (SERVICE, f"X-IDENTITY-HEADER: {shown}"),
        ("/aws/credentials", f"Authorization: {shown}"),
        (f"{ACCOUNTS}/default/token", FLAVOR),
    ]
    told = b"".join(ask(site.proxy, *each).body for each in asked)
    assert all(value.encode() not in told for value in VALUES.values())
