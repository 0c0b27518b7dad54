"""What stays open: server-sent events and WebSocket."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING

from harness.station import KEY
from websockets.sync.client import connect

if TYPE_CHECKING:
    from harness.origins import Stream
    from harness.station import Station

EVENTS = 5


def test_server_sent_events_arrive_one_by_one(station: Station) -> None:
    """Each event is there before the next is sent: nothing waits for the end of the response."""
    arrived = [threading.Event() for _ in range(EVENTS)]

    def events(stream: Stream) -> None:
        if not stream.request():
            return
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\r\n")
        for number, seen in enumerate(arrived):
            stream.send(b"data: %d\n\n" % number)
            if not seen.wait(10):
                return

    window = station.window()
    with station.world.origins.behaving(events), tunnel(station, "stream.test") as tls:
        tls.sendall(b"GET /events HTTP/1.1\r\nHost: stream.test\r\nAccept: text/event-stream\r\n\r\n")
        text = b""
        while text.count(b"data: ") < EVENTS and (more := tls.recv(65536)):
            text += more
            for seen in arrived[: text.count(b"data: ")]:
                seen.set()
    assert text.count(b"data: ") == EVENTS, text
    (seen_request,) = station.world.origins.connections[-1].requests
    assert seen_request.values(b"x-api-key") == [KEY.encode()]
    assert KEY.encode() not in text
    assert window.verdicts(1) == ["allow"]


def _echo_frames(stream: Stream) -> None:
    head = stream.request()
    if head is None:
        return
    (key,) = head.values(b"sec-websocket-key")
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324 -- RFC 6455
    stream.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
    stream.send(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    while data := stream.receive():
        length = data[1] & 127
        mask, body = data[2:6], data[6 : 6 + length]
        plain = bytes(byte ^ mask[at % 4] for at, byte in enumerate(body))
        stream.send(bytes([data[0], length]) + plain)
        if data[0] & 15 == 8:
            return


def test_websocket_messages_pass_both_ways(station: Station) -> None:
    """Messages go and come back; the origin saw the key in the handshake; it is one row."""
    window = station.window()
    with station.world.origins.behaving(_echo_frames):
        tls = tunnel(station, "stream.test")  # so the URL is ws: the socket is inside TLS already
        with connect("ws://stream.test/ws", sock=tls, compression=None) as socket_:
            for text in ("one", "two", "three"):
                socket_.send(text)
                assert socket_.recv(timeout=3) == text
    (seen,) = station.world.origins.connections[-1].requests
    assert seen.values(b"x-api-key") == [KEY.encode()]
    (row,) = window.rows(1)
    assert (row["verdict"], row["status"]) == ("allow", 101)


def test_websocket_to_a_denied_host_is_refused(station: Station) -> None:
    """The tunnel for it is never opened."""
    window = station.window()
    with station.world.namespace.connect(station.proxy.address) as carrier:
        carrier.sendall(b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n")
        assert carrier.recv(65536).startswith(b"HTTP/1.1 403 egress: host-not-allowed")
    assert window.verdicts(1) == ["deny"]


def tunnel(station: Station, host: str) -> ssl.SSLSocket:
    """TLS to `host` through the proxy, its certificate checked against the proxy's CA."""
    carrier = station.world.namespace.connect(station.proxy.address)
    carrier.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head and (more := carrier.recv(4096)):
        head += more
    assert head.startswith(b"HTTP/1.1 200"), head
    context = ssl.create_default_context(cafile=str(station.proxy.ca_file))
    carrier.settimeout(10)
    try:
        return context.wrap_socket(carrier, server_hostname=host)
    except BaseException:
        carrier.shutdown(socket.SHUT_RDWR)
        carrier.close()
        raise
