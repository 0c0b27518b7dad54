"""What a client's next request has in common with its last, taken over instead of worked out again.

A client sends the same fields with each request of a connection, but for the first line. Where they are the same byte
for byte, what was read from them is the same; where the decision and its headers are the same objects too, so is what
goes upstream. INVARIANT one-name: only equality of bytes and identity of values count, never likeness.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.policy import Request
from egress.wire.head import RequestHead, parse_repeated_head

if TYPE_CHECKING:
    from egress.credentials import Rendered
    from egress.gate.exchange import Exchange
    from egress.policy import Decision
    from egress.wire.fields import Fields

# A longer block is read anew each time, so that an idle connection holds little.
_BLOCK_AT_MOST = 2_048


class Repeats:
    """The last request of one connection."""

    __slots__ = ("_block", "_head", "_named", "_tail", "_tail_of")

    def __init__(self) -> None:
        self._head: RequestHead | None = None
        self._block = b""
        self._named: tuple[Fields, str | None, Request] | None = None
        self._tail = b""
        self._tail_of: tuple[Fields, Decision, Rendered, Request] | None = None

    def read(self, data: bytes | bytearray) -> RequestHead | None:
        """The head in `data`, if it repeats the last one's method and fields."""
        return None if self._head is None else parse_repeated_head(data, self._head, self._block)

    def learn(self, head: RequestHead, data: bytes | bytearray) -> None:
        """`head` was read from `data`."""
        line = data.find(b"\r\n") + 2
        if head.length - line <= _BLOCK_AT_MOST:
            self._head, self._block = head, bytes(data[line : head.length])
        else:
            self._head = None

    def name(self, head: RequestHead) -> Request | None:
        """The request in `head`, if only its path and query differ from the last one that was named."""
        if self._named is None:
            return None
        fields, authority, last = self._named
        if head.fields is not fields or head.target.authority != authority or head.method != last.method:
            return None
        return Request(
            last.sandbox,
            last.protocol,
            last.host,
            last.port,
            last.method,
            head.target.path,
            head.target.query,
            last.headers,
        )

    def named(self, head: RequestHead, request: Request) -> None:
        """`head` is this request."""
        self._named = (head.fields, head.target.authority, request)

    def tail(self, fields: Fields, exchange: Exchange) -> bytes | None:
        """The upstream's head after its first line, if fields, decision, injected headers and Host are the last ones.

        An absolute URL, and a rule that rewrites, may name another host with the same fields under the same rule.
        """
        of = self._tail_of
        if of is None or of[0] is not fields or of[1] is not exchange.decision or of[2] is not exchange.rendered:
            return None
        last, request = of[3], exchange.request
        same = last.host is request.host and last.port == request.port and last.protocol is request.protocol
        return self._tail if same else None

    def sent(self, fields: Fields, exchange: Exchange, tail: bytes) -> None:
        """This went after the first line. INVARIANT secret-confinement: it is kept no longer than the connection."""
        self._tail_of = (fields, exchange.decision, exchange.rendered, exchange.request)
        self._tail = tail
