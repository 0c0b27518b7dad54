"""Reads `sandboxes:` of the server's configuration, and finds what would leave it open who a client is.

1. a sandbox states a source, a listener, a user or a token: without any it would be nobody, or everybody
2. two sandboxes that the same client would be, equally well, are an error: for one source and listener only one
   sandbox does without a token
3. a token stands in the file as its hash; one of the environment is taken out of it
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.config.listening import UnixListener
from egress.config.sandboxes_model import TOKEN_AT_LEAST, TOKEN_AT_MOST, UNKNOWN_SANDBOX, SandboxDefinition, hash_token
from egress.config.socket_fields import placed
from egress.config.wording import kind_of, quoted
from egress.policy import DEFAULT_SANDBOX, Sandbox, is_label_key, is_sandbox_word

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from egress.config.document import Document
    from egress.config.listening import ListenAddress
    from egress.config.server_model import SandboxModel
    from egress.config.sources import PolicySource
    from egress.config.wording import Place
    from egress.errors import Problem
    from egress.policy import Network

type Claim = tuple[ListenAddress | None, Network | int | None]

_HASH = re.compile(r"sha256:([0-9a-f]{64})\Z")
_WORD_HINT = "write 1 to 63 lower-case letters, digits and `-`, as in `ci-7`"


@dataclass(slots=True)
class SandboxReader:
    """Reads the sandboxes of one file. `find` gives the sources that a text names, at its place."""

    document: Document
    folder: Path
    listens: tuple[ListenAddress, ...]
    env: Mapping[str, str]
    find: Callable[[str, Place], list[PolicySource]]
    problems: list[Problem] = field(default_factory=list)

    def read(self, models: Mapping[str, SandboxModel]) -> tuple[SandboxDefinition, ...]:
        """Every sandbox, in order."""
        found = tuple(self._read(name, model, ("sandboxes", name)) for name, model in models.items())
        self._check_clashes(found)
        return found

    def _read(self, name: str, model: SandboxModel, place: Place) -> SandboxDefinition:
        problem = name_problem(name)
        if problem:
            self._problem(place, problem, _WORD_HINT)
        if all(stated is None for stated in (model.source, model.listener, model.uid, model.token, model.token_env)):
            message = "nothing tells this sandbox's clients from others"
            self._problem(place, message, "give it a `source`, a `listener`, a `uid`, a `token` or a `token_env`")
        listener = placed(model.listener, self.folder) if isinstance(model.listener, UnixListener) else model.listener
        if listener is not None and listener not in self.listens:
            message = "the proxy does not listen there, so nobody would be this sandbox"
            self._problem((*place, "listener"), message, "add the address to `listen`")
        self._check_user(model, listener, place)
        return SandboxDefinition(
            sandbox=Sandbox(name, self._labels(model, place)),
            sources=tuple(model.source or ()),
            listener=listener,
            token=self._token(model, place),
            policies=tuple(self._policies(model, place)),
            uids=model.uid or (),
        )

    def _check_user(self, model: SandboxModel, listener: ListenAddress | None, place: Place) -> None:
        """Only a unix socket tells a client's user, and none tells an address: with both, nobody is the sandbox."""
        on_unix = model.uid is not None or isinstance(listener, UnixListener)
        if model.source is not None and on_unix:
            message = "a client of a unix socket has no address, so nobody would be this sandbox"
            self._problem((*place, "source"), message, "remove it, or make two sandboxes of it")
        if model.uid is None:
            return
        if not any(isinstance(address, UnixListener) for address in self.listens):
            message = "the proxy listens on no unix socket, so nobody would be this sandbox"
            self._problem((*place, "uid"), message, "add `unix:/run/egress/proxy.sock` to `listen`")
        elif listener is not None and not isinstance(listener, UnixListener):
            message = "its listener is no unix socket, so nobody would be this sandbox"
            self._problem((*place, "uid"), message, "write `listener: unix:PATH`, or none")

    def _labels(self, model: SandboxModel, place: Place) -> tuple[tuple[str, str], ...]:
        for key, value in (model.labels or {}).items():
            at = (*place, "labels", key)
            if not is_label_key(key):
                self._problem(at, f"{quoted(key)} is not a key for a label", "write lower-case letters, as in `team`")
            if not is_sandbox_word(value):
                self._problem(at, f"{quoted(value)} is not a value for a label", _WORD_HINT)
        return tuple((model.labels or {}).items())

    def _token(self, model: SandboxModel, place: Place) -> bytes | None:
        if model.token is not None and model.token_env is not None:
            self._problem(place, "both `token` and `token_env` are given", "keep one of them")
        if model.token is not None:
            hashed = _HASH.match(model.token)
            if hashed is None:
                # Not shown: people paste the token itself here.
                message = "this is not the hash of a token"
                hint = "write `sha256:` and the 64 hex digits of `printf %s TOKEN | sha256sum`"
                self._problem((*place, "token"), message, hint)
                return None
            return bytes.fromhex(hashed[1])
        return None if model.token_env is None else self._token_of(model.token_env, (*place, "token_env"))

    def _token_of(self, variable: str, place: Place) -> bytes | None:
        token = self.env.get(variable, "")
        if token and is_token(token):
            return hash_token(token.encode())
        message = f"the variable {quoted(variable)} is not set" if not token else "the variable's value is no token"
        hint = f"give it {TOKEN_AT_LEAST} or more random characters, as `openssl rand -hex 32` makes them"
        self._problem(place, message, hint)
        return None

    def _policies(self, model: SandboxModel, place: Place) -> list[PolicySource]:
        named = [(text, (*place, "policy", index)) for index, text in enumerate(model.policy or ())]
        for scope, texts in (model.scopes or {}).items():
            named += [(f"{scope}={text}", (*place, "scopes", scope, index)) for index, text in enumerate(texts)]
        return [source for text, at in named for source in self.find(text, at)]

    def _check_clashes(self, found: tuple[SandboxDefinition, ...]) -> None:
        owners: dict[Claim, str] = {}
        for definition in found:
            for claim in claims(definition):
                owner = owners.setdefault(claim, definition.name)
                if owner != definition.name:
                    what = claim[1]
                    user = f"the user {what}"
                    source = "its listener" if what is None else user if isinstance(what, int) else quoted(what)
                    message = f"{source} is that of the sandbox {quoted(owner)} too, so it is open whose a client is"
                    hint = "give one of them a narrower source"
                    hint = "give one of them a `listener` of its own" if isinstance(what, int) else hint
                    self._problem(("sandboxes", definition.name), message, hint)

    def _problem(self, place: Place, message: str, hint: str) -> None:
        self.problems.append(self.document.problem(place, message, hint))


