"""How a client is told what became of the destination that it asked for, on each road to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.gate.denial import Denial


@dataclass(frozen=True, slots=True)
class Road:
    """`established`: what a client gets before its first byte inside goes anywhere. `refused`: what it gets instead."""

    established: bytes
    refused: Callable[[Denial], bytes]


def _page(denial: Denial) -> bytes:
    return denial.http1()


CONNECT: Final = Road(b"HTTP/1.1 200 Connection established\r\n\r\n", _page)
