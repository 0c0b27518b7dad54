"""What parsing costs: microseconds a head, a ClientHello and a chunk header. Run it with `python bench/wire.py`."""

from __future__ import annotations

import ssl
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from egress.wire.chunked import parse_chunk_header
from egress.wire.client_hello import parse_client_hello
from egress.wire.head import parse_request_head, parse_response_head

if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST = (
    b"POST /v1/messages?beta=true HTTP/1.1\r\n"
    b"Host: api.example.com\r\n"
    b"User-Agent: example-sdk/1.2.3 python/3.13 (linux; x86_64)\r\n"
    b"Accept: application/json\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\n"
    b"Connection: keep-alive\r\n"
    b"Content-Type: application/json\r\n"
    b"Content-Length: 4711\r\n"
    b"Authorization: Bearer placeholder-placeholder-placeholder\r\n"
    b"X-Request-Id: 0b1f6c2e-7f0a-4a53-9d3e-3c1f6b0a9e55\r\n"
    b"X-Client-Info: lang=python; runtime=cpython; os=linux\r\n"
    b"\r\n"
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\n"
    b"Date: Fri, 20 Nov 2026 12:00:00 GMT\r\n"
    b"Content-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n"
    b"Connection: keep-alive\r\n"
    b"Cache-Control: no-store\r\n"
    b"Vary: Accept-Encoding\r\n"
    b"Server: nginx\r\n"
    b"X-Request-Id: 0b1f6c2e-7f0a-4a53-9d3e-3c1f6b0a9e55\r\n"
    b"Strict-Transport-Security: max-age=31536000\r\n"
    b"X-Content-Type-Options: nosniff\r\n"
    b"\r\n"
)
LARGE = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"x-%d: %s\r\n" % (n, b"v" * 600) for n in range(99)) + b"\r\n"
ROUNDS = 5


def client_hello() -> bytes:
    """The bytes that a TLS client sends first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="api.example.com")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError


def measure(name: str, work: Callable[[], object], times: int) -> None:
    """Print the best of several rounds, in microseconds of this thread's CPU time."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.thread_time_ns()
        for _ in range(times):
            work()
        best = min(best, (time.thread_time_ns() - start) / times / 1000)
    sys.stdout.write(f"{name:<42} {best:9.2f} us\n")


def main() -> None:
    """Measure everything."""
    hello = client_hello()
    half = REQUEST[: len(REQUEST) // 2]
    measure("request head, 10 fields", lambda: parse_request_head(REQUEST), 20_000)
    measure("request head, 10 fields, bytearray", lambda: parse_request_head(bytearray(REQUEST)), 20_000)
    measure("request head, half of it", lambda: parse_request_head(half), 20_000)
    measure(f"request head, 100 fields, {len(LARGE) // 1024} KB", lambda: parse_request_head(LARGE), 500)
    measure("response head, 10 fields", lambda: parse_response_head(RESPONSE), 20_000)
    measure(f"ClientHello, {len(hello)} bytes", lambda: parse_client_hello(hello), 10_000)
    measure("chunk header", lambda: parse_chunk_header(b"1f40\r\n"), 50_000)


if __name__ == "__main__":
    main()
