"""Azure: tokens of a managed identity, from the instance metadata service, and as App Service and Container Apps do it.

A token is for one resource. One that the configuration does not name is refused as the services refuse it, with 400.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from egress.config import bare_resource
from egress.gate.endpoints.answers import LIFETIME_SECONDS, Answer, as_json, given

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.config import NamedSecret
    from egress.gate.endpoints.answers import Question

INSTANCE_PATH: Final = "/metadata/identity/oauth2/token"
SERVICE_PATH: Final = "/msi/token"
_SERVICE_VERSION: Final = "2019-08-01"


def ask_azure(question: Question, azure: Mapping[str, NamedSecret]) -> Answer | None:
    """A token, or why there is none; None: this is not asked of Azure."""
    match question.path:
        case path if path == INSTANCE_PATH:
            if question.header("metadata").lower() != "true":
                return _refused("invalid_request", "the header `Metadata: true` is missing")
            if not question.parameters().get("api-version"):
                return _refused("invalid_request", "the parameter `api-version` is missing")
        case path if path == SERVICE_PATH:
            if not question.shows_token("x-identity-header"):
                message = "X-IDENTITY-HEADER is not the value of the variable IDENTITY_HEADER"
                return _refused("unauthorized", message, HTTPStatus.UNAUTHORIZED)
            if question.parameters().get("api-version") != _SERVICE_VERSION:
                return _refused("invalid_request", f"the parameter `api-version` is not {_SERVICE_VERSION}")
        case _:
            return None
    return _token(question, azure)


def _token(question: Question, azure: Mapping[str, NamedSecret]) -> Answer:
    asked = question.parameters().get("resource", "")
    resource = bare_resource(asked)
    secret = azure.get(resource)
    if secret is None:
        return _refused("invalid_resource", "the configuration has no secret for this resource, see `identity: azure`")
    expires = int(question.now) + LIFETIME_SECONDS
    token = {
        "access_token": question.placeholder(secret.name),
        "expires_in": str(LIFETIME_SECONDS),
        "expires_on": str(expires),
        "ext_expires_in": str(LIFETIME_SECONDS),
        "not_before": str(int(question.now)),
        "resource": asked,
        "token_type": "Bearer",
    }
    return given(secret.name, token, f", for `{resource}`")


def _refused(code: str, message: str, status: int = HTTPStatus.BAD_REQUEST) -> Answer:
    # The one service says it in the first two, the other in the others.
    told = {"error": code, "error_description": message, "statusCode": int(status), "message": message}
    return Answer(status, as_json(told), f"{message[0].upper()}{message[1:]}.")
