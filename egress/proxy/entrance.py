"""What a listening socket is for, and so which road the connections to it take."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from egress.config import ListenAddress


class Kind(Enum):
    """`PROXY`: clients say where they want to go. `ENDPOINTS`: the identity endpoints, never a proxy."""

    PROXY = auto()
    ENDPOINTS = auto()


@dataclass(frozen=True, slots=True)
class Entrance:
    """`address`: as the configuration calls the listener; None where it has no name."""

    kind: Kind = Kind.PROXY
    address: ListenAddress | None = None


PROXY: Final = Entrance()
