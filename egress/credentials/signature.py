"""A signature that waits for its request: made when a rule's secret was had, put on when all else of the head is final.

What can keep a request from being signed is found before (`planned`); `put_on` itself always can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

type Field = tuple[bytes, bytes]
type Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request as it would go up: `host` as Host or `:authority` has it, `fields` without the client's signature.

    `now` is in seconds since 1970, `nonce` a word that was never used before.
    """

    method: str
    host: bytes
    path: str
    query: str | None
    fields: Sequence[Field]
    now: float
    nonce: str


class Signature(Protocol):
    """INVARIANT secret-confinement: what it gives is for the upstream's socket and nowhere else."""

    def put_on(self, sent: Outgoing) -> tuple[str | None, list[Field]]:
        """The query and all the fields of the signed request."""


class Plan(Protocol):
    """How one request will be signed, as far as its head and its rule tell."""

    @property
    def reads_body(self) -> bool:
        """Whether the whole body is signed, and so has to be here first."""

    def with_value(self, value: str, body: Bytes | None) -> Signature:
        """The signature by a secret's value, of a request with this body. Raises ValueError with what is wrong.

        The message has no part of the value.
        """
