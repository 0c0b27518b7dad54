"""Fuzz targets for heads: a request's and a response's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fuzz.laws import check_laws, signature
from fuzz.mutation import cuts_of, mutate
from fuzz.witnesses import (
    check_host_by_llhttp,
    check_request_by_h11,
    check_request_by_llhttp,
    check_response_by_h11,
    check_response_by_llhttp,
)

from egress.gate.naming import Route, name_request
from egress.policy import Host, Refusal
from egress.wire.head import (
    HeadLimits,
    RequestHead,
    ResponseHead,
    TargetForm,
    parse_request_head,
    parse_response_head,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

SMALL = HeadLimits(bytes=300, fields=6, line=120)
ROUTE = Route(Host("a.test"), 443, tls=True)

REQUESTS = (
    b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /a/b%20c?d=e&f[]=g HTTP/1.1\r\nHost: a.test:8080\r\nAccept: */*\r\nX-Y:  \t z \t\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /x HTTP/1.1\r\nhost:[::1]:80\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n0\r\n\r\n",
    b"GET http://a.test:80/x?y HTTP/1.1\r\nHost: a.test:80\r\nConnection: close, x\r\n\r\n",
    b"GET https://a.test HTTP/1.1\r\n\r\n",
    b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nProxy-Connection: keep-alive\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x00",
    b"GET /o HTTP/1.1\r\nHost: a\r\nX: \xe9\xff\r\n\r\n",
)
RESPONSES = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.0 404 Not Found \xe9\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 204\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\nab",
)
PIECES = (
    b"\r\n", b"\r", b"\n", b"\x00", b" ", b"\t", b":", b",", b";", b"\x0b", b"\x7f", b"\x80", b"\xff", b"#", b"\\",
    b"//", b"@", b"%", b"%2e", b"*", b"?", b"[", b"]", b"{", b'"', b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0", b"http/1.1",
    b"GET ", b"CONNECT ", b"OPTIONS ", b"http://", b"\r\nHost: b.test", b"\r\nContent-Length: 5",
    b"\r\nContent-Length: 05", b"\r\nContent-Length: 6", b"\r\nTransfer-Encoding: chunked",
    b"\r\nTransfer-Encoding: identity", b"\r\nExpect: x", b"\r\n ", b"\r\n\t", b" :", b"\r\n\r\n",
    b"\r\nX: " + b"y" * 90, b"0", b"-", b"+", b"_", b"1 200 ", b"\r\nConnection: close", b"\r\nUpgrade: h2c",
)  # fmt: skip

METHODS = (b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"TRACE", b"get", b"M-SEARCH", b"PRI", b"", b"G\tT")
TARGETS = (
    b"/", b"*", b"/x?y", b"http://a.test/", b"http://a.test:80", b"https://a.test:443/x", b"a.test:443", b"//a.test/",
    b"http://b@a.test/", b"/%41%zz", b"/x#y", b"ws://a.test/", b"http://[::1]:8080/", b"http://127.1/", b"",
)  # fmt: skip
VERSIONS = (b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.10", b"")
NAMES = (
    b"Host", b"host", b"Content-Length", b"Transfer-Encoding", b"Expect", b"Connection", b"Upgrade", b"Trailer", b"X-A",
    b"x", b"", b"a b", b"\xe9", b"TE", b"Content_Length",
)  # fmt: skip
VALUES = (
    b"a.test", b"a.test:443", b"b.test", b"5", b"05", b"5, 5", b"chunked", b"Chunked", b"gzip, chunked",
    b"100-continue", b"websocket", b"Upgrade", b"close", b"", b" ", b"\x00", b"a\rb", b"a, b", b"\xff",
    b"[::1]", b"0", b"9" * 20,
)  # fmt: skip
SPACES = (b" ", b" ", b" ", b" ", b"", b"  ", b"\t")
COLONS = (b": ", b": ", b": ", b":", b":\t", b" :", b"")
ENDS = (b"\r\n",) * 12 + (b"\n", b"\r", b"\r\r\n", b"\r\n ", b"\r\n\r\n")


def _fields(chance: Random) -> bytes:
    lines = (
        chance.choice(NAMES) + chance.choice(COLONS) + chance.choice(VALUES) + chance.choice(ENDS)
        for _ in range(chance.randrange(6))
    )
    return b"".join(lines) + chance.choice(ENDS)


@dataclass(frozen=True, slots=True)
class RequestHeads:
    """Heads of requests: the laws, the witnesses, the same head when written anew, and the name that it is given."""

    name: str = "request-heads"
    seeds: tuple[bytes, ...] = REQUESTS

    def generate(self, chance: Random, pool: Sequence[bytes]) -> bytes:
        """A mutant, or lines put together by grammar."""
        if chance.random() < 0.7:
            return mutate(chance, pool, PIECES)
        words = (chance.choice(METHODS), chance.choice(TARGETS), chance.choice(VERSIONS))
        return chance.choice(SPACES).join(words) + chance.choice(ENDS) + _fields(chance)

    def check(self, data: bytes, chance: Random) -> str:
        """Hold one input to everything."""
        limits = SMALL if chance.random() < 0.2 else HeadLimits()
        head = check_laws(
            data, cuts_of(chance, data, 3), lambda part, hint: parse_request_head(part, limits, resume=hint)
        )
        if isinstance(head, RequestHead):
            check_request(head, data)
        return signature(head)


def check_request(head: RequestHead, data: bytes) -> None:
    """Everything that holds of an accepted request head."""
    raw = data[: head.length]
    assert raw.endswith(b"\r\n\r\n")
    assert raw.count(b"\r") == raw.count(b"\n") == raw.count(b"\r\n") == len(head.fields) + 2
    assert not any(byte < 32 and byte not in b"\t\r\n" for byte in raw)
    check_request_by_h11(head, data)
    written = rendered(head)
    check_request_by_llhttp(head, written)
    again = parse_request_head(written)
    assert isinstance(again, RequestHead)
    assert (again.method, again.target, again.fields) == (head.method, head.target, head.fields)
    assert (again.framing, again.host, again.version) == (head.framing, head.host, head.version)
    if head.method == "CONNECT":
        return
    for route in (None, ROUTE):
        named = name_request(head, "s", route)
        if isinstance(named, Refusal):
            continue
        assert (route is None) == (head.target.form is TargetForm.ABSOLUTE), "a target in the form of the other place"
        assert route is None or (named.host, named.port) == (route.host, route.port)
        check_host_by_llhttp(head, named.host.text, named.port)


def rendered(head: RequestHead) -> bytes:
    """A head written anew from what was read of it."""
    target = head.target
    text = target.origin
    if target.form is TargetForm.ABSOLUTE:
        text = f"{target.scheme}://{target.authority}" + ("" if target.path == "*" else target.origin)
    elif target.form is TargetForm.AUTHORITY:
        text = target.authority or ""
    lines = [f"{head.method} {text} HTTP/{head.version}".encode(), *(b": ".join(field) for field in head.fields)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def rendered_response(head: ResponseHead) -> bytes:
    """Likewise of an answer."""
    line = b"HTTP/%b %d %b" % (head.version.encode(), head.status, head.reason)
    return b"\r\n".join([line, *(b": ".join(field) for field in head.fields)]) + b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class ResponseHeads:
    """Heads of answers, as answers to GET and to HEAD."""

    name: str = "response-heads"
    seeds: tuple[bytes, ...] = RESPONSES

    def generate(self, chance: Random, pool: Sequence[bytes]) -> bytes:
        """A mutant, or lines put together by grammar."""
        if chance.random() < 0.7:
            return mutate(chance, pool, PIECES)
        status = b"%d" % chance.choice((100, 101, 103, 200, 204, 206, 301, 304, 404, 500, 999, 99, 1000))
        words = (chance.choice(VERSIONS), status, chance.choice((b"OK", b"", b"a  b", b"\xe9", b"\x00")))
        return chance.choice(SPACES).join(words) + chance.choice(ENDS) + _fields(chance)

    def check(self, data: bytes, chance: Random) -> str:
        """Hold one input to everything."""
        head = check_laws(data, cuts_of(chance, data, 3), lambda part, hint: parse_response_head(part, resume=hint))
        if isinstance(head, ResponseHead):
            raw = data[: head.length]
            assert raw.count(b"\r") == raw.count(b"\n") == raw.count(b"\r\n") == len(head.fields) + 2
            for method in ("GET", "HEAD"):
                check_response_by_h11(head, data, method)
            check_response_by_llhttp(head, rendered_response(head))
        return signature(head)
