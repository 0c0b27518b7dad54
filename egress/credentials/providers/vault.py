"""HashiCorp Vault, KV version 2: a field of the newest version of a secret.

1. sign in  by a token, or once by AppRole or Kubernetes: such a login is kept (`Login`) for as long as its lease lasts,
            since a role's secret id may be good for a few logins only
2. renew    a token past half of its lease is renewed; one that cannot be is used to its end, then there is a new login
3. read     a login that is refused (403) and turns out to be over (revoked) is given up, and there is one new login
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote
from weakref import WeakValueDictionary

from egress.config.secret_sources import FileSource, VaultAppRole, VaultToken
from egress.credentials.providers.asking import Asking, Fields
from egress.credentials.providers.interface import Answer, Fetched
from egress.credentials.providers.token_endpoint import secure, still_valid
from egress.credentials.sources import checked

if TYPE_CHECKING:
    from egress.config.secret_sources import VaultKubernetes, VaultSource
    from egress.credentials.providers.interface import Means
    from egress.credentials.secret import Secret

_OK = 200
_FORBIDDEN = 403
# A new version of a secret is seen after this time at the latest; KV gives no lease of its own.
_KEEP_SECONDS = 300.0
_LOGINS_AT_MOST = 64
_HINTS = {
    400: "check the role, and what it signs in with",
    403: "check the token or role, and that its policy may read the secret's path",
    404: "check mount, path and namespace, and that the newest version is not deleted",
    412: "the node has not seen the newest state yet; it is asked again later",
    473: "this node is a standby that does not answer; give the address of the cluster",
    501: "initialize Vault",
    503: "unseal Vault, or wait for the end of its maintenance",
}
_PATH = re.compile(r"[^/\x00-\x20\x7f][^\x00-\x1f\x7f]*[^/.\x00-\x20\x7f]|[^/.\x00-\x20\x7f]")

type _Key = tuple[str, str | None, VaultToken | VaultAppRole | VaultKubernetes]


@dataclass(frozen=True, slots=True)
class Login:
    """A Vault token. `ends`: when its lease does, in seconds since 1970; None: never, or it does not say."""

    token: Secret
    begun: float
    ends: float | None = None
    renewable: bool = False

    def half_gone(self, now: float) -> bool:
        """True once half of the lease is over."""
        return self.ends is not None and now - self.begun >= (self.ends - self.begun) / 2


# By who signs in where, the newest last; a login goes when its lease ends, when Vault refuses it, or when it is the
# oldest of too many.
_logins: OrderedDict[_Key, Login] = OrderedDict()


# Held by nobody, a lock is gone: none outlives the event loop that it was made on.
_signing_in: WeakValueDictionary[_Key, asyncio.Lock] = WeakValueDictionary()


async def fetch(name: str, source: VaultSource, means: Means) -> Fetched:
    """The field of the secret, now."""
    session = _Session(Asking(name, "Vault"), source, means)
    login = await session.login()
    answer = await session.read(login)
    if answer.status == _FORBIDDEN and await session.is_over(login):
        session.forget(login)
        login = await session.login()
        answer = await session.read(login)
    if answer.status != _OK:
        raise session.asking.refusal(answer, _HINTS)
    return session.field_of(answer, login)


class _Session:
    """One fetch: a Vault, as whom it is asked, and the way to ask."""

    def __init__(self, asking: Asking, source: VaultSource, means: Means) -> None:
        self.asking = asking
        self.source = source
        self.means = means
        self.key: _Key = (source.address, source.namespace, source.auth)
        self.base = secure(asking, source.address.rstrip("/"))

    async def login(self) -> Login:
        """The login that is kept, renewed if it should be, or a new one: one at a time for who signs in alike."""
        lock = _signing_in.get(self.key) or asyncio.Lock()
        _signing_in[self.key] = lock
        async with lock:
            now = self.means.now()
            kept = self._kept(now)
            if kept is not None and kept.renewable and kept.half_gone(now):
                kept = await self._renewed(kept)
            return self._keep(kept or await self._new(now))

    async def is_over(self, login: Login) -> bool:
        """Whether a login of ours that Vault refuses is over; else its policy forbids the path, as for the next one."""
        if isinstance(self.source.auth, VaultToken):
            return False
        answer = await self._ask("GET", "auth/token/lookup-self", login.token)
        return answer.status == _FORBIDDEN

    def forget(self, login: Login) -> None:
        """Give up a login, if it is the one that is kept."""
        if _logins.get(self.key) is login:
            del _logins[self.key]

    def _keep(self, login: Login) -> Login:
        _logins[self.key] = login
        _logins.move_to_end(self.key)
        while len(_logins) > _LOGINS_AT_MOST:
            _logins.popitem(last=False)
        return login

    def _kept(self, now: float) -> Login | None:
        kept = _logins.get(self.key)
        if kept is None or (kept.ends is not None and kept.ends <= now):
            return None
        # A token is somebody else's to replace, so its leaf is read each time.
        if isinstance(self.source.auth, VaultToken) and kept.token != self._given(self.source.auth):
            return None
        return kept

    def _given(self, auth: VaultToken) -> Secret:
        return checked(self.asking.secret, self.means.leaf(auth.token).reveal(), "the token for Vault")

    async def _new(self, now: float) -> Login:
        auth = self.source.auth
        if isinstance(auth, VaultToken):
            return await self._looked_up(self._given(auth), now)
        if isinstance(auth, VaultAppRole):
            proof = {"role_id": auth.role_id, "secret_id": self.means.leaf(auth.secret_id).reveal()}
        else:
            proof = {"role": auth.role, "jwt": self.means.leaf(FileSource(auth.token)).reveal()}
        answer = await self._ask("POST", f"auth/{self._place('mount', auth.mount)}/login", None, proof)
        if answer.status != _OK:
            raise self.asking.refusal(answer, _HINTS)
        return self._lease(self.asking.fields(answer).object("auth"), now)

    async def _looked_up(self, token: Secret, now: float) -> Login:
        """What Vault says of a token that was given. The default policy allows the question; if not, it just reads."""
        answer = await self._ask("GET", "auth/token/lookup-self", token)
        if answer.status != _OK:
            return Login(token, now)
        data = self.asking.fields(answer).object("data")
        ttl = data.seconds("ttl")
        return Login(token, now, now + ttl if ttl else None, data.content.get("renewable") is True)

    async def _renewed(self, login: Login) -> Login | None:
        now = self.means.now()
        answer = await self._ask("POST", "auth/token/renew-self", login.token, {})
        if answer.status != _OK:
            return login if answer.status != _FORBIDDEN else None
        return self._lease(self.asking.fields(answer).object("auth"), now)

    def _lease(self, auth: Fields, now: float) -> Login:
        token = checked(self.asking.secret, auth.text("client_token"), "the token that Vault gave")
        seconds = auth.seconds("lease_duration")
        return Login(token, now, now + seconds if seconds else None, auth.content.get("renewable") is True)

    async def read(self, login: Login) -> Answer:
        """What Vault answers about the secret."""
        source = self.source
        place = f"{self._place('mount', source.mount)}/data/{self._place('path', source.path)}"
        return await self._ask("GET", place, login.token)

    async def _ask(
        self, method: str, place: str, token: Secret | None, content: dict[str, str] | None = None
    ) -> Answer:
        headers = {"X-Vault-Request": "true"}
        if token is not None:
            headers["X-Vault-Token"] = token.reveal()
        if self.source.namespace is not None:
            headers["X-Vault-Namespace"] = self.source.namespace
        body = b"" if content is None else json.dumps(content).encode()
        return await self.means.call(method, f"{self.base}/v1/{place}", headers=headers, body=body)

    def _place(self, what: str, text: str) -> str:
        # A dot segment would ask for another secret than the one that is written down.
        if _PATH.fullmatch(text) is None or {"", ".", ".."} & set(text.split("/")):
            raise self.asking.error(f"cannot have such a {what}", f"write `{what}` as Vault lists it, without `data/`")
        return quote(text)

    def field_of(self, answer: Answer, login: Login) -> Fetched:
        """The field that the source names. A version that is to be deleted at a time is good until then."""
        now = self.means.now()
        data = self.asking.fields(answer).object("data")
        values, metadata = data.object("data"), data.object("metadata")
        if metadata.content.get("destroyed") is True:
            raise self.asking.error("has destroyed this version of the secret", "write a new version")
        if self.source.field not in values:
            raise self.asking.error("has no such field in the secret", "check `field`")
        deleted = metadata.moment("deletion_time") if metadata.content.get("deletion_time") else None
        return Fetched(
            self.asking.value(values.text(self.source.field)),
            expires=still_valid(self.asking, deleted, now),
            refresh_seconds=_refresh(login, now),
        )


def _refresh(login: Login, now: float) -> float:
    """Often enough that the login is renewed in the second half of its lease."""
    if login.ends is None or not login.renewable:
        return _KEEP_SECONDS
    return min(_KEEP_SECONDS, max((login.ends - now) / 2, 1.0))
