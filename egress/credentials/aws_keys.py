"""Reads the value of a secret as AWS's keys: the JSON that a `credential_process` prints, or `ID:SECRET[:TOKEN]`.

INVARIANT secret-confinement: what is wrong is said without any part of the value.
"""

from __future__ import annotations

import json
import re
from typing import Final

from egress.credentials.secret import Secret
from egress.credentials.sigv4 import Keys

_ID = re.compile(r"[A-Za-z0-9_]{4,128}")
_VISIBLE = re.compile(r"[!-~]{1,16384}")
_NAME: Final = "aws"
_FORMS: Final = "it is neither the JSON that a credential_process prints nor ID:SECRET or ID:SECRET:TOKEN"


def read_keys(value: str) -> Keys:
    """The keys in a secret's value. Raises ValueError that says what is wrong."""
    return _of_json(value) if value.startswith("{") else _of_text(value)


def _of_json(value: str) -> Keys:
    try:
        stated = json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError(_FORMS) from None
    if not isinstance(stated, dict) or stated.get("Version", 1) != 1:
        raise ValueError(_FORMS)
    return _keys(stated.get("AccessKeyId"), stated.get("SecretAccessKey"), stated.get("SessionToken"))


def _of_text(value: str) -> Keys:
    parts = value.split(":", 2)
    if len(parts) == 1:
        raise ValueError(_FORMS)
    return _keys(parts[0], parts[1], parts[2] if parts[2:] else None)


def _keys(key_id: object, key: object, token: object) -> Keys:
    if not isinstance(key_id, str) or _ID.fullmatch(key_id) is None:
        raise ValueError("its access key id is missing, or is none")
    if not isinstance(key, str) or _VISIBLE.fullmatch(key) is None:
        raise ValueError("its secret access key is missing, or is none")
    if token is not None and (not isinstance(token, str) or _VISIBLE.fullmatch(token) is None):
        raise ValueError("its session token is none")
    return Keys(key_id, Secret(_NAME, key), None if token is None else Secret(_NAME, token))
