"""How the secrets of the store are listed: a table for people, or JSON. There is no value in either."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from egress.config import target_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from egress.config import Binding
    from egress.credentials.stored_secret import Listed

_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60))


def table(secrets: Sequence[Listed]) -> Iterator[str]:
    """The lines of the table."""
    if not secrets:
        yield "no secrets"
        return
    now = time.time()
    rows = [("NAME", "VERSION", "AGE", "LAST USE", "BOUND TO"), *(_row(secret, now) for secret in secrets)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def json_text(secrets: Sequence[Listed]) -> str:
    """One JSON object; times as in RFC 3339."""
    return json.dumps({"secrets": [_object(secret) for secret in secrets]})


def bound_to(binding: Binding) -> str:
    """A binding in one line: hosts; methods; paths."""
    parts = [_hosts(binding), _methods(binding), _paths(binding)]
    return "; ".join(", ".join(part) for part in parts if part)


def _row(secret: Listed, now: float) -> tuple[str, ...]:
    used = "-" if secret.used is None else f"{_span(now - secret.used)} ago"
    return secret.name, str(secret.version), _span(now - secret.rotated), used, bound_to(secret.binding)


def _object(secret: Listed) -> dict[str, object]:
    return {
        "name": secret.name,
        "version": secret.version,
        "hosts": _hosts(secret.binding),
        "methods": _methods(secret.binding),
        "paths": _paths(secret.binding),
        "created": _moment(secret.created),
        "rotated": _moment(secret.rotated),
        "last_used": None if secret.used is None else _moment(secret.used),
    }


def _hosts(binding: Binding) -> list[str]:
    return [target_text(target) for target in binding.hosts]


def _methods(binding: Binding) -> list[str]:
    return sorted(binding.methods or ())


def _paths(binding: Binding) -> list[str]:
    return [pattern.text for group in binding.paths for pattern in group]


def _span(seconds: float) -> str:
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(int(seconds), 0)}s"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
