"""Plays one wire case: exact bytes, a segment each, through the proxy, from an address of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.frames import Http2

from corpus_runner.evidence import gather, wait_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.attacker import Attacker
    from harness.proxy import ProxyProcess
    from harness.world import World

    from corpus_runner.cases import Case
    from corpus_runner.evidence import Evidence

SPECIAL = {
    "metadata": "169.254.169.254",
    "localtest.me": "127.0.0.1",
    "kubernetes.default.svc": "10.96.0.1",
    "host.docker.internal": "172.17.0.1",
    "gateway.docker.internal": "192.168.65.1",
}


def play_http1(case: Case, client: Attacker) -> None:
    """A `h1` spec: perhaps CONNECT, perhaps TLS, then the segments."""
    connect = case.text("connect")
    if connect is not None and not client.connect(connect):
        return
    if case.spec["tls"] and not client.handshake(case.text("sni"), _list(case.spec.get("alpn"))):
        return
    client.segments(case.segments)
    client.response()


def play_http2(case: Case, client: Attacker) -> None:
    """A `h2` spec: CONNECT, TLS with ALPN h2, one stream of unchecked header lists."""
    if not client.connect(case.text("connect") or ""):
        return
    if not client.handshake(case.text("sni"), ["h2"]):
        return
    assert client.alpn == "h2", "the proxy offers no HTTP/2"
    http2 = Http2(client)
    body = case.spec["body"]
    http2.request(
        1, _fields(case.spec["headers"]), None if body is None else str(body).encode(), _fields(case.spec["trailers"])
    )
    answer = http2.wait(1)
    client.answers.inside += f"\n{answer.headers} {answer.trailers} {bytes(answer.body)!r} {answer.reset}".encode(
        "latin-1"
    )


def play_resolve(case: Case, client: Attacker) -> None:
    """A `h1_resolve` spec: a plain request to a name that stands for a special address."""
    client.send(f"GET http://{case.spec['host']}/ HTTP/1.1\r\nHost: {case.spec['host']}\r\n\r\n".encode())
    client.response()


PLAYS: dict[str, Callable[[Case, Attacker], None]] = {
    "h1": play_http1,
    "h2": play_http2,
    "h1_resolve": play_resolve,
}


def play(world: World, proxy: ProxyProcess, case: Case) -> Evidence:
    """Run the case and gather what it left."""
    zone = {name: [f"A {address}"] for name, address in SPECIAL.items()} if case.kind == "h1_resolve" else {}
    world.names.zone.update(zone)
    return observe(world, proxy, lambda client: PLAYS[case.kind](case, client), case.expected)


def observe(
    world: World, proxy: ProxyProcess, act: Callable[[Attacker], object], expected: str = "deny", source: str = ""
) -> Evidence:
    """Let a client of an address of its own act, and gather what that left; the proxy must live through it.

    `expected` is the verdict to wait for in the audit; without one the audit is not looked at.
    """
    source = source or world.fresh_client()
    assert proxy.address
    marks = world.marks()
    with world.attacker(proxy, source) as client:
        act(client)
        client.abort()
        client.drain(0.02)
        answers = client.answers
    evidence = gather(world, proxy, source, marks)
    evidence.client_bytes = answers.everything
    if expected:
        wait_rows(evidence, "allow" if expected == "allow" else "deny")
    assert proxy.alive, proxy.log[-3000:]
    return evidence


def ask(
    client: Attacker, path: str = "/x", *, host: str = "allowed.test", sni: str | None = None, more: bytes = b""
) -> bytes:
    """One GET over TLS through a tunnel to `host`:443; what came back, b"" if it got no further."""
    if not client.connect(f"{host}:443") or not client.handshake(sni or host):
        return b""
    return again(client, path, host=host, more=more)


def again(client: Attacker, path: str = "/x", *, host: str = "allowed.test", more: bytes = b"") -> bytes:
    """One GET more on a connection that is open."""
    client.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n".encode("latin-1") + more + b"\r\n")
    return client.response()


def get(client: Attacker, url: str, host: str, more: bytes = b"") -> bytes:
    """One plain GET through the proxy; what came back."""
    client.send(f"GET {url} HTTP/1.1\r\nHost: {host}\r\n".encode("latin-1") + more + b"\r\n")
    return client.response()


def _list(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _fields(value: object) -> list[tuple[str, str]]:
    return [(str(name), str(text)) for name, text in value] if isinstance(value, list) else []
