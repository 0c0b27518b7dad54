"""The HTTP that `admin` speaks: one GET or HEAD a connection, read by the strict head parser, answered and closed.

1. a head has few bytes and few fields; what cannot be read in one way is a 400
2. the Host field is an address, `localhost` or a name of the configuration: a page in a browser that had its own name
   point here (DNS rebinding) gets a 403. On a unix socket, where no browser comes, it may be anything
3. every answer says its length and its end, and is kept by nobody
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from egress.wire.fields import HeadLimits
from egress.wire.outcome import NeedMore, Reject
from egress.wire.request import parse_request_head
from egress.wire.target import TargetForm

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

MOST_ASKED: Final = 8_192
_LIMITS: Final = HeadLimits(bytes=MOST_ASKED, fields=50, line=1_024)
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}
TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that may be answered. `open_metrics`: whether its client takes that format."""

    path: str
    head_only: bool = False
    open_metrics: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said: status, body and its type."""

    status: int
    body: str
    kind: str = TEXT

    def message(self, *, head_only: bool) -> bytes:
        """The whole response."""
        body = self.body.encode()
        lines = [
            f"HTTP/1.1 {self.status} {_REASONS[self.status]}",
            f"Content-Type: {self.kind}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Connection: close",
        ]
        if self.status == 405:  # noqa: PLR2004 - RFC 9110, section 15.5.6
            lines.append("Allow: GET, HEAD")
        return "\r\n".join([*lines, "", ""]).encode("ascii") + (b"" if head_only else body)


def read(data: bytes | bytearray, names: AbstractSet[str] | None) -> Asked | Answer | None:
    """What is asked; an answer to what may not be; None while more is to come. `names` None: any Host may be said."""
    head = parse_request_head(data, _LIMITS)
    if isinstance(head, NeedMore):
        return None
    if isinstance(head, Reject):
        return Answer(400, f"{head.detail}\n")
    if head.method not in {"GET", "HEAD"}:
        return Answer(405, "only GET and HEAD are answered here\n")
    if head.target.form is not TargetForm.ORIGIN or head.target.path is None:
        return Answer(400, "this is no proxy: ask for a path\n")
    if names is not None and not _is_known(head.host, names):
        return Answer(403, "the Host field is no address: name it in `admin: {hosts: [...]}` of the configuration\n")
    accepted = b",".join(head.values(b"accept")).lower()
    return Asked(head.target.path, head.method == "HEAD", b"application/openmetrics-text" in accepted)


def _is_known(host: str | None, names: AbstractSet[str]) -> bool:
    if host is None:
        return False
    bare = host.lower()
    bare = bare[1 : bare.find("]")] if bare.startswith("[") else bare.partition(":")[0]
    try:
        ip_address(bare)
    except ValueError:
        return bare == "localhost" or bare in names
    return True
