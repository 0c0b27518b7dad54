"""Log lines that quote a secret, by whatever way it got there, are written without it."""

from __future__ import annotations

import base64
import io
import logging
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hpack import Encoder

from egress.credentials import Secret
from egress.credentials.redaction import Redaction, redact_logs

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "canary/Zm9v+4711=="
SECRET = Secret("github", CANARY)


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a handler of the root logger writes, cleaned."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    root.addHandler(handler)
    redact_logs(lambda: [SECRET])
    yield stream
    root.removeHandler(handler)
    for other in root.handlers:
        for known in [known for known in other.filters if isinstance(known, Redaction)]:
            other.removeFilter(known)


@pytest.mark.parametrize(
    "text",
    [
        CANARY,
        f"Authorization: Bearer {CANARY}",
        quote(CANARY, safe=""),
        *(base64.b64encode(b"u" * before + CANARY.encode()).decode() for before in range(3)),
        f"Basic {base64.urlsafe_b64encode(f'git:{CANARY}'.encode()).decode()}",
        "".join(f"\\u{ord(character):04X}" for character in CANARY),
        "".join(f"&#{ord(character)};" for character in CANARY),
    ],
)
def test_secret_confinement_in_a_message(written: io.StringIO, text: str) -> None:
    """INVARIANT secret-confinement: plain, escaped or in base64, amid more of it too, as text or as an argument."""
    logging.getLogger("somebody.else").error("failed: %s", text)
    assert "<secret github>" in written.getvalue()
    assert text not in written.getvalue()


def test_secret_confinement_in_a_traceback(written: io.StringIO) -> None:
    """INVARIANT secret-confinement: an exception's text and its source lines are cleaned too, and stay readable."""
    try:
        int(CANARY)
    except ValueError:
        logging.getLogger("somebody.else").exception("failed")
    assert CANARY not in written.getvalue()
    assert "<secret github>" in written.getvalue()


def test_a_line_that_cannot_be_cleaned_is_not_written(written: io.StringIO) -> None:
    """What raises while it is read might be what holds the secret."""

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError(CANARY)

    logging.getLogger("somebody.else").error("failed: %s", Broken())
    assert written.getvalue() == "a log line could not be cleaned\n"


def test_a_library_that_writes_every_field_writes_none(written: io.StringIO) -> None:
    """Compressed fields of HTTP/2 hold values that nobody finds again."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.DEBUG)
    Encoder().encode([("authorization", CANARY)])
    logging.getLogger("somebody.else").debug("seen")
    root.setLevel(level)
    assert written.getvalue() == "seen\n"


def test_a_rotated_secret_is_the_one_that_is_cleaned() -> None:
    """The values are asked for at each line, so that a reload counts at once."""
    values = [Secret("a", "first-value")]
    redaction = Redaction(lambda: values)
    values[:] = [Secret("a", "second-value")]
    record = logging.LogRecord("x", logging.ERROR, "x", 1, "it is second-value", None, None)
    assert redaction.filter(record)
    assert record.getMessage() == "it is <secret a>"


def test_a_very_short_value_leaves_text_alone() -> None:
    """A value of a few characters would take every word that holds it along."""
    record = logging.LogRecord("x", logging.ERROR, "x", 1, "as it was", None, None)
    assert Redaction(lambda: [Secret("a", "as")]).filter(record)
    assert record.getMessage() == "as it was"
