"""Origins that send back what they are sent, and every value that is in it, in every form that is to be taken out."""

from __future__ import annotations

import base64
import gzip
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events

from rig.canaries import echoes, found
from rig.planted import CANARIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Stream


def _all_forms(said: bytes) -> list[bytes]:
    """Every form of every value that came, as a server may send it back."""
    return [text for name, value in CANARIES.items() if _came(said, name) for text in echoes(value)]


def _came(said: bytes, name: str) -> bool:
    basic = base64.b64encode(f"git:{CANARIES['file']}".encode())
    return bool(found(said, {name: CANARIES[name]})) or (name == "file" and basic in said)


def echoing(*, coded: bool = False, size: int = 1) -> Callable[[Stream], None]:
    """Sends back what came, and every form of each value in it: before the head, in it, in the body and behind."""

    def behave(stream: Stream) -> None:
        while head := stream.request():
            body = stream.body(head)
            said = head.line + b"\n" + b"\n".join(name + b": " + value for name, value in head.fields) + body
            forms = _all_forms(said)
            rows = b"".join(b"X-Echo-%d: <%s>\r\n" % (index, text) for index, text in enumerate(forms))
            text = said + b"\n" + b"\n".join(forms)
            text = gzip.compress(text) if coded else text
            stream.send(b"HTTP/1.1 103 Early Hints\r\nLink: <%s>\r\n\r\n" % b"|".join(forms)[:4000])
            coding = b"Content-Encoding: gzip\r\n" if coded else b""
            stream.send(b"HTTP/1.1 200 Fine " + b"".join(forms[:1]) + b"\r\n" + rows + coding)
            stream.send(b"Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
            for at in range(0, len(text), size):
                part = text[at : at + size]
                stream.send(b"%x\r\n%s\r\n" % (len(part), part))
            stream.send(b"0\r\n" + rows + b"\r\n")

    return behave


def torn(stream: Stream) -> None:
    """Breaks off in the middle of the first value."""
    head = stream.request()
    if head is None:
        return
    said = head.line + b"\n" + b"\n".join(value for _, value in head.fields) + stream.body(head)
    forms = _all_forms(said) or [b"nothing to tell"]
    stream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4000\r\n\r\n<")
    stream.send(forms[0][: len(forms[0]) - 3])


def echoing_http2(*, coded: bool = False, size: int = 7) -> Callable[[Stream], None]:
    """As `echoing`, over HTTP/2: in fields, data and trailers."""

    def behave(stream: Stream) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        stream.send(connection.data_to_send())
        asked: dict[int, bytearray] = {}
        while data := stream.receive():
            for event in connection.receive_data(data):
                match event:
                    case h2.events.RequestReceived():
                        stream.record.requests.append(event.headers)  # type: ignore[arg-type]
                        fields = "\n".join(f"{name}: {value}" for name, value in event.headers)
                        asked[event.stream_id] = bytearray(fields.encode())
                    case h2.events.DataReceived():
                        asked[event.stream_id] += event.data
                        connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    case h2.events.StreamEnded():
                        _answer(connection, event.stream_id, bytes(asked[event.stream_id]), coded=coded, size=size)
                    case _:
                        pass
            stream.send(connection.data_to_send())

    return behave


def _answer(connection: h2.connection.H2Connection, stream: int, said: bytes, *, coded: bool, size: int) -> None:
    forms = _all_forms(said)
    rows = [(f"x-echo-{index}", f"<{text.decode()}>") for index, text in enumerate(forms)]
    text = said + b"\n" + b"\n".join(forms)
    text = gzip.compress(text) if coded else text
    coding = [("content-encoding", "gzip")] if coded else []
    connection.send_headers(stream, [(":status", "200"), ("content-type", "text/plain"), *coding, *rows])
    for at in range(0, len(text), size):
        connection.send_data(stream, text[at : at + size])
    connection.send_headers(stream, rows or [("x-none", "1")], end_stream=True)
