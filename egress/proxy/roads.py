"""How a client is told what became of the destination that it asked for, on each road to it."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from egress.policy import Reason
from egress.wire import socks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from egress.gate.denial import Denial


class Unsaid(Enum):
    """What a client gets where its road has no answer for a refusal.

    `RESET`: at once. `PAGE`: a page in what the client turns out to speak, else a reset.
    """

    RESET = auto()
    PAGE = auto()


@dataclass(frozen=True, slots=True)
class Road:
    """`established`: what a client gets before its first byte inside goes anywhere. `refused`: what it gets instead.

    `refused` takes the refusal and, where a dial failed, its errno (else 0). `lingers`: the client may have sent more
    already, without waiting for its answer.
    """

    established: bytes
    refused: Callable[[Denial, int], bytes] | Unsaid
    lingers: bool = False


def _page(denial: Denial, _errno: int) -> bytes:
    return denial.http1()


# What is no verdict of the policy's, in the words that SOCKS has for it. Everything else: not allowed.
_REASONS: Final[Mapping[Reason, socks.Reply]] = {
    Reason.NAME_NOT_RESOLVED: socks.Reply.HOST_UNREACHABLE,
    Reason.UPSTREAM_UNREACHABLE: socks.Reply.FAILURE,
    Reason.INTERNAL_ERROR: socks.Reply.FAILURE,
    Reason.AUDIT_UNAVAILABLE: socks.Reply.FAILURE,
    Reason.SHUTTING_DOWN: socks.Reply.FAILURE,
}
_ERRORS: Final[Mapping[int, socks.Reply]] = {
    errno.ENETUNREACH: socks.Reply.NETWORK_UNREACHABLE,
    errno.EHOSTUNREACH: socks.Reply.HOST_UNREACHABLE,
    errno.ETIMEDOUT: socks.Reply.HOST_UNREACHABLE,
    errno.ECONNREFUSED: socks.Reply.REFUSED,
}


def _socks_reply(denial: Denial, error: int) -> bytes:
    return socks.reply(_ERRORS.get(error) or _REASONS.get(denial.reason, socks.Reply.NOT_ALLOWED))


CONNECT: Final = Road(b"HTTP/1.1 200 Connection established\r\n\r\n", _page)
SOCKS: Final = Road(socks.reply(socks.Reply.SUCCEEDED), _socks_reply, lingers=True)
FORWARD: Final = Road(b"", Unsaid.RESET)
TRANSPARENT: Final = Road(b"", Unsaid.PAGE)
