"""Random changes to bytes, repeatable by seed: pieces put in, bytes replaced, spans cut, doubled or spliced."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

LONGEST = 4096
_CHANGES = (1, 1, 1, 2, 2, 3, 5, 9)
_SPANS = (0, 0, 1, 1, 2, 7, 30)


def mutate(chance: Random, seeds: Sequence[bytes], pieces: Sequence[bytes]) -> bytes:
    """One seed with a few random changes."""
    data = chance.choice(seeds)
    for _ in range(chance.choice(_CHANGES)):
        at = chance.randrange(len(data) + 1)
        to = min(len(data), at + chance.choice(_SPANS))
        other = chance.choice(seeds)
        middle = chance.choice(
            (
                chance.choice(pieces),
                bytes([chance.randrange(256)]),
                b"",
                data[at:to] * 2,
                other[at:],
                other[at:to],
                bytes([data[at] ^ 1 << chance.randrange(8)]) if at < len(data) else b"",
            )
        )
        data = data[:at] + middle + data[to:]
    return data[:LONGEST]


def cuts_of(chance: Random, data: bytes, count: int) -> list[int]:
    """Places at which to cut, in order."""
    return sorted(chance.randrange(len(data) + 1) for _ in range(count))


def smallest(data: bytes, keeps: Callable[[bytes], bool]) -> bytes:
    """`data` without whatever can go while `keeps` holds of the rest."""
    size = len(data)
    while size:
        at = 0
        while at < len(data):
            shorter = data[:at] + data[at + size :]
            if keeps(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    return data
