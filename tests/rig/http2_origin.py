"""An HTTP/2 server as a behaviour of a recorded origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events

if TYPE_CHECKING:
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
