"""What an upstream answers: malformed framing, redirects, tunnels that nobody asked for, bad certificates, echoes."""

from __future__ import annotations

import base64
import hashlib
import re
import struct
import zlib
from typing import TYPE_CHECKING

from harness.origins import answer_raw

from corpus_runner.cases import CANARY
from corpus_runner.evidence import judge
from corpus_runner.policies import ENVIRONMENT, INJECT, INJECT_WEBSOCKET
from corpus_runner.scripts import script
from corpus_runner.wire import again, ask, observe

if TYPE_CHECKING:
    from harness.attacker import Attacker
    from harness.origins import Stream
    from harness.world import World

    from corpus_runner.cases import Case


@script("H1FRAMING-042", "H1FRAMING-043", "H1FRAMING-045", "H1FRAMING-046")
def malformed_response(world: World, case: Case) -> None:
    """An answer with two lengths, or a body where there is none, poisons nothing that comes after."""
    proxy = world.proxy(INJECT, ENVIRONMENT)
    answer = (case.text("response") or "").encode("latin-1")
    got: list[bytes] = []

    def act(client: Attacker) -> None:
        with world.origins.behaving(answer_raw(answer)):
            got.append(ask(client))
        if not client.answers.ended:
            got.append(again(client))

    evidence = observe(world, proxy, act, "allow")
    status = re.match(rb"HTTP/1.1 (\d+)", got[0])
    assert status, got
    # Two lengths cannot be repaired. A stray body can be cut off, as long as nothing of it goes anywhere.
    assert int(status[1]) in ({502} if case.id in {"H1FRAMING-042", "H1FRAMING-043"} else {502, 204, 304})
    assert b"hello" not in b"".join(got)
    assert b"okX" not in b"".join(got)
    # Searched for secrets on its way, it may have got chunks.
    assert len(got) == 1 or got[1] == b"" or got[1].endswith((b"ok allowed", b"\r\na\r\nok allowed\r\n0\r\n\r\n"))
    used = [len(seen.requests) for seen in evidence.at("allowed")]
    assert max(used) == 1, "a connection was used again after a malformed answer"
    judge(case, evidence, ["no_canary(client)"])
    later = observe(world, proxy, ask, "allow")
    judge(case, later, ["reaches(allowed)", "audit_row(allow)"])


@script("SECRETREFL-007", "SECRETREFL-008")
def malformed_echo(world: World, case: Case) -> None:
    """The page about a malformed answer is ours: no byte of the answer is in it, nor in the log."""
    proxy = world.proxy(INJECT, ENVIRONMENT)
    answer = (case.text("response") or "").encode("latin-1")
    with world.origins.behaving(answer_raw(answer, close=True)):
        evidence = observe(world, proxy, ask, "allow")
    assert b"HTTP/1.1 502" in evidence.client_bytes
    assert b"bad header" not in evidence.client_bytes
    judge(case, evidence, ["no_canary(client)", "no_canary(audit)", "no_canary(log)"])
    assert str(evidence.rows[0]["error"]).startswith("upstream-malformed")


@script("SECRETREFL-023", "SECRETREFL-024", "SECRETREFL-025", "SECRETREFL-035")
def harmless_echo(world: World, case: Case) -> None:
    """What is no spelling of the secret passes unaltered: a stated limit, and no false alarm."""
    proxy = world.proxy(INJECT, ENVIRONMENT)
    body = {
        "SECRETREFL-023": CANARY[::-1],
        "SECRETREFL-024": " ".join(CANARY),
        "SECRETREFL-025": CANARY.translate(str.maketrans("abcdefghijklmnopqrstuvwxyz", "nopqrstuvwxyzabcdefghijklm")),
        "SECRETREFL-035": CANARY[:-1],
    }[case.id].encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with world.origins.behaving(answer_raw(answer)):
        evidence = observe(world, proxy, ask, "allow")
    # What is searched goes on in pieces of our own.
    assert body in re.sub(rb"\r\n[0-9a-f]+\r\n", b"", evidence.client_bytes)
    judge(case, evidence, ["audit_row(allow)"])


@script("REDIRECT-001", "REDIRECT-002")
def redirect_to_evil(world: World, case: Case) -> None:
    """A redirect is the client's to follow, and its next request is judged anew: no secret, no connection."""
    proxy = world.proxy(INJECT, ENVIRONMENT)
    code, words = ("302 Found", ()) if case.id == "REDIRECT-001" else ("307 Temporary Redirect", ("-d", "a=b"))
    answer = f"HTTP/1.1 {code}\r\nLocation: https://evil.test/\r\nContent-Length: 0\r\n\r\n".encode()
    marks = world.marks()
    env = world.client_env(proxy, world.folder)
    with world.origins.behaving(answer_raw(answer)):
        done = world.namespace.run(["curl", "-sSvL", *words, "https://allowed.test/"], env=env)
    world.settle(marks[0])
    assert "403" in done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert [seen.role for seen in world.origins.since(marks[0])] == ["allowed"]


