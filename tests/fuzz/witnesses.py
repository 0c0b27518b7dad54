"""Other parsers as witnesses: what ours accepts, h11 and llhttp read alike, or not at all.

They accept far more than ours does, so a message that only ours accepts, or that they take apart otherwise, is a
finding: some server behind the proxy would act on another request than the one that was judged.
"""

from __future__ import annotations

import contextlib

import h11
import httptools

from egress.policy import Refusal, parse_authority
from egress.wire.head import (
    Chunked,
    ContentLength,
    Framing,
    NoBody,
    Reject,
    RequestHead,
    ResponseHead,
    TargetForm,
    UntilClose,
    Version,
    response_framing,
)

_LONG = 64


def body_for(framing: Framing | UntilClose) -> bytes:
    """A body that the framing calls for; of a long one only the beginning."""
    match framing:
        case NoBody():
            return b""
        case ContentLength(length):
            return b"x" * min(length, _LONG)
        case Chunked():
            return b"1\r\nx\r\n0\r\n\r\n"
        case UntilClose():
            return b"xx"


def ends(framing: Framing | UntilClose) -> bool:
    """Whether `body_for` reaches the body's end."""
    return not isinstance(framing, UntilClose) and not (isinstance(framing, ContentLength) and framing.length > _LONG)


# h11


def _events_after(connection: h11.Connection, framing: Framing | UntilClose) -> list[type]:
    body = body_for(framing)
    if body:
        connection.receive_data(body)
    events: list[type] = []
    while True:
        event = connection.next_event()
        kind = event if isinstance(event, type) else type(event)
        if isinstance(event, h11.Data) and not event.data:
            continue
        events.append(kind)
        if kind in {h11.EndOfMessage, h11.NEED_DATA, h11.PAUSED}:
            return events


def _expected_after(framing: Framing | UntilClose) -> list[type]:
    last = h11.EndOfMessage if ends(framing) else h11.NEED_DATA
    return [h11.Data, last] if body_for(framing) else [last]


def check_request_by_h11(head: RequestHead, data: bytes) -> None:
    """What we accept, h11 accepts, with the same method, target, fields and end of the body."""
    raw = data[: head.length]
    fields = list(head.fields)
    if head.host is None and head.version is Version.HTTP_11:
        raw, fields = raw[:-2] + b"Host: a\r\n\r\n", [*fields, (b"Host", b"a")]
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    server.receive_data(raw)
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert request.method == head.method.encode()
    assert request.target == raw.split(b" ", 2)[1]
    assert request.http_version.decode() == head.version
    # h11 writes the coding in lower case.
    lowered = [(name.lower(), value) for name, value in fields]
    assert list(request.headers) == [(n, v.lower() if n == b"transfer-encoding" else v) for n, v in lowered]
    assert _events_after(server, head.framing) == _expected_after(head.framing)


def check_response_by_h11(head: ResponseHead, data: bytes, method: str) -> None:
    """What we accept of an upstream, h11 accepts, and ends the body at the same byte."""
    framing = response_framing(head, method)
    if isinstance(framing, Reject) or head.status == 101:
        return  # refused, or a tunnel: h11 refuses a 101 that no request asked for
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data[: head.length])
    response = client.next_event()
    assert isinstance(response, h11.InformationalResponse if head.interim else h11.Response)
    assert (response.status_code, response.reason) == (head.status, head.reason)
    if not head.interim:
        assert _events_after(client, framing) == _expected_after(framing)


# llhttp


class _Notes:
    """What llhttp says of the one message that it is fed."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.heads = 0
        self.complete = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.heads:
            self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.heads += 1

    def on_message_complete(self) -> None:
        self.complete += 1


def check_request_by_llhttp(head: RequestHead, raw: bytes) -> None:
    """Where llhttp accepts the head, as it is written anew, it reads the same, and ends the body at the same byte."""
    notes = _Notes()
    parser = httptools.HttpRequestParser(notes)
    switches = head.method == "CONNECT" or head.upgrade
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        assert switches, "llhttp sees a switch of protocols"
    except httptools.HttpParserError:
        return
    assert parser.get_method() == head.method.encode()
    assert notes.url == raw.split(b" ", 2)[1]
    assert notes.fields == list(head.fields)
    assert notes.heads == 1
    if not switches and parser.get_http_version() == head.version:
        _check_end(parser, notes, head.framing)


def check_response_by_llhttp(head: ResponseHead, raw: bytes) -> None:
    """Likewise for an answer to GET; an interim one and a switch have no body to compare."""
    notes = _Notes()
    parser = httptools.HttpResponseParser(notes)
    framing = response_framing(head, "GET")
    if isinstance(framing, Reject):
        return
    try:
        parser.feed_data(raw)
    except (httptools.HttpParserUpgrade, httptools.HttpParserError):
        return
    assert parser.get_status_code() == head.status
    assert notes.fields == list(head.fields)
    if head.status >= 200:
        _check_end(parser, notes, framing)


def _check_end(
    parser: httptools.HttpRequestParser | httptools.HttpResponseParser, notes: _Notes, framing: Framing | UntilClose
) -> None:
    body = body_for(framing)
    for at in range(len(body)):
        assert not notes.complete, "llhttp sees the body end before we do"
        parser.feed_data(body[at : at + 1])
    assert bool(notes.complete) == ends(framing), "llhttp sees the body end elsewhere than we do"


def check_host_by_llhttp(head: RequestHead, host: str, port: int) -> None:
    """The destination that we named is the one that llhttp's reading of the target and of Host leads to."""
    target = head.target
    if target.form is TargetForm.ABSOLUTE:
        text = f"{target.scheme}://{target.authority}{target.origin if target.path != '*' else ''}"
        with contextlib.suppress(httptools.HttpParserInvalidURLError):
            url = httptools.parse_url(text.encode("ascii"))
            read = url.host.decode("ascii")
            named = parse_authority(f"[{read}]" if ":" in read else read, url.port or 80)
            assert not isinstance(named, Refusal)
            assert (named[0].text, named[1]) == (host, port), "llhttp finds another host in the target"
    for value in head.values(b"host"):
        named = parse_authority(value.decode("latin-1"), port)
        assert not isinstance(named, Refusal)
        assert named[0].text == host
