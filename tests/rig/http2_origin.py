"""An HTTP/2 server as a behaviour of a recorded origin."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events
import h2.exceptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Stream


def answer_http2(stream: Stream) -> None:
    """Answer every request with 200 and `ok`; what was asked goes to the record's `requests` as fields."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    connection.initiate_connection()
    stream.send(connection.data_to_send())
    while data := stream.receive():
        for event in connection.receive_data(data):
            match event:
                case h2.events.RequestReceived():
                    stream.record.requests.append(event.headers)  # type: ignore[arg-type]
                case h2.events.DataReceived():
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded():
                    connection.send_headers(event.stream_id, [(":status", "200"), ("content-type", "text/plain")])
                    connection.send_data(event.stream_id, b"ok", end_stream=True)
                case _:
                    pass
        stream.send(connection.data_to_send())


def answering(
    fields: list[tuple[str, str]], body: bytes, trailers: list[tuple[str, str]] | None = None, *, pieces: int = 1
) -> Callable[[Stream], None]:
    """Answers every request with these, the body in so many pieces (and no larger ones than a frame may be)."""

    def behave(stream: Stream) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        stream.send(connection.data_to_send())
        size = max(1, min(connection.max_outbound_frame_size, -(-len(body) // pieces)))
        while data := stream.receive():
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    stream.record.requests.append(event.headers)  # type: ignore[arg-type]
                elif isinstance(event, h2.events.StreamEnded):
                    connection.send_headers(event.stream_id, fields)
                    for start in range(0, len(body), size):
                        connection.send_data(event.stream_id, body[start : start + size])
                    if trailers:
                        connection.send_headers(event.stream_id, trailers, end_stream=True)
                    else:
                        connection.end_stream(event.stream_id)
            stream.send(connection.data_to_send())

    return behave


def answer_grpc(stream: Stream) -> None:
    """A gRPC service: each message is sent back as it comes, the status follows in trailers.

    A call of `/pkg.Service/Fail` is answered by trailers alone. As gRPC's own servers do, a call without `te: trailers`
    is refused.
    """
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    connection.initiate_connection()
    stream.send(connection.data_to_send())
    while data := stream.receive():
        for event in connection.receive_data(data):
            match event:
                case h2.events.RequestReceived():
                    stream.record.requests.append(event.headers)  # type: ignore[arg-type]
                    _begin(connection, event.stream_id, dict(event.headers))
                case h2.events.DataReceived():
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    if event.data:
                        connection.send_data(event.stream_id, event.data)
                case h2.events.StreamEnded():
                    with contextlib.suppress(h2.exceptions.ProtocolError):
                        status = [("grpc-status", "0"), ("grpc-message", "fine"), ("x-own", "1")]
                        connection.send_headers(event.stream_id, status, end_stream=True)
                case _:
                    pass
        stream.send(connection.data_to_send())


def _begin(connection: h2.connection.H2Connection, stream_id: int, fields: dict[str, str]) -> None:
    head = [(":status", "200"), ("content-type", "application/grpc")]
    if fields.get("te") != "trailers":
        connection.send_headers(stream_id, [(":status", "400")], end_stream=True)
    elif fields[":path"].endswith("/Fail"):
        connection.send_headers(stream_id, [*head, ("grpc-status", "5")], end_stream=True)
    else:
        connection.send_headers(stream_id, head)
