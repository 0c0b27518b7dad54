"""What the providers share: reading a service's answer, and saying what is wrong with it without quoting it.

1. A message names the secret, the service and the status; of an answer's own words only those that a specification
   lists are repeated, since an error page may echo what was sent.
2. A value that is missing, of another kind, or doubtful is an error, never a default.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from egress.credentials.sources import checked
from egress.errors import CredentialError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.credentials.providers.interface import Answer
    from egress.credentials.secret import Secret

_TOO_MANY = 429
_SERVER_ERRORS = 500
# Longer than any token lives: a service that counts milliseconds must not have its tokens kept for years.
_LONGEST_SECONDS = 10 * 366 * 86_400
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Asking:
    """A service that is asked for a secret's value: the subject of every message about it."""

    secret: str
    service: str

    def error(self, what: str, hint: str = "") -> CredentialError:
        """An error about this service: `what` is the rest of the sentence."""
        return CredentialError(f"secret `{self.secret}`: {self.service} {what}", hint=hint)

    def refusal(self, answer: Answer, hints: Mapping[int, str], said: str = "") -> CredentialError:
        """What an answer other than the one hoped for means. `said`: a word of it that may be repeated."""
        if answer.status in hints:
            hint = hints[answer.status]
        elif answer.status == _TOO_MANY:
            hint = "it is asked too often; it is asked again later"
        elif answer.status >= _SERVER_ERRORS:
            hint = "the fault is its own; it is asked again later"
        else:
            hint = "check what the secret's source asks for"
        return self.error(f"answered {answer.status}{f' ({said})' if said else ''}", hint)

    def fields(self, answer: Answer) -> Fields:
        """The JSON object that an answer holds."""
        return self.parsed(answer.body, "sent an answer that is not a JSON object")

    def parsed(self, text: str | bytes, otherwise: str) -> Fields:
        """The JSON object in `text`; `otherwise` is what the error says of anything else."""
        content = None
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise self.error(otherwise)
        return Fields(self, content)

    def value(self, text: str) -> Secret:
        """`text` as the secret's value. Raises CredentialError if it cannot stand in a header."""
        return checked(self.secret, text, f"the value that {self.service} gave")


@dataclass(frozen=True, slots=True, repr=False)
class Fields:
    """The members of a JSON object of an answer; they are read by what they must be."""

    asking: Asking
    content: Mapping[str, object]

    def __repr__(self) -> str:
        return f"<fields of {self.asking.service}>"

    def __contains__(self, key: str) -> bool:
        return self.content.get(key) is not None

    def text(self, key: str) -> str:
        """The text at `key`, which must not be empty."""
        found = self.content.get(key)
        if not isinstance(found, str) or not found:
            raise self.asking.error(f"sent an answer without `{key}`")
        return found

    def object(self, key: str) -> Fields:
        """The object at `key`."""
        found = self.content.get(key)
        if not isinstance(found, dict):
            raise self.asking.error(f"sent an answer without `{key}`")
        return Fields(self.asking, found)

    def objects(self, key: str) -> tuple[Fields, ...]:
        """The list of objects at `key`."""
        found = self.content.get(key)
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise self.asking.error(f"sent an answer without a list at `{key}`")
        return tuple(Fields(self.asking, item) for item in found)

    def seconds(self, key: str) -> float:
        """A number of seconds at `key`, from 0 to ten years. Digits in a text are taken as well: Azure writes them."""
        found = self.content.get(key)
        if isinstance(found, str) and re.fullmatch(r"[0-9]{1,10}", found):
            found = int(found)
        if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= _LONGEST_SECONDS:
            raise self.asking.error(f"sent an answer whose `{key}` is no number of seconds")
        return float(found)

    def moment(self, key: str) -> float:
        """The moment at `key`, written as seconds since 1970 or as RFC 3339 has it."""
        found = self.content.get(key)
        if isinstance(found, str) and re.fullmatch(r"[0-9]{1,11}", found):
            return float(found)
        if isinstance(found, str) and _RFC3339.fullmatch(found):
            return instant(self.asking, found)
        if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < 10**11:
            raise self.asking.error(f"sent an answer whose `{key}` is no moment")
        return float(found)


def instant(asking: Asking, text: str) -> float:
    """An RFC 3339 moment as seconds since 1970; Vault writes nine digits after the point, Python reads six."""
    try:
        return datetime.fromisoformat(re.sub(r"\.\d+", "", text.upper())).timestamp()
    except (ValueError, OverflowError):
        pass
    raise asking.error("sent an answer with a moment that does not exist")
