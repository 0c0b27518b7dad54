"""Words of the policy language that this version does not know yet: a file that uses one is refused, not half-read."""

from __future__ import annotations

from typing import Final

# Where the key may stand ("" is the top of the file), and the keys.
LATER_KEYS: Final[dict[str, frozenset[str]]] = {
    "": frozenset(),
    "rules": frozenset(),
    "secrets": frozenset(),
    "server": frozenset(),
}

# Words of other proxies for what has another name here.
_ELSEWHERE: Final[dict[tuple[str, str], tuple[str, str]]] = {
    ("server", "metrics"): ("metrics are a part of `admin`", "write `admin: 127.0.0.1:9180`, read `/metrics` there"),
}


def later_message(section: str, key: str) -> tuple[str, str] | None:
    """Message and hint when `key` belongs to the language, but not to this version."""
    if key in LATER_KEYS.get(section, frozenset()):
        return f"`{key}` is not supported by this version of egress", "remove it"
    return _ELSEWHERE.get((section, key))
