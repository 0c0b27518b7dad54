"""What an identity endpoint is asked, and what it answers: plain values, which hold placeholders at most."""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from egress.policy import Request

type Fields = tuple[tuple[bytes, bytes], ...]

# How long a client is told that what it got is good: then it asks again, and gets the same.
LIFETIME_SECONDS: Final = 3_600
_JSON: Final = b"application/json; charset=utf-8"
_FIELDS_AT_MOST: Final = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; `detail` is its sentence for the record, `fields` are those that the service itself would send."""

    status: int
    body: bytes
    detail: str
    content_type: bytes = _JSON
    fields: Fields = ()

    @property
    def given(self) -> bool:
        """Whether the client got what it asked for."""
        return self.status == HTTPStatus.OK


@dataclass(frozen=True, slots=True)
class Question:
    """A GET at one of the endpoints, at `now` (seconds since 1970). `placeholder` gives that of a secret.

    `token` is what a client shows where its SDK takes one from the environment.
    """

    request: Request
    now: float
    token: str
    placeholder: Callable[[str], str]

    @property
    def path(self) -> str:
        """As it was sent."""
        return self.request.path or "/"

    def header(self, name: str) -> str:
        """The value of a header; empty where it is missing, or stands there twice."""
        found = [value for key, value in self.request.headers if key.lower() == name]
        return found[0].strip() if len(found) == 1 else ""

    def parameters(self) -> Mapping[str, str]:
        """The query's parameters; one that stands there twice is none."""
        try:
            pairs = parse_qsl(self.request.query or "", keep_blank_values=True, max_num_fields=_FIELDS_AT_MOST)
        except ValueError:
            return {}
        names = [name for name, _ in pairs]
        return {name: value for name, value in pairs if names.count(name) == 1}

    def shows_token(self, header: str) -> bool:
        """Whether this header holds the token."""
        return hmac.compare_digest(self.header(header).encode("utf-8", "replace"), self.token.encode())

    def stamp(self, seconds: int = LIFETIME_SECONDS) -> str:
        """A moment from now, as in `2026-12-31T18:00:00Z`."""
        return datetime.fromtimestamp(int(self.now) + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def as_json(value: object) -> bytes:
    """A JSON text."""
    return json.dumps(value, separators=(",", ":")).encode()


def given(secret: str, value: object, what: str = "") -> Answer:
    """The placeholder of a secret, as JSON."""
    return Answer(HTTPStatus.OK, as_json(value), f"The placeholder of `{secret}`{what}.")
