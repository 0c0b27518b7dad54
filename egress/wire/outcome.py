"""What a wire parser answers besides a value: more bytes are needed, or these bytes are refused.

Every parser of this room is a total function from bytes to `value | NeedMore | Reject`. It never raises for any
bytes, and it never guesses: what two readers could take in two ways is a Reject.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RejectKind(StrEnum):
    """Why bytes are refused, as far as the caller must tell cases apart."""

    MALFORMED = "malformed"
    TOO_LARGE = "too-large"
    NOT_TLS = "not-tls"


@dataclass(frozen=True, slots=True)
class Reject:
    """Bytes that must not be acted on. `detail` is one sentence for people and holds no part of the input."""

    kind: RejectKind
    detail: str


@dataclass(frozen=True, slots=True)
class NeedMore:
    """The bytes so far could still become valid.

    A head parser that is called again on the same, longer buffer takes this value back as `resume` and then looks
    only at what is new. `scanned`: bytes that need no second look; `fields`: complete field lines among them;
    `in_value`: whether `scanned` stands inside a field's value. Other parsers return it plain.
    """

    scanned: int = 0
    fields: int = 0
    in_value: bool = False


def malformed(detail: str) -> Reject:
    """A Reject for bytes that break a grammar."""
    return Reject(RejectKind.MALFORMED, detail)


def too_large(detail: str) -> Reject:
    """A Reject for bytes that exceed a limit."""
    return Reject(RejectKind.TOO_LARGE, detail)
