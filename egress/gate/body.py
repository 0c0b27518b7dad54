"""The way of a body through a lane: every byte passes here once, counted, in both directions and in every lane.

Steps are what later looks into a body or changes it. A lane that cannot give a body to a step must not carry the
request. INVARIANT bounded: a step holds no more than it says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from egress.credentials import misdirected
from egress.gate.shares import allowed

if TYPE_CHECKING:
    from egress.gate.exchange import Exchange
    from egress.policy import Refusal

type Buffer = bytes | bytearray | memoryview


class BodyStep(Protocol):
    """One look at a body, or change to it. What it returns goes on in place of what came in."""

    def feed(self, data: Buffer) -> Buffer:
        """The next bytes; may hold some back."""

    def end(self) -> Buffer:
        """The body is complete: what was held back."""


@dataclass(frozen=True, slots=True)
class BodyPath:
    """One direction of one exchange. With steps, the length that a head declares no longer holds: lanes chunk."""

    steps: tuple[BodyStep, ...] = ()

    def pass_on(self, data: Buffer) -> Buffer:
        """Bytes of the body on their way; what comes back, maybe nothing yet, goes on."""
        for step in self.steps:
            data = step.feed(data)
        return data

    def end(self) -> Buffer:
        """What the steps still hold at the end, passed through those that follow."""
        rest: Buffer = b""
        for step in self.steps:
            rest = bytes(step.feed(rest) if rest else b"") + bytes(step.end())
        return rest


STRAIGHT = BodyPath()


async def limited_up(exchange: Exchange, data: Buffer) -> Buffer:
    """What may go on of bytes that are about to be counted, under the limits of the exchange's rules.

    Fewer than came: the limit is reached, and the exchange is to end with them.
    """
    return data if exchange.quota is None or exchange.quota.up is None else await allowed(exchange.quota.up, data)


async def limited_down(exchange: Exchange, data: Buffer) -> Buffer:
    """As above, towards the client."""
    return data if exchange.quota is None or exchange.quota.down is None else await allowed(exchange.quota.down, data)


class MisdirectedError(Exception):
    """A body carries a placeholder where it must not go: what would complete it stays here, and ends the exchange."""


def is_misdirected(exchange: Exchange, data: Buffer) -> bool:
    """Whether a placeholder ends in these bytes of the client's body, which must not go on then.

    Nothing is held back for it: the beginning of a placeholder is worth as little as the whole, and a client that waits
    for an answer to a part of its body gets it.
    """
    look = exchange.look
    if look is None:
        return False
    if look.finds(data):
        return True
    if look.done:
        exchange.look = None
    return False


def whole_body(exchange: Exchange, data: bytes) -> bytes:
    """What goes up of a body that was held: as it came, or with its secrets. INVARIANT secret-confinement."""
    body = exchange.rendered.body
    return data if body is None else body.reveal().encode("latin-1")


def misdirection(exchange: Exchange) -> Refusal:
    """What to say of a body in which `is_misdirected` found something."""
    return misdirected(() if exchange.look is None else exchange.look.found)


def count_up(exchange: Exchange, data: Buffer) -> Buffer:
    """Bytes of the client's body on their way to the upstream."""
    exchange.bytes_up += len(data)
    return exchange.upward.pass_on(data) if exchange.upward.steps else data


def count_down(exchange: Exchange, data: Buffer) -> Buffer:
    """Bytes of the upstream's body on their way to the client."""
    exchange.bytes_down += len(data)
    return exchange.downward.pass_on(data) if exchange.downward.steps else data
