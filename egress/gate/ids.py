"""Decision ids: 26 characters, sortable by time, unguessable, safe in headers, file names and URLs.

The random ends are made in advance, many from one reading of the system's random numbers, and each is given once: to
whichever thread takes it, and never in a forked process, which begins with none.
"""

from __future__ import annotations

import os
import time
from functools import lru_cache

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u to misread
_STAMP_LENGTH = 10
_RANDOM_LENGTH = 16
_IN_ADVANCE = 256
# A byte's lowest five bits as a digit: of 256 values, each digit stands for eight.
_DIGITS = bytes(ord(_ALPHABET[byte & 31]) for byte in range(256))

_ends: list[str] = []
os.register_at_fork(after_in_child=_ends.clear)


def new_decision_id(*, time_ms: int | None = None) -> str:
    """48 bits of Unix time in milliseconds, then 80 random bits, as 26 base-32 characters."""
    stamp = _stamp(time.time_ns() // 1_000_000 if time_ms is None else time_ms)
    try:
        return stamp + _ends.pop()
    except IndexError:
        return stamp + _new_end()


def moment_of(decision_id: str) -> float | None:
    """The Unix time in seconds at which an id was made; None for what is no id."""
    stamp = decision_id[:_STAMP_LENGTH]
    if len(decision_id) != _STAMP_LENGTH + _RANDOM_LENGTH or any(digit not in _ALPHABET for digit in stamp):
        return None
    number = 0
    for digit in stamp:
        number = number << 5 | _ALPHABET.index(digit)
    return number / 1000


@lru_cache(maxsize=16)
def _stamp(time_ms: int) -> str:
    number = time_ms & 0xFFFF_FFFF_FFFF
    return "".join([_ALPHABET[number >> 5 * place & 31] for place in reversed(range(_STAMP_LENGTH))])


def _new_end() -> str:
    digits = os.urandom(_RANDOM_LENGTH * _IN_ADVANCE).translate(_DIGITS).decode("ascii")
    first, *others = [digits[at : at + _RANDOM_LENGTH] for at in range(0, len(digits), _RANDOM_LENGTH)]
    _ends.extend(others)
    return first
