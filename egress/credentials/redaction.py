"""Keeps values of secrets out of log lines, whoever wrote them: a library's error may quote what it was handed.

INVARIANT secret-confinement: the last line of defence, not the first. Nothing of ours puts a value into a message.
"""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from egress.credentials.secret import Secret

# A shorter value would take harmless text with it, and is no secret worth the name.
_SHORTEST = 6

_traceback = logging.Formatter()


class Redaction(logging.Filter):
    """Replaces the values of `secrets()`, plain or encoded, by their names, in messages and tracebacks."""

    def __init__(self, secrets: Callable[[], Iterable[Secret]]) -> None:
        super().__init__()
        self._secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record in place; it is always logged. A record that cannot be read loses its text."""
        try:
            message = record.getMessage()
            trace = _traceback.formatException(record.exc_info) if record.exc_info else record.exc_text
            replacements = [pair for secret in self._secrets() for pair in _forms(secret)]
        except Exception:  # noqa: BLE001 - what cannot be redacted must not be written
            record.msg, record.args, record.exc_info, record.exc_text = (
                "a log line could not be cleaned",
                (),
                None,
                None,
            )
            return True
        record.msg, record.args = _without(message, replacements), ()
        record.exc_text = None if trace is None else _without(trace, replacements)
        record.exc_info = None
        return True


def _forms(secret: Secret) -> list[tuple[str, str]]:
    value = secret.reveal()
    if len(value) < _SHORTEST:
        return []
    encoded = base64.b64encode(value.encode()).decode().rstrip("=")
    return [(form, repr(secret)) for form in dict.fromkeys((value, quote(value, safe=""), encoded))]


def _without(text: str, replacements: Iterable[tuple[str, str]]) -> str:
    for form, name in replacements:
        text = text.replace(form, name)
    return text


def redact_logs(secrets: Callable[[], Iterable[Secret]]) -> None:
    """Clean what every handler of the root logger writes from now on."""
    redaction = Redaction(secrets)
    for handler in logging.getLogger().handlers:
        for known in [known for known in handler.filters if isinstance(known, Redaction)]:
            handler.removeFilter(known)
        handler.addFilter(redaction)
