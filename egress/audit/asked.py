"""What was asked for, as the record has it: all that a policy could be asked again, alike decisions together."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class AskedRow:
    """What was asked for in some decisions that were alike, and how many they were."""

    method: str | None
    scheme: str | None
    protocol: str | None
    host: str | None
    port: int | None
    path: str | None
    sandbox: str
    address: str | None
    count: int


_ALIKE = ", ".join(field.name for field in fields(AskedRow) if field.name != "count")
ASKED = (
    f"SELECT {_ALIKE}, sum(count) FROM decisions "  # noqa: S608 -- constants
    f"WHERE seq >= ? AND seq < ? AND time_us >= ? GROUP BY {_ALIKE} ORDER BY min(seq)"
)
