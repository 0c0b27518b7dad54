"""Keeps values of secrets out of log lines, whoever wrote them: a library's error may quote what it was handed.

1. a value is looked for in the forms in which it is looked for in answers (`scrub`), amid base64 of more too: a header
   in the scheme Basic is no value, and holds one
2. what writes every field that it reads, compressed too, writes nothing below warnings

INVARIANT secret-confinement: the last line of defence, not the first. Nothing of ours puts a value into a message.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from egress.credentials.scrub import SHORTEST, scrubber_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from egress.credentials.secret import Secret

# A shorter value would take harmless text with it, and is no secret worth the name.
_SHORTEST: Final = 6
# At debug level they write fields and their compressed bytes, in which nothing can be found.
_TALKATIVE: Final = ("hpack", "httpcore", "httpx")

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
            secrets = tuple(dict.fromkeys(self._secrets()))
            message = _without(message, secrets)
            trace = None if trace is None else _without(trace, secrets)
        except Exception:  # noqa: BLE001 - what cannot be redacted must not be written
            record.msg, record.args, record.exc_info, record.exc_text = (
                "a log line could not be cleaned",
                (),
                None,
                None,
            )
            return True
        record.msg, record.args = message, ()
        record.exc_text, record.exc_info = trace, None
        return True


def _without(text: str, secrets: tuple[Secret, ...]) -> str:
    for secret in secrets:
        value = secret.reveal()
        if _SHORTEST <= len(value) < SHORTEST:
            text = text.replace(value, repr(secret))
    scrubber = scrubber_of(secrets, lambda name: f"<secret {name}>")
    return scrubber.whole(text.encode(errors="backslashreplace")).decode(errors="replace")


def redact_logs(secrets: Callable[[], Iterable[Secret]]) -> None:
    """Clean what every handler of the root logger writes from now on."""
    for library in _TALKATIVE:
        logging.getLogger(library).setLevel(logging.WARNING)
    redaction = Redaction(secrets)
    for handler in logging.getLogger().handlers:
        for known in [known for known in handler.filters if isinstance(known, Redaction)]:
            handler.removeFilter(known)
        handler.addFilter(redaction)
