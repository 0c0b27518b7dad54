"""How services are asked: verified, by our own dialling, once, and without a trace of the libraries' messages."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import warnings
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from credentials.clouds.server import Fixed, Reply, serving

from egress.credentials.providers.web import MAX_BODY, Web
from egress.errors import CredentialError

if TYPE_CHECKING:
    from pathlib import Path

    from credentials.clouds.world import World

HOST = "api.service.example"
URL = f"https://{HOST}/v1"


def refused(world: World, url: str = URL, **more: object) -> str:
    """What a call that fails says."""
    with pytest.raises(CredentialError) as caught:
        world.ask("POST", url, **more)
    # The libraries' exceptions quote headers; nothing that walks an error's causes may find one.
    assert "CANARY" not in f"{caught.value!r}{caught.value.__context__!r}{caught.value.__cause__!r}"
    return str(caught.value)


def test_a_service_is_asked_over_tls_at_the_address_that_was_resolved(world: World) -> None:
    """Method, target, fields and body arrive; status, fields (by lower-case name) and body come back."""
    service = world.add(Fixed(Reply(201, {"a": 1}, {"X-Kind": "yes"})), HOST)
    answer = world.ask("PUT", f"{URL}?q=1", headers={"X-Token": "t"}, body=b"hello")
    assert (answer.status, answer.headers["x-kind"], answer.body) == (201, "yes", b'{"a": 1}')
    assert repr(answer) == "<answer 201>"
    [asked] = service.asked
    assert (asked.method, asked.target, asked.headers["host"], asked.body) == ("PUT", "/v1?q=1", HOST, b"hello")
    assert (asked.headers["x-token"], asked.headers["accept-encoding"]) == ("t", "identity")
    assert world.dialled == [(world.names[HOST], 443)]


@pytest.mark.parametrize("fault", ["self-signed", "expired"])
def test_a_certificate_that_is_not_trusted_ends_the_call_before_a_byte_of_it(world: World, fault: str) -> None:
    """No request reaches a server whose certificate was not verified."""
    service = world.add(Fixed(Reply(200)), HOST, fault=fault)
    assert "has no certificate that we trust" in refused(world, headers={"X-Token": "CANARY"})
    assert service.asked == []


def test_a_certificate_for_another_name_is_not_trusted(world: World) -> None:
    """The name in the URL is the one that is verified."""
    service = world.add(Fixed(Reply(200)), HOST)
    world.names["other.example"] = world.names[HOST]
    assert "has no certificate that we trust" in refused(world, "https://other.example/")
    assert service.asked == []


def test_a_redirect_is_an_answer(world: World) -> None:
    """A credential does not follow to where a service points."""
    world.add(Fixed(Reply(302, b"", {"Location": "https://elsewhere.example/"})), HOST)
    elsewhere = world.add(Fixed(Reply(200)), "elsewhere.example")
    assert world.ask("GET", URL).status == 302
    assert elsewhere.asked == []


def test_no_cookie_is_kept(world: World) -> None:
    """What a service sets is gone with its answer."""
    service = world.add(Fixed(Reply(200, b"", {"Set-Cookie": "a=b; Path=/"})), HOST)
    world.ask("GET", URL)
    world.ask("GET", URL)
    assert [asked.headers.get("cookie") for asked in service.asked] == [None, None]


def test_the_environment_names_no_proxy_no_roots_and_no_user(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """HTTPS_PROXY, SSL_CERT_FILE and a netrc are for programs of users."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {HOST} login a password b\n")
    for variable, value in {
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
        "NETRC": str(netrc),
        "SSL_CERT_FILE": "/nowhere",
    }.items():
        monkeypatch.setenv(variable, value)
    service = world.add(Fixed(Reply(200)), HOST)
    assert world.ask("GET", URL).status == 200
    assert "authorization" not in service.asked[0].headers


@pytest.mark.parametrize(("size", "fits"), [(MAX_BODY, True), (MAX_BODY + 1, False)], ids=["a megabyte", "a byte more"])
def test_a_body_is_read_up_to_a_megabyte(world: World, size: int, fits: bool) -> None:  # noqa: FBT001 - a table's column
    """A service that sends without an end does not fill the memory."""
    world.add(Fixed(Reply(200, b"x" * size)), HOST)
    if fits:
        assert len(world.ask("GET", URL).body) == size
    else:
        assert "more than a megabyte" in refused(world)


def test_a_compressed_answer_is_refused(world: World) -> None:
    """A few bytes on the wire could be many in memory."""
    world.add(Fixed(Reply(200, b"x", {"Content-Encoding": "gzip"})), HOST)
    assert "compressed" in refused(world)


def test_half_an_answer_is_none(world: World) -> None:
    """A token that was cut off must not be used."""
    world.add(Fixed(Reply(200, b"half", {"Content-Length": "400"})), HOST)
    assert "gave no answer that can be read" in refused(world, headers={"X-Token": "CANARY"})


