"""The values of a rule's `limits`: how many requests, and how many bytes, in how much time.

Sizes are in bytes: KB, MB, GB and TB are powers of 1000, KiB, MiB, GiB and TiB powers of 1024.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import PlainValidator

from egress.config.fields import wrong
from egress.config.wording import kind_of, quoted
from egress.policy import Rate

SECONDS: Final = {"s": 1, "min": 60, "h": 3_600, "day": 86_400}
SIZES: Final = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", start=1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", start=1)},
}
_RATE = re.compile(r"([0-9]{1,15}) ?/ ?(s|min|h|day)\Z")
_BYTES = re.compile(rf"([0-9]{{1,15}}) ?({'|'.join(SIZES)}) ?/ ?(s|min|h|day)\Z")
_COUNT_AT_MOST: Final = 1_000_000_000
_BYTES_AT_MOST: Final = 1 << 60


def request_rate(value: object) -> Rate:
    """`10/s`, `100/min`, `1000/h` or `5000/day`."""
    hint = "write `10/s`, `100/min`, `1000/h` or `5000/day`"
    found = _RATE.match(_text(value, hint))
    if found is None:
        raise wrong(f"{quoted(value)} is not a number of requests in a time", hint)
    return _rate(int(found[1]), found[2], _COUNT_AT_MOST, hint)


def byte_rate(value: object) -> Rate:
    """`1GB/day`, `500MB/h`, and so on."""
    hint = "write `1GB/day`, `500MB/h`, `64KiB/s` or `1000B/min`"
    found = _BYTES.match(_text(value, hint))
    if found is None:
        raise wrong(f"{quoted(value)} is not a number of bytes in a time", hint)
    return _rate(int(found[1]) * SIZES[found[2]], found[3], _BYTES_AT_MOST, hint)


def whole_number(value: object) -> int:
    """How many at once."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(f"should be a whole number, not {kind_of(value)}", "write `20`")
    if not 1 <= value <= _COUNT_AT_MOST:
        raise wrong(f"{value} is outside the numbers from 1 to {_COUNT_AT_MOST}", "write `20`")
    return int(value)


def rate_text(rate: Rate) -> str:
    """A rate of requests as a policy file writes it."""
    return f"{rate.count}/{_unit(rate)}"


def bytes_text(rate: Rate) -> str:
    """A rate of bytes as a policy file writes it, in the largest unit that keeps it whole."""
    size = max((size for size in SIZES.items() if not rate.count % size[1]), key=lambda size: size[1])
    return f"{rate.count // size[1]}{size[0]}/{_unit(rate)}"


def _unit(rate: Rate) -> str:
    return next(unit for unit, seconds in SECONDS.items() if seconds == rate.seconds)


def _rate(count: int, unit: str, at_most: int, hint: str) -> Rate:
    if not 1 <= count <= at_most:
        raise wrong(
            "a limit of none, or of more than can be counted, is no limit", f"{hint}; to refuse all, use `deny`"
        )
    return Rate(count, SECONDS[unit])


def _text(value: object, hint: str) -> str:
    if not isinstance(value, str):
        raise wrong(f"should be text, not {kind_of(value)}", hint)
    return value


type RequestRateField = Annotated[Rate, PlainValidator(request_rate, json_schema_input_type=str)]
type ByteRateField = Annotated[Rate, PlainValidator(byte_rate, json_schema_input_type=str)]
type WholeNumberField = Annotated[int, PlainValidator(whole_number, json_schema_input_type=int)]
