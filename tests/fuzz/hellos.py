"""Fuzz target for ClientHellos: the laws, and OpenSSL as a witness of the name that is asked for."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from fuzz.laws import check_laws, signature
from fuzz.mutation import cuts_of, mutate

from egress.wire.client_hello import ClientHello, parse_client_hello

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

PIECES = (
    b"\x16\x03\x01", b"\x16\x03\x03", b"\x00\x00", b"\x00\x01", b"\x00\x05", b"\x01", b"\x03\x03", b"\x03\x04", b"\xff",
    b"\x00\x00\x00\x0b\x00\x09\x00\x00\x06b.test", b"\x00\x10\x00\x05\x00\x03\x02h2", b"\xfe\x0d\x00\x00",
    b"b.test", b"\x00", b"\x15\x03\x03\x00\x02\x02\x28", b"\x14\x03\x03\x00\x01\x01", b".", b"a.test\x00",
)  # fmt: skip


def flight(name: str | None, *, newest: ssl.TLSVersion, alpn: Sequence[str] = ()) -> bytes:
    """The first flight of Python's TLS client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = newest
    if alpn:
        context.set_alpn_protocols(list(alpn))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError


def split(hello: bytes, *sizes: int) -> bytes:
    """The same hello in more records."""
    message, out = hello[5:], b""
    for size in (*sizes, len(message)):
        piece, message = message[:size], message[size:]
        out += hello[:3] + len(piece).to_bytes(2) + piece if piece else b""
    return out


def _seeds() -> tuple[bytes, ...]:
    plain = flight("a.test", newest=ssl.TLSVersion.TLSv1_3, alpn=("h2", "http/1.1"))
    older = flight("a.test", newest=ssl.TLSVersion.TLSv1_2)
    nameless = flight(None, newest=ssl.TLSVersion.TLSv1_2)
    return plain, older, nameless, split(older, 1, 3, 40), split(nameless, 4)


@dataclass(frozen=True, slots=True)
class ClientHellos:
    """Hellos of a real client, mutated."""

    name: str = "client-hellos"
    seeds: tuple[bytes, ...] = field(default_factory=_seeds)

    def generate(self, chance: Random, pool: Sequence[bytes]) -> bytes:
        """A mutant, often with the lengths around it made to fit again, so that the change is reached."""
        data = mutate(chance, pool, PIECES)
        return fitted(data) if chance.random() < 0.6 else data

    def check(self, data: bytes, chance: Random) -> str:
        """Hold one input to everything."""
        hello = check_laws(data, cuts_of(chance, data, 3), lambda part, _: parse_client_hello(part))
        if isinstance(hello, ClientHello):
            told, name = by_openssl(data[: hello.length])
            assert not told or name == hello.sni, "OpenSSL reads another name"
        return signature(hello)


def fitted(data: bytes) -> bytes:
    """One record whose lengths, and its message's, are those of what is in them."""
    body = bytearray(data[9:])
    if len(body) < 40:
        return data
    # The extensions stand behind version, random, session id, suites and compression methods.
    at = 34 + 1 + body[34]
    at += 2 + int.from_bytes(body[at : at + 2])
    at += 1 + (body[at] if at < len(body) else 0)
    if at + 2 <= len(body):
        body[at : at + 2] = min(len(body) - at - 2, 65_535).to_bytes(2)
    return b"\x16\x03\x01" + (len(body) + 4).to_bytes(2) + b"\x01" + len(body).to_bytes(3) + bytes(body)


@cache
def _server() -> tuple[ssl.SSLContext, list[str | None]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    names: list[str | None] = []

    def note(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> int:
        names.append(name)
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    context.sni_callback = note
    return context, names


def by_openssl(hello: bytes) -> tuple[bool, str | None]:
    """Whether OpenSSL read the hello as far as its name, and the name."""
    context, names = _server()
    names.clear()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(hello)
    with contextlib.suppress(ssl.SSLError, UnicodeError):
        context.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
    return (True, names[0]) if names else (False, None)