@script("REDIRECT-005")
def redirect_at_home(world: World, case: Case) -> None:
    """A redirect within the allowed host is followed, with the secret in both requests and a row for each."""
    proxy = world.proxy(INJECT, ENVIRONMENT)

    def move(stream: Stream) -> None:
        while head := stream.request():
            if b"/old" in head.line:
                stream.send(b"HTTP/1.1 302 Found\r\nLocation: /new\r\nContent-Length: 0\r\n\r\n")
            else:
                stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nmoved")

    marks = world.marks()
    with world.origins.behaving(move):
        done = world.namespace.run(
            ["curl", "-sSL", "https://allowed.test/old"], env=world.client_env(proxy, world.folder)
        )
    assert done.stdout == "moved", done.stderr
    heads = [head for seen in world.origins.since(marks[0]) for head in seen.requests]
    assert [head.values(b"authorization") for head in heads] == [[f"Bearer {CANARY}".encode()]] * 2
    assert case.expected == "allow"


@script("REDIRECT-006")
def alternative_services(world: World, case: Case) -> None:
    """Alt-Svc is not passed on: it names ways that we do not guard."""
    answer = b'HTTP/1.1 200 OK\r\nAlt-Svc: h3=":443"; h2="evil.test:443"\r\nContent-Length: 2\r\n\r\nok'
    with world.origins.behaving(answer_raw(answer)):
        evidence = observe(world, world.proxy(INJECT, ENVIRONMENT), ask, "allow")
    assert b"alt-svc" not in evidence.client_bytes.lower()
    judge(case, evidence)


@script("UPGRADETUN-013")
def unsolicited_switch(world: World, case: Case) -> None:
    """A 101 that nobody asked for opens no tunnel."""

    def switch(stream: Stream) -> None:
        if stream.request():
            stream.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw\r\nConnection: Upgrade\r\n\r\nfrom-origin")
            while stream.receive():
                pass

    def act(client: Attacker) -> None:
        ask(client)
        client.send(b"\x00raw bytes of the client")
        client.drain(0.1)

    with world.origins.behaving(switch):
        evidence = observe(world, world.proxy(INJECT_WEBSOCKET, ENVIRONMENT), act)
    assert b"from-origin" not in evidence.client_bytes
    assert not [seen for seen in evidence.connections if b"raw bytes" in seen.received]
    judge(case, evidence, ["no_upstream_conn(evil)", "audit_row(deny)"]) if evidence.rows else None
    assert evidence.rows


@script("UPGRADETUN-018")
def websocket_bomb(world: World, case: Case) -> None:
    """A compressed message that would fill memory does not."""
    proxy = world.proxy(INJECT_WEBSOCKET, ENVIRONMENT)

    def bomb(stream: Stream) -> None:
        head = stream.request()
        if head is None:
            return
        (key,) = head.values(b"sec-websocket-key")
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324 -- RFC 6455
        stream.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        stream.send(b"Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(512)) + squeeze.flush(zlib.Z_SYNC_FLUSH)
        stream.send(b"\xc2\x7f" + struct.pack(">Q", len(packed) - 4) + packed[:-4])
        while stream.receive():
            pass

    def act(client: Attacker) -> None:
        wanted = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
        ask(client, more=wanted + key)
        client.drain(1.0)

    before = proxy.resident() if proxy.address else 0
    with world.origins.behaving(bomb):
        evidence = observe(world, proxy, act, "allow")
    assert proxy.resident() - before < 100 << 20
    judge(case, evidence, ["no_upstream_conn(evil)", "audit_row(*)"])


@script("SECRETINJE-009", "SECRETINJE-010", "SECRETINJE-011", "TAMPER-015")
def unproven_upstream(world: World, case: Case) -> None:
    """No byte of a request goes to a server that does not prove its name, whatever the client trusts."""
    fault = {"SECRETINJE-010": "wrong-name", "SECRETINJE-011": "expired"}.get(case.id, "self-signed")
    from harness.origins import answer_ok

    with world.origins.behaving(answer_ok, fault=fault):
        evidence = observe(world, world.proxy(INJECT, ENVIRONMENT), ask, "allow")
    words = [f"no_canary({where})" for where in ("evil", "client", "log", "audit")]
    judge(case, evidence, ["no_upstream_bytes", "audit_row(deny)", *words])