def claims(definition: SandboxDefinition) -> list[Claim]:
    """By which listener, and range or user, a client without a token is the sandbox; none where it needs one."""
    if definition.token is not None or not (definition.sources or definition.uids or definition.listener):
        return []
    return [(definition.listener, what) for what in definition.sources or definition.uids or (None,)]


def name_problem(name: str) -> str:
    """Why text cannot name a sandbox; empty: it can."""
    if not is_sandbox_word(name):
        return f"{quoted(name)} is not a name for a sandbox"
    if name in {DEFAULT_SANDBOX.name, UNKNOWN_SANDBOX}:
        return f"{quoted(name)} is what clients are called that are no sandbox of their own"
    return ""


def label_problem(key: object, value: object) -> str:
    """Why these are no label; empty: they are one."""
    if not isinstance(key, str) or not is_label_key(key):
        return f"{quoted(key)} is not a key for a label"
    if not isinstance(value, str) or not is_sandbox_word(value):
        return f"{quoted(value) if isinstance(value, str) else kind_of(value)} is not a value for a label"
    return ""


def is_token(text: str) -> bool:
    """Whether text can be a token: long enough that nobody guesses it, of what can stand in a proxy's URL."""
    return TOKEN_AT_LEAST <= len(text) <= TOKEN_AT_MOST and re.fullmatch(r"[A-Za-z0-9._~-]+", text) is not None
