"""Installation tokens of a GitHub App, for no more than was asked.

An answer that is wider than the question, in repositories or in permissions, is an error: the token would work, and
nobody would notice what else it opens.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from egress.credentials.providers.asking import Asking
from egress.credentials.providers.interface import Fetched
from egress.credentials.providers.jwt import signed
from egress.credentials.providers.token_endpoint import secure, still_valid

if TYPE_CHECKING:
    from egress.config.secret_sources import GithubAppSource
    from egress.credentials.providers.asking import Fields
    from egress.credentials.providers.interface import Means

_CREATED = 201
_API_VERSION = "2022-11-28"
# GitHub refuses a time of issue that is to come by its own clock, and more than ten minutes until the end.
_BACKDATED_SECONDS = 60
_LIFETIME_SECONDS = 540
_LEVELS = ("read", "write", "admin")
_HINTS = {
    401: "check `app_id`, that the private key is the app's, and this machine's clock",
    403: "the app or its installation is suspended, or GitHub's limit is reached",
    404: "check `installation_id`, that the app is installed there, and `api`",
    422: "the installation does not have these repositories or permissions",
}


async def fetch(name: str, source: GithubAppSource, means: Means) -> Fetched:
    """An installation token, now."""
    asking = Asking(name, "GitHub")
    if re.fullmatch(r"[0-9]{1,20}", source.installation_id) is None:
        raise asking.error("has no such installation", "write the number of the installation as `installation_id`")
    now = means.now()
    answer = await means.call(
        "POST",
        f"{secure(asking, source.api.rstrip('/'))}/app/installations/{source.installation_id}/access_tokens",
        headers={
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {_proof(asking, source, means)}",
            "X-GitHub-Api-Version": _API_VERSION,
        },
        body=_wish(source),
    )
    if answer.status != _CREATED:
        raise asking.refusal(answer, _HINTS)
    fields = asking.fields(answer)
    _check_repositories(asking, source, fields)
    _check_permissions(asking, source, fields)
    expires = still_valid(asking, fields.moment("expires_at"), now)
    return Fetched(asking.value(fields.text("token")), expires=expires)


def _proof(asking: Asking, source: GithubAppSource, means: Means) -> str:
    now = int(means.now())
    claims: dict[str, str | int] = {
        "iat": now - _BACKDATED_SECONDS,
        "exp": now + _LIFETIME_SECONDS,
        "iss": source.app_id,
    }
    return signed(asking, claims, means.leaf(source.private_key))


def _wish(source: GithubAppSource) -> bytes:
    wish: dict[str, list[str] | dict[str, str]] = {}
    if source.repositories:
        # GitHub takes names without their owner, which is the installation's.
        wish["repositories"] = [repository.rpartition("/")[2] for repository in source.repositories]
    if source.permissions:
        wish["permissions"] = dict(source.permissions)
    return json.dumps(wish).encode() if wish else b""


def _check_repositories(asking: Asking, source: GithubAppSource, fields: Fields) -> None:
    if not source.repositories:
        return
    asked = {repository.lower() for repository in source.repositories}
    given = fields.objects("repositories")
    names = [(repository.text("name").lower(), repository.text("full_name").lower()) for repository in given]
    if fields.text("repository_selection") != "selected" or not all({*both} & asked for both in names):
        raise asking.error("gave a token for more repositories than were asked for")


def _check_permissions(asking: Asking, source: GithubAppSource, fields: Fields) -> None:
    if not source.permissions:
        return
    # Every token may read metadata: that is not asked for and cannot be left out.
    asked = {"metadata": "read", **dict(source.permissions)}
    for permission in fields.object("permissions").content:
        level = fields.object("permissions").text(permission)
        if permission not in asked or _rank(level) > _rank(asked[permission]):
            raise asking.error("gave a token for more permissions than were asked for")


def _rank(level: str) -> int:
    return _LEVELS.index(level) if level in _LEVELS else len(_LEVELS)
