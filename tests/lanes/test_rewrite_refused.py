"""What a rewritten request may not do: the second judgement, secrets, certificates, paths, loops, other names."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from harness.origins import answer_ok
from rig.faults import fail
from rig.modes import Mode, carried
from rig.proxy import LOOPBACK, SECRET, port_of
from rig.rewriting import ASKED, EVERY, REACHED, ask, policy, serving, went_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins
    from rig.proxy import Proxy


@pytest.fixture
def begin(start: Callable[..., Proxy]) -> Callable[..., Proxy]:
    """Start a proxy that knows an address for REACHED alone."""
    return lambda text: start(text, REACHED, env={"CANARY": SECRET})


@carried("mode", *EVERY)
def test_a_secret_goes_by_the_host_that_is_reached(mode: Mode, begin: Callable[..., Proxy], origin: Origins) -> None:
    """Bound to the name that was asked for alone, it stays here, and so does the client's own header."""
    port = port_of(origin)
    text = policy(port, bound=ASKED, inject="")
    inject = f'allow: ["{REACHED}:{port}", {ASKED}], inject: {{X-Api-Key: "${{canary}}"}},'
    text = text.replace(f'allow: "{REACHED}:{port}",', inject)
    proxy = begin(text)
    with serving(origin, mode):
        assert ask(proxy, mode).status == 200
    assert went_up(origin, mode)[2] == []
    assert "Sent without a secret" in (proxy.ledger.only()[0].detail or "")


@pytest.mark.parametrize("fault", ["expired", "self-signed", "wrong-name"])
@carried("mode", *EVERY)
def test_the_certificate_is_that_of_the_rewritten_host(
    mode: Mode, fault: str, begin: Callable[..., Proxy], origin: Origins
) -> None:
    """It verifies for where the request goes, or nothing is sent there; the page names what was asked for."""
    proxy = begin(policy(port_of(origin)))
    with origin.behaving(answer_ok, fault=fault):
        reply = ask(proxy, mode)
    assert (reply.status, reply.reason) == (502, "upstream-tls")
    assert reply.problem["destination"] == f"{ASKED}:{80 if mode is Mode.PLAIN else 443}"
    assert [bytes(each.received) for each in origin.connections] == [b""]


REFUSED = [
    # what stands for the rewritten host -> why the request is refused
    ("{deny: gateway.test}", "rule-deny"),
    ("{ask: gateway.test}", "approval-required"),
    ("{allow: other.test}", "host-not-allowed"),
    ("{allow: gateway.test}", "port-not-allowed"),
    ('{allow: "gateway.test:PORT"}', "address-not-public"),
    ('{allow: "gateway.test:PORT", addresses: [10.0.0.0/8]}', "address-not-public"),
    ('{allow: "gateway.test:PORT", addresses: [127.0.0.0/8], paths: [/v1/**]}', "path-not-allowed"),
    ('{allow: "gateway.test:PORT", addresses: [127.0.0.0/8], methods: [POST]}', "method-not-allowed"),
    ('{allow: "gateway.test:PORT", addresses: [127.0.0.0/8], protocol: http}', "protocol-not-allowed"),
]


@pytest.mark.parametrize(("gateway", "reason"), REFUSED)
@carried("mode", *EVERY)
def test_a_rewritten_request_is_judged_again(
    gateway: str, reason: str, mode: Mode, begin: Callable[..., Proxy], origin: Origins
) -> None:
    """As what it has become: host, port, path, method, protocol, address. Nothing is sent that is not allowed there."""
    proxy = begin(policy(port_of(origin), gateway=gateway.replace("PORT", str(port_of(origin)))))
    reply = ask(proxy, mode)
    assert (reply.status, reply.reason) == (403, reason)
    assert origin.connections == []
    row, _ = proxy.ledger.only()
    assert (row.host, row.rewritten) == (ASKED, f"https://{REACHED}:{port_of(origin)}/api/v1/chat")
    assert (row.verdict, row.reason) == ("ask" if reason == "approval-required" else "deny", reason)


ESCAPES = [
    "/v1/../admin",
    "/v1/%2e%2e/admin",
    "/v1/..%2fadmin",
    "/v1%2fx",
    "/v1/%252e%252e/admin",
    "/v1//x",
    "/v1/..;/admin",
    "/v1\\..\\admin",
    "/v1/.",
    "/v10",
    "/V1/x",
    "/admin",
    "/",
]


