"""The placeholders of secrets: made from a key, so that every process makes the same, and none can be guessed.

1. one secret, one key: one placeholder, whatever its value, so that a rotation changes nothing in the sandbox
2. what is random in it is at least 80 bits, so that it never stands anywhere by chance
3. it looks like the credential that it stands for, with `egress` where people look first
"""

from __future__ import annotations

import base64
import hmac
import json
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from egress.config import Placeholder, Shape, form_of
from egress.policy import HostTarget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.config import SecretDefinition

_MARK: Final = "egress"
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_JWT_HEADER: Final = {"alg": "HS256", "typ": "JWT"}
# The end of 2099: a client that looks must not take it for an old one, and has it renewed.
_JWT_EXPIRES: Final = 4_102_444_799


def placeholder_of(definition: SecretDefinition, key: bytes) -> str:
    """The placeholder of a secret under `key`: the one that its definition says, or one that looks like it. Pure."""
    said = definition.placeholder or Placeholder()
    if said.value is not None:
        return said.value
    hosts = [host.what.name for host in definition.hosts if isinstance(host.what, HostTarget)]
    form = form_of(said.like, said.variable, hosts)
    if form.shape is Shape.JWT:
        return _jwt(definition.name, key, form.length)
    text = _MARK + _random(definition.name, key, form.length - len(_MARK))
    if form.gap:
        text = f"{text[: form.gap]}_{text[form.gap + 1 :]}"
    return f"{form.prefix}{text}{form.suffix}"


def placeholders_of(definitions: Mapping[str, SecretDefinition], key: bytes) -> dict[str, str]:
    """The placeholders of those that have one, by name."""
    return {name: placeholder_of(each, key) for name, each in definitions.items() if each.placeholder is not None}


def needs_key(definitions: Mapping[str, SecretDefinition]) -> bool:
    """Whether a placeholder has to be made up."""
    return any(each.placeholder is not None and each.placeholder.value is None for each in definitions.values())


def _jwt(name: str, key: bytes, length: int) -> str:
    claims = {"iss": _MARK, "exp": _JWT_EXPIRES, "jti": _random(name, key, 22)}
    parts = [_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (_JWT_HEADER, claims)]
    return ".".join((*parts, _random(f"{name}\0signature", key, length)))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _random(name: str, key: bytes, length: int) -> str:
    """So many letters and digits. A character is drawn from 8 bytes: no letter is noticeably likelier than another."""
    drawn = bytearray()
    count = 0
    while len(drawn) < length * 8:
        drawn += hmac.digest(key, b"placeholder\0%d\0%s" % (count, name.encode()), sha256)
        count += 1
    steps = range(0, length * 8, 8)
    return "".join(_ALPHABET[int.from_bytes(drawn[at : at + 8]) % len(_ALPHABET)] for at in steps)
