"""Figures as a person reads them: bytes and durations in three digits with their unit."""

from __future__ import annotations

from typing import Final

_KILO: Final = 1000


def show_bytes(count: int | None) -> str:
    """`count` in three figures: `999`, `1.8k`, `20k`, `4.3G`."""
    if count is None:
        return ""
    value = float(count)
    for unit in ("", "k", "M", "G", "T"):
        if value < _KILO or unit == "T":
            break
        value /= _KILO
    return f"{value:.1f}{unit}" if unit and value < 9.95 else f"{value:.0f}{unit}"  # noqa: PLR2004 -- rounds to 10


def show_duration(micros: int | None) -> str:
    """`micros` in the unit a person would use: `81ms`, `1.2s`, `3m05s`, `2h10m`."""
    if micros is None:
        return ""
    if micros < 999_500:  # noqa: PLR2004 -- rounds to 1000 ms
        return f"{micros / 1000:.0f}ms"
    seconds = micros / 1_000_000
    if seconds < 59.95:  # noqa: PLR2004 -- rounds to 60 s
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"  # noqa: PLR2004
