"""The servers of the soak's internet, in a process of its own: a name server, HTTP, TLS, HTTP/2, and an echo.

python -m bench.soaking.internet CERTIFICATE KEY

It answers at every address. Each answer to HTTP has in `X-Seen` the hash of the `Authorization` that came, so that a
client of the proxy can tell what was injected on the way; the value itself would be taken out of the answer.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import ssl
import struct
import sys
from typing import Final

import h2.config
import h2.connection
import h2.events
import uvloop

HTTP, TLS, ECHO, DNS = 80, 443, 5432, 53
ZONE: Final = b"\x07example\x03com\x00"
PIECE: Final = b"soak" * 16_384
_WEBSOCKET: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_A, _AAAA = 1, 28


def hashed(value: str) -> str:
    """What `X-Seen` has for a value of `Authorization`."""
    return hashlib.sha256(value.encode()).hexdigest()


def answer(question: bytes) -> bytes:
    """What the name server says: two addresses to each name below example.com, and that no other name exists."""
    end = question.index(b"\x00", 12) + 1
    name, (kind,) = question[12:end], struct.unpack_from(">H", question, end)
    records = b""
    if name.lower().endswith(ZONE) and kind in {_A, _AAAA}:
        data = bytes([93, 184, 216, 34]) if kind == _A else bytes.fromhex("26062800022000010000000000000034")
        records = struct.pack(">HHHIH", 0xC00C, kind, 1, 30, len(data)) + data
    code = 0 if name.lower().endswith(ZONE) else 3
    flags = 0x8180 | code
    return question[:2] + struct.pack(">HHHHH", flags, 1, bool(records), 0, 0) + question[12 : end + 4] + records


class NameServer(asyncio.DatagramProtocol):
    """Answers over UDP."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what answers."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one question."""
        self._transport.sendto(answer(data), addr)  # type: ignore[attr-defined]


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer requests until the client has no more."""
    tls = writer.get_extra_info("ssl_object")
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
        if tls is not None and tls.selected_alpn_protocol() == "h2":
            await _http2(reader, writer)
        else:
            while await _one(reader, writer):
                pass
    writer.close()


async def _one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    length, path = int(fields.get("content-length", 0)), first.split()[1]
    taken = 0
    while taken < length:
        got = await reader.read(min(65_536, length - taken))
        if not got:
            return False
        taken += len(got)
    seen = f"X-Seen: {hashed(fields.get('authorization', ''))}\r\n".encode()
    if path == "/socket":
        key = fields["sec-websocket-key"].encode()
        accepted = base64.b64encode(hashlib.sha1(key + _WEBSOCKET).digest())  # noqa: S324 - RFC 6455 says so
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accepted + b"\r\n\r\n"
        )
        await _frames(reader, writer)
        return False
    if path.startswith("/events/"):
        await _events(writer, seen, int(path.rpartition("/")[2]))
        return False
    size = int(path.rpartition("/")[2]) if path.startswith("/big/") else 0
    told = b"" if size else b"%d bytes taken\n" % taken
    writer.write(b"HTTP/1.1 200 OK\r\n" + seen + b"Content-Length: %d\r\n\r\n" % (size or len(told)) + told)
    while size > 0:
        writer.write(PIECE[:size])
        size -= len(PIECE)
        await writer.drain()
    await writer.drain()
    return True


async def _events(writer: asyncio.StreamWriter, seen: bytes, count: int) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
        + seen
        + b"\r\n"
    )
    for number in range(count):
        event = b"data: %d\n\n" % number
        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        await writer.drain()
        await asyncio.sleep(0.1)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _frames(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        start = await reader.readexactly(2)
        mask = await reader.readexactly(4)
        data = await reader.readexactly(start[1] & 0x7F)
        writer.write(start[:1] + bytes([len(data)]) + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data)))
        await writer.drain()
        if start[0] & 0x0F == 8:
            return


async def _http2(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    connection.initiate_connection()
    writer.write(connection.data_to_send())
    while data := await reader.read(65_536):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                seen = hashed(dict(event.headers).get("authorization", ""))
                fields = [(":status", "200"), ("x-seen", seen), ("content-length", "3")]
                connection.send_headers(event.stream_id, fields)
                connection.send_data(event.stream_id, b"two", end_stream=True)
        writer.write(connection.data_to_send())
        await writer.drain()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speak first, as databases do, then send everything back."""
    with contextlib.suppress(OSError):
        writer.write(b"hello\n")
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def serve(certificate: str, key: str) -> None:
    """Serve until killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2", "http/1.1"])
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(NameServer, local_addr=("9.9.9.9", DNS))
    for host in ("0.0.0.0", "::"):  # noqa: S104 - in a namespace of its own
        await asyncio.start_server(http, host, HTTP, backlog=1024)
        await asyncio.start_server(http, host, TLS, ssl=context, backlog=1024)
        await asyncio.start_server(echo, host, ECHO, backlog=1024)
    print("serves", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(*sys.argv[1:3]))
