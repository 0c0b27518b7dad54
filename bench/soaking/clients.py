"""One connection of a sandbox, on each road: sockets in its namespace, HTTP/1.1 and DNS by hand."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import ssl
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bench.soaking.network import GATEWAY, addresses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self

    from bench.soaking.network import Space

A, AAAA = 1, 28
EXPLICIT: Final = 3128
_PATIENCE: Final = 20.0


class WrongError(Exception):
    """An answer that is not the one that had to come."""


def expect(right: object, what: object) -> None:
    """Raise WrongError unless `right`."""
    if not right:
        raise WrongError(str(what)[:300])


@dataclass(frozen=True, slots=True)
class Answer:
    """Of a server, or of the proxy."""

    status: int
    fields: dict[str, str]
    body: bytes = b""
    length: int = 0


@dataclass(slots=True)
class Wire:
    """An open connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, head: str, body: bytes = b"", *, keep: bool = True) -> Answer:
        """Send one request, and read its answer; of a body over 64 KB the length alone is kept."""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        self.writer.write(f"{head}\r\n{length}{'' if keep else 'Connection: close' + chr(13) + chr(10)}\r\n".encode())
        self.writer.write(body)
        await self.writer.drain()
        return await self.answer()

    async def head(self) -> Answer:
        """The head of an answer."""
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        return Answer(int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs})

    async def answer(self) -> Answer:
        """A whole answer."""
        head = await self.head()
        if head.fields.get("transfer-encoding") == "chunked":
            body = b"".join([piece async for piece in self.chunks()])
            return Answer(head.status, head.fields, body, len(body))
        left, body = int(head.fields.get("content-length", 0)), b""
        length = left
        while left > 0:
            got = await self.reader.read(min(left, 65_536))
            expect(got, f"{left} of {length} bytes are missing")
            left -= len(got)
            body = got if length <= 65_536 and not body else (body + got if length <= 65_536 else b"")
        return Answer(head.status, head.fields, body, length)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The pieces of a chunked body, as they come."""
        while size := int(await self.reader.readline(), 16):
            yield (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readline()

    def vanish(self) -> None:
        """Be gone, with a reset, as a process that is killed or a machine that is switched off."""
        sock = self.writer.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await asyncio.wait_for(self.writer.wait_closed(), 5)


@dataclass(slots=True)
class Sandbox:
    """One sandbox: `number` begins with 1."""

    number: int
    space: Space
    asked: dict[str, str] = field(default_factory=dict)

    async def question(self, name: str, kind: int, server: str = "8.8.8.8") -> tuple[int, list[bytes]]:
        """The code and the records' data of an answer over UDP; any server will do."""
        loop = asyncio.get_running_loop()
        sock = self.space.socket(kind=socket.SOCK_DGRAM)
        try:
            await loop.sock_connect(sock, (server, 53))
            labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
            number = secrets.token_bytes(2)
            await loop.sock_sendall(
                sock, number + b"\x01\x00\x00\x01" + bytes(6) + labels + struct.pack(">BHH", 0, kind, 1)
            )
            told = await asyncio.wait_for(loop.sock_recv(sock, 4096), _PATIENCE)
        finally:
            sock.close()
        expect(told[:2] == number, "an answer to another question")
        at, found = 12 + len(labels) + 5, []
        for _ in range(int.from_bytes(told[6:8], "big")):
            at = at + 2 if told[at] >= 0xC0 else told.index(b"\x00", at) + 1
            size = int.from_bytes(told[at + 8 : at + 10], "big")
            found.append(told[at + 10 : at + 10 + size])
            at += 10 + size
        return told[3] & 15, found

    async def resolve(self, name: str) -> str:
        """An address of a name that must have one, of either family in turn."""
        kind, family = (A, socket.AF_INET) if secrets.randbelow(2) else (AAAA, socket.AF_INET6)
        code, found = await self.question(name, kind)
        expect(code == 0 and found, f"{name} has no address ({code})")
        return socket.inet_ntop(family, found[0])

    async def connect(self, address: str, port: int, tls: ssl.SSLContext | None = None, name: str = "") -> Wire:
        """A connection to an address, which is redirected unless it is the gateway's."""
        six = ":" in address
        sock = self.space.socket(socket.AF_INET6 if six else socket.AF_INET)
        try:
            sock.bind((addresses(self.number)[six], 0))
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, (address, port)), _PATIENCE)
            return Wire(*await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=name if tls else None))
        except BaseException:
            sock.close()
            raise

    async def proxied(self) -> Wire:
        """A connection to the explicit proxy."""
        return await self.connect(GATEWAY[secrets.randbelow(2)], EXPLICIT)


async def inside(wire: Wire, tls: ssl.SSLContext, name: str) -> Wire:
    """Begin TLS on an open connection."""
    await wire.writer.start_tls(tls, server_hostname=name)
    return wire


async def socks(wire: Wire, host: str, port: int) -> int:
    """Ask a SOCKS5 proxy for a connection; its reply code."""
    wire.writer.write(b"\x05\x01\x00")
    method = await wire.reader.readexactly(2)
    expect(method == b"\x05\x00", f"SOCKS5 answers {method!r} to a client without a password")
    wire.writer.write(b"\x05\x01\x00\x03" + bytes([len(host)]) + host.encode() + port.to_bytes(2, "big"))
    reply = await wire.reader.readexactly(4)
    await wire.reader.readexactly({1: 6, 4: 18}[reply[3]])
    return reply[1]