def test_a_service_that_says_nothing_ends_in_time(world: World) -> None:
    """A call has its time as a whole, whatever it waits for."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        world.web.seconds = 0.2
        assert "gave no answer in time" in refused(world, f"http://127.0.0.1:{silent.getsockname()[1]}/")


def test_a_header_that_cannot_be_sent_is_not_quoted(world: World) -> None:
    """The HTTP library shows the field that it refuses; we do not."""
    world.add(Fixed(Reply(200)), HOST)
    assert "CANARY" not in refused(world, headers={"X-Token": "CANARY\r\nX: y"})


def test_an_address_that_does_not_answer_and_a_name_without_one(world: World) -> None:
    """Both say which host it was."""
    world.names["closed.example"] = ip_address("198.51.100.250")
    assert "`closed.example` cannot be reached" in refused(world, "https://closed.example/")
    assert "`unknown.example` has no address" in refused(world, "https://unknown.example/")


PLAIN = [
    ("127.0.0.1", True),
    ("[::1]", True),
    ("localhost", True),
    ("169.254.169.254", True),
    ("metadata.example", True),
    ("10.0.0.1", False),
    ("192.0.2.1", False),
    ("[2001:db8::1]", False),
    (HOST, False),
]


@pytest.mark.parametrize(("host", "taken"), PLAIN, ids=[host for host, _ in PLAIN])
def test_plain_http_is_for_this_machines_own_services(world: World, host: str, taken: bool) -> None:  # noqa: FBT001 - a table's column
    """Loopback and link-local, by the address that is dialled: a name that resolves elsewhere is refused."""
    service = Fixed(Reply(200))
    world.add(service, HOST)
    world.names["metadata.example"] = ip_address("169.254.169.254")
    with serving(service.reply) as port:
        for address in ("127.0.0.1", "::1", "169.254.169.254", "10.0.0.1", "192.0.2.1", "2001:db8::1"):
            world.ports[ip_address(address), 80] = port
        world.ports[world.names[HOST], 80] = port
        if taken:
            assert world.ask("GET", f"http://{host}/").status == 200
        else:
            assert "plain http" in refused(world, f"http://{host}/")
            assert world.dialled == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://a.example/",
        "file:///etc/passwd",
        "https://",
        "a.example",
        "https://u:CANARY@a.example/",
        "https://a.example/#CANARY",
        "https://a:b/",
    ],
)
def test_what_is_no_url_of_a_service_is_refused(world: World, url: str) -> None:
    """A password in a URL is not repeated either."""
    world.add(Fixed(Reply(200)), "a.example")
    refused(world, url)
    assert world.dialled == []


def test_an_upstream_proxy_gets_what_goes_over_https_and_the_name_with_it(world: World) -> None:
    """TLS is with the service, inside; the machine's own services are not asked through it."""
    service = world.add(Fixed(Reply(200)), HOST, "192.0.2.9")
    world.add(service, "169.254.169.254", secure=False)
    asked: list[tuple[str, int]] = []

    async def through(host: str, port: int) -> socket.socket | None:
        asked.append((host, port))
        return await world.dial(await world.resolve(host), port)

    world.web.through = through
    assert world.ask("GET", URL).status == 200
    assert world.ask("GET", "http://169.254.169.254/").status == 200
    assert asked == [(HOST, 443)]


def test_nothing_is_logged_at_debug_level(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The libraries would write URLs, and the fields of answers."""
    world.add(Fixed(Reply(200, b"", {"X-Answer": "CANARY"})), HOST)
    with caplog.at_level(logging.DEBUG):
        world.ask("GET", f"{URL}?q=CANARY", headers={"X-Token": "CANARY"})
    assert "CANARY" not in caplog.text
    assert not [record for record in caplog.records if record.name.startswith("http")]


def test_roots_that_cannot_be_loaded_are_named(world: World, tmp_path: Path) -> None:
    """Without trusted certificates nothing is asked."""
    broken = Web(roots=tmp_path / "none.pem", resolve=world.resolve, dial=world.dial)
    with pytest.raises(CredentialError, match=r"none\.pem"):
        asyncio.run(broken.call("GET", URL))


def test_a_call_that_is_given_up_leaves_nothing_open(world: World) -> None:
    """Whenever that is: while it connects, during the handshake, in the middle of the answer."""
    world.add(Fixed(Reply(200, b"x" * 900_000)), HOST)

    async def given_up(seconds: float) -> bool:
        call = asyncio.ensure_future(world.web.call("GET", URL))
        await asyncio.sleep(seconds)
        return call.cancel()

    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        given = [asyncio.run(given_up(moment / 1000)) for moment in range(0, 20, 2)]
        gc.collect()
    assert any(given)
    assert [str(warning.message) for warning in caught] == []