@pytest.mark.parametrize("path", ESCAPES)
@carried("mode", *EVERY)
def test_no_path_leaves_its_prefix(path: str, mode: Mode, begin: Callable[..., Proxy], origin: Origins) -> None:
    """What some server might read as another path, or what is not below the old prefix, is refused."""
    proxy = begin(policy(port_of(origin)))
    reply = ask(proxy, mode, path)
    assert reply.status in {400, 403}
    assert reply.reason in {"path-ambiguous", "path-not-allowed", "request-malformed"}
    assert origin.connections == []


def test_a_rewrite_is_followed_once(begin: Callable[..., Proxy], origin: Origins) -> None:
    """Two rules that send requests to each other's host do so, and no request goes round."""
    port = port_of(origin)
    proxy = begin(f"""
version: 1
rules:
  - {{allow: [{ASKED}, "{ASKED}:{port}"], rewrite: {{scheme: http, host: {REACHED}, port: {port}}}}}
  - {{allow: "{REACHED}:{port}", rewrite: {{host: {ASKED}}}, {LOOPBACK}}}
""")
    with origin.behaving(answer_ok):
        assert ask(proxy, Mode.PLAIN).status == 200
        # The other way: that it is refused for its name alone shows where it went.
        assert proxy.ask(REACHED, port).reason == "name-not-resolved"
    assert went_up(origin, Mode.PLAIN)[0] == f"{REACHED}:{port}"


def test_a_rewrite_to_the_proxy_itself_is_refused(begin: Callable[..., Proxy], origin: Origins) -> None:
    """It would come back as a request of the proxy's own."""
    proxy = begin(policy(port_of(origin), inject=""))
    port = proxy.address[1]
    proxy.reload(policy(port, scheme="http", inject=""))
    reply = ask(proxy, Mode.PLAIN)
    assert (reply.status, reply.reason) == (403, "address-is-proxy")


@pytest.mark.parametrize("host", [REACHED, "other.test"])
def test_the_client_still_names_what_it_asked_for(host: str, begin: Callable[..., Proxy], origin: Origins) -> None:
    """Inside the tunnel, Host is compared with the CONNECT's name, not with where the request will go."""
    proxy = begin(policy(port_of(origin)))
    with proxy.inside(ASKED, 443, "http/1.1") as wire:
        wire.send(f"GET /v1/x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert wire.reply().reason == "name-mismatch"
    assert origin.connections == []


@carried("mode", *EVERY)
def test_a_second_judgement_that_fails_refuses(
    mode: Mode, begin: Callable[..., Proxy], origin: Origins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing goes to either name, and the record has it."""
    proxy = begin(policy(port_of(origin)))
    monkeypatch.setattr(type(proxy.gate.generation.policy), "follow", fail)
    reply = ask(proxy, mode)
    assert (reply.status, reply.reason) == (500, "internal-error")
    assert SECRET.encode() not in reply.whole
    assert origin.connections == []
    assert proxy.ledger.only()[0].reason == "internal-error"


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,))
def test_an_open_connection_to_what_was_asked_is_no_answer_for_the_rewritten_host(
    mode: Mode, start: Callable[..., Proxy], origin: Origins
) -> None:
    """The name that is reached is resolved itself, although a connection to the other one is kept."""
    port = port_of(origin)
    proxy = start(
        f"""
version: 1
rules:
  - {{allow: "{REACHED}:{port}", paths: [/direct], {LOOPBACK}}}
  - {{allow: "{REACHED}:{port}", rewrite: {{host: nowhere.test}}}}
  - {{allow: "nowhere.test:{port}", {LOOPBACK}}}
""",
        REACHED,
    )
    plain = mode is Mode.PLAIN
    with origin.behaving(answer_ok), contextlib.ExitStack() as stack:
        wire = stack.enter_context(proxy.connect() if plain else proxy.inside(REACHED, port, "http/1.1"))
        for path, status in (("/direct", 200), ("/elsewhere", 502), ("/direct", 200)):
            target = f"http://{REACHED}:{port}{path}" if plain else path
            wire.send(f"GET {target} HTTP/1.1\r\nHost: {REACHED}:{port}\r\n\r\n".encode())
            reply = wire.reply()
            assert (reply.status, reply.reason) == (status, "name-not-resolved" if status == 502 else None)
    assert [one.line for each in origin.connections for one in each.requests] == [b"GET /direct HTTP/1.1"] * 2
