"""Writes heads anew from what was parsed: no line of a peer's is ever copied through, and the framing is ours."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from egress.gate.outbound import VIA, client_fields, target_of, unframed_client_fields, upstream_fields, upstream_head
from egress.wire.head import Chunked, ContentLength, Framing, NoBody, UntilClose, Version

if TYPE_CHECKING:
    from egress.gate.exchange import Exchange
    from egress.gate.outbound import Field
    from egress.gate.reflection import Answer
    from egress.proxy.repeats import Repeats
    from egress.wire.head import RequestHead, ResponseHead

CONTINUE = 100
SWITCHING_PROTOCOLS = 101
_NO_CONTENT = 204
_NOT_MODIFIED = 304

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


def request_head(head: RequestHead, exchange: Exchange, *, via: bool = False) -> tuple[bytes, bool]:
    """The head for the upstream, and whether the body after it is chunked. `via`: with a field that names us.

    INVARIANT secret-confinement: it may hold secrets, and is for the upstream's socket alone.
    """
    target, fields = upstream_head(exchange, head.fields, framing=False, via=via)
    chunked = isinstance(head.framing, Chunked) or (
        bool(exchange.upward.steps) and not isinstance(head.framing, NoBody)
    )
    if chunked:
        fields.append((b"Transfer-Encoding", b"chunked"))
    elif isinstance(head.framing, ContentLength):
        fields.append((b"Content-Length", b"%d" % head.framing.length))
    return _written(_request_line(exchange, target), fields), chunked


def bodiless_head(head: RequestHead, exchange: Exchange, repeats: Repeats, *, via: bool = False) -> bytes:
    """As `request_head`, for a request without a body, of which all but the first line may be the last one's."""
    if exchange.rendered.signature is not None:
        target, fields = upstream_head(exchange, head.fields, via=via)
        return _written(_request_line(exchange, target), fields)
    tail = repeats.tail(head.fields, exchange)
    if tail is None:
        tail = _written(b"", upstream_fields(exchange, head.fields, via=via))
        repeats.sent(head.fields, exchange, tail)
    return _request_line(exchange, target_of(exchange)) + tail


def response_head(
    head: ResponseHead,
    exchange: Exchange,
    framing: Framing | UntilClose,
    client: Version,
    *,
    keep: bool,
    via: bool = False,
    recoded: bool = False,
) -> tuple[bytes, bool, bool]:
    """The head for the client; whether the body after it is chunked; whether its end is the connection's.

    `framing` is how the upstream's body ends; `keep` whether the client's connection could go
    on; `via` adds our own field; `recoded`: the length that the head declares is that of another coding.
    """
    fields = unframed_client_fields(head.fields)
    if via:
        fields.append(VIA)
    chunked, until_close = False, False
    if isinstance(framing, NoBody):
        if head.status != _NO_CONTENT and isinstance(head.framing, ContentLength) and not recoded:
            fields.append((b"Content-Length", b"%d" % head.framing.length))
    elif isinstance(framing, ContentLength) and not exchange.downward.steps:
        fields.append((b"Content-Length", b"%d" % framing.length))
    elif client is Version.HTTP_11:
        chunked = True
        fields.append((b"Transfer-Encoding", b"chunked"))
    else:
        until_close = True
    if until_close or not keep:
        fields.append((b"Connection", b"close"))
    elif client is Version.HTTP_10:
        fields.append((b"Connection", b"keep-alive"))
    return _written(_status_line(head), fields), chunked, until_close


def cleaned_head(head: ResponseHead, answer: Answer) -> ResponseHead:
    """The same head without the secrets that its request carried; how it is framed and kept open is left as it was."""
    return replace(head, fields=answer.fields(head.fields), reason=answer.text(head.reason))


def interim_head(head: ResponseHead) -> bytes:
    """A 1xx answer for the client."""
    return _written(
        _status_line(head), [field for field in client_fields(head.fields) if field[0].lower() not in _FRAMING]
    )


def switching_head(head: ResponseHead) -> bytes:
    """A 101 that opens a WebSocket, for the client."""
    return _written(_status_line(head), _unframed(client_fields(head.fields, switching=True)))


def opens_websocket(head: ResponseHead) -> bool:
    """Whether a 101 agrees to what was asked for (RFC 6455 section 4.2.2)."""
    return head.upgrade == (b"websocket",) and b"upgrade" in head.connection


def trailer_lines(fields: tuple[Field, ...]) -> bytes:
    """The trailers of an answer that the client may see, each a line."""
    return b"".join([name + b": " + value + b"\r\n" for name, value in client_fields(fields)])


def _unframed(fields: list[Field]) -> list[Field]:
    return [field for field in fields if field[0].lower() not in _FRAMING]


def _request_line(exchange: Exchange, target: str) -> bytes:
    return f"{exchange.request.method} {target} HTTP/1.1".encode("ascii")


def _status_line(head: ResponseHead) -> bytes:
    return b"HTTP/1.1 %d %s" % (head.status, head.reason)


def _written(line: bytes, fields: list[Field]) -> bytes:
    return b"\r\n".join([line, *[name + b": " + value for name, value in fields], b"", b""])
