"""Google Cloud: the metadata server, as far as it tells of the default service account, and of the project.

What would prove an identity to others (`identity`, a signed token for an audience) is not there: 404.
"""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from egress.gate.endpoints.answers import LIFETIME_SECONDS, Answer, as_json, given

if TYPE_CHECKING:
    from egress.config import GoogleIdentity
    from egress.gate.endpoints.answers import Fields, Question

ROOT: Final = "/computeMetadata/v1/"
_ACCOUNTS: Final = f"{ROOT}instance/service-accounts/"
_FLAVOR: Final = "Google"
_FIELDS: Final[Fields] = ((b"Metadata-Flavor", b"Google"), (b"Server", b"Metadata Server for VM"))
_TEXT: Final = b"application/text"
_TOLD: Final = "What the configuration says of the service account."
_UNIVERSE: Final = "googleapis.com"


def ask_google(question: Question, account: GoogleIdentity) -> Answer | None:
    """What the metadata server says; None: this is not asked of it."""
    if question.path == "/":
        # Clients find out so whether there is a metadata server.
        return _text("computeMetadata/\n", "Said that there is a metadata server.")
    if not question.path.startswith(ROOT):
        return None
    if question.header("metadata-flavor") != _FLAVOR:
        return _missing("the header `Metadata-Flavor: Google` is missing", HTTPStatus.FORBIDDEN)
    answer = _account(question, account) or _told(question.path, account)
    return answer or _missing("the metadata server answered here tells of one service account and its project only")


def _told(path: str, account: GoogleIdentity) -> Answer | None:
    """Of the project, and of what there is."""
    texts = {
        "project/project-id": account.project,
        "universe/universe-domain": _UNIVERSE,
        "universe/universe_domain": _UNIVERSE,
        "instance/service-accounts/": f"default/\n{account.email}/\n",
    }
    found = texts.get(path.removeprefix(ROOT))
    return None if found is None else _text(found, _TOLD)


def _account(question: Question, account: GoogleIdentity) -> Answer | None:
    name, slash, what = question.path.removeprefix(_ACCOUNTS).partition("/")
    if not question.path.startswith(_ACCOUNTS) or not slash or name not in {"default", account.email}:
        return None
    if what == "token":
        return _token(question, account)
    if not what and question.parameters().get("recursive", "").lower() == "true":
        told = {"aliases": ["default"], "email": account.email, "scopes": list(account.scopes)}
        return Answer(HTTPStatus.OK, as_json(told), _TOLD, fields=_FIELDS)
    texts = {
        "": "aliases\nemail\nscopes\ntoken\n",
        "email": account.email,
        "scopes": "".join(f"{scope}\n" for scope in account.scopes),
    }
    return None if what not in texts else _text(texts[what], _TOLD)


def _token(question: Question, account: GoogleIdentity) -> Answer:
    placeholder = question.placeholder(account.secret.name)
    token = {"access_token": placeholder, "expires_in": LIFETIME_SECONDS, "token_type": "Bearer"}
    return replace(given(account.secret.name, token), fields=_FIELDS)


def _text(text: str, detail: str) -> Answer:
    return Answer(HTTPStatus.OK, text.encode(), detail, _TEXT, _FIELDS)


def _missing(message: str, status: int = HTTPStatus.NOT_FOUND) -> Answer:
    return Answer(status, f"egress: {message}\n".encode(), f"{message[0].upper()}{message[1:]}.", _TEXT, _FIELDS)
