"""What is to be said of secrets before anything is sent: what cannot work, and what works and should not stay so. Pure.

No part of a value is in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.credentials.secret import Secret
from egress.credentials.spellings import SHORTEST
from egress.errors import CredentialError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

type Values = Mapping[str, Secret | CredentialError]


def unusable(values: Values) -> tuple[Problem, ...]:
    """What keeps secrets from being used, one each."""
    return tuple(_told(each.message, each.hint) for each in values.values() if isinstance(each, CredentialError))


def too_short(values: Values) -> list[Problem]:
    """Values that are not scrubbed."""
    what = f"a value of fewer than {SHORTEST} characters cannot be told from other text in answers"
    return [
        _told(f"secret `{name}`: {what}", "use a longer one: it is not scrubbed")
        for name, value in values.items()
        if isinstance(value, Secret) and len(value.reveal()) < SHORTEST
    ]


def open_to_others(name: str, path: Path) -> Problem:
    """A file that other users can read or write."""
    return _told(f"secret `{name}`: other users can use file `{path}`", f"chmod 600 '{path}'")


def colliding(placeholders: Mapping[str, str], values: Values) -> tuple[Problem, ...]:
    """Placeholders that cannot be told from one another, or from a value."""
    texts = [(f"placeholder of `{name}`", text) for name, text in placeholders.items()]
    texts += [(f"value of `{name}`", value.reveal()) for name, value in values.items() if isinstance(value, Secret)]
    hint = "write another `value` as its placeholder, or none"
    return tuple(
        _told(f"secret `{name}`: its placeholder stands in the {what}", hint)
        for name, text in placeholders.items()
        for what, other in texts
        if text in other and what != f"placeholder of `{name}`"
    )


def _told(message: str, hint: str) -> Problem:
    return Problem(file="credentials", line=None, where="", message=message, hint=hint)
