"""Decision ids: 26 characters, sortable by time, unguessable, safe in headers, file names and URLs."""

from __future__ import annotations

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u to misread
_RANDOM_BITS = 80
_LENGTH = 26


def new_decision_id(*, time_ms: int | None = None) -> str:
    """48 bits of Unix time in milliseconds, then 80 random bits, as 26 base-32 characters."""
    stamp = time.time_ns() // 1_000_000 if time_ms is None else time_ms
    number = (stamp & 0xFFFF_FFFF_FFFF) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    digits = [""] * _LENGTH
    for place in range(_LENGTH - 1, -1, -1):
        digits[place] = _ALPHABET[number & 31]
        number >>= 5
    return "".join(digits)
