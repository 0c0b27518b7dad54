"""AWS: keys, as the credentials endpoint of containers gives them.

They open nothing: a rule with `sign` takes off the signature that the SDK makes with them, and puts on one by the real
keys. The secret key is the placeholder; the rest is made from it, and is no secret of anybody.
"""

from __future__ import annotations

import base64
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from egress.gate.endpoints.answers import Answer, as_json, given

if TYPE_CHECKING:
    from egress.config import NamedSecret
    from egress.gate.endpoints.answers import Question

KEYS_PATH: Final = "/aws/credentials"
# Temporary keys begin so, and the id is 20 letters and digits in all.
_KEY_ID: Final = "ASIAEGRESS"
_KEY_ID_LENGTH: Final = 20


def ask_aws(question: Question, secret: NamedSecret) -> Answer | None:
    """Keys, or why there are none; None: this is not asked of AWS."""
    if question.path != KEYS_PATH:
        return None
    if not question.shows_token("authorization"):
        message = "Authorization is not the value of the variable AWS_CONTAINER_AUTHORIZATION_TOKEN"
        told = {"code": "AccessDenied", "message": message}
        return Answer(HTTPStatus.UNAUTHORIZED, as_json(told), f"{message}.")
    placeholder = question.placeholder(secret.name)
    keys = {
        "AccessKeyId": f"{_KEY_ID}{base64.b32encode(_made('id', placeholder)).decode()}"[:_KEY_ID_LENGTH],
        "SecretAccessKey": placeholder,
        "Token": f"egress-{_made('token', placeholder).hex()}",
        "Expiration": question.stamp(),
    }
    return given(secret.name, keys)


def _made(what: str, placeholder: str) -> bytes:
    return sha256(f"{what}\0{placeholder}".encode()).digest()
