"""A site whose secrets have every kind of source and are put on in every way, and a request for each of them.

Services that secrets are fetched from are real servers on loopback.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from credentials.clouds.server import serving
from credentials.clouds.tokens import TokenEndpoint
from credentials.clouds.vault import Secret as VaultSecret
from credentials.clouds.vault import Token, Vault
from secret_stores import put

from egress.config import read_binding
from egress.credentials.master_key import MasterKey
from egress.credentials.secret_store import FILE_NAME, SecretStore
from rig.canaries import canary
from rig.modes import HOST
from rig.proxy import LOOPBACK, SECRET

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable
    from pathlib import Path

    from credentials.clouds.server import Asked, Reply
    from harness.authority import TestAuthority

SERVICES = "services.test"
KEY = MasterKey(bytes(range(64, 96)))
KEY_VARIABLE = "EGRESS_SECRETS_KEY"

CANARIES = {
    # The text that injected faults hold.
    "env": SECRET,
    "file": canary("file"),
    "store": canary("store"),
    "command": canary("command"),
    # It stands in a path.
    "vault": canary("vault", harmless=True),
    "oauth": canary("oauth"),
    "session token": canary("session token"),
    "signing key": canary("signing key"),
    "hmac key": canary("hmac key"),
    "client secret": canary("client secret"),
    "vault token": canary("vault token", harmless=True),
    "store's key": KEY.text(),
}
# What never leaves in a request to the origin at all.
NEVER_SENT = ("signing key", "hmac key", "client secret", "vault token", "store's key")
HELD = {name: f"egress-held-{name}-0123456789abcdef" for name in ("store", "command", "vault", "oauth")}


@dataclass(frozen=True)
class Use:
    """One request that a value is put on. `fields` and `body` as the client sends them."""

    path: str
    names: tuple[str, ...]
    fields: tuple[str, ...] = ()
    body: bytes | None = None


_JSON, _FORM = "Content-Type: application/json", "Content-Type: application/x-www-form-urlencoded"
USES = {
    "injected": Use("/env", ("env",)),
    "injected as Basic": Use("/file", ("file",)),
    "swapped in a header": Use("/store", ("store",), (f"Authorization: Bearer {HELD['store']}",)),
    "swapped in a query": Use(f"/command?a=1&key={HELD['command']}", ("command",)),
    "swapped in a path": Use(f"/vault/{HELD['vault']}/x", ("vault",)),
    "swapped in JSON": Use("/oauth", ("oauth",), (_JSON,), json.dumps({"a": [HELD["oauth"]]}).encode()),
    "swapped in a form": Use("/oauth", ("oauth",), (_FORM,), f"a=b&key={HELD['oauth']}".encode()),
    "signed": Use("/sign", ("session token",)),
    "signed by a template": Use("/hmac", (), (), b"a body"),
}


@dataclass
class Planted:
    """The values where their sources have them. `folder` holds those that are files, and is searched by nobody."""

    folder: Path
    vault: Vault
    tokens: TokenEndpoint
    ports: dict[str, int] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    # How long the program may take.
    seconds: int = 8

    def policy(self, port: int) -> str:
        """The policy that names them all."""
        here, site = self.folder, f"{HOST}:{port}"
        held = {name: f"placeholder: {text}" for name, text in HELD.items()}
        return f"""
version: 1
secrets:
  env: {{env: CANARY, hosts: ["{site}"]}}
  file: {{file: "{here}/file", hosts: ["{site}"]}}
  store: {{store: stored, hosts: ["{site}"], {held["store"]}}}
  command: {{command: ["{here}/program"], timeout: {self.seconds}s, hosts: ["{site}"], {held["command"]}}}
  vault:
    vault:
      address: https://{SERVICES}:{self.ports["vault"]}
      path: ci/canary
      field: token
      auth: {{token: {{file: "{here}/vault-token"}}}}
    hosts: ["{site}"]
    {held["vault"]}
  oauth:
    oauth2:
      token_url: https://{SERVICES}:{self.ports["tokens"]}/oauth/token
      client_id: egress
      client_secret: {{env: CLIENT_SECRET}}
    hosts: ["{site}"]
    {held["oauth"]}
  keys: {{env: KEYS, hosts: ["{site}"]}}
  hook: {{file: "{here}/hook", hosts: ["{site}"]}}
rules:
  - {{deny: "{site}", paths: [/denied]}}
  - {{allow: "{site}", paths: [/env], inject: {{X-Api-Key: "Key ${{env}}"}}, {LOOPBACK}}}
  - allow: "{site}"
    paths: [/file]
    inject: {{Authorization: {{basic: {{user: git, password: "${{file}}"}}}}}}
    {LOOPBACK}
  - {{allow: "{site}", paths: [/store], swap: {{secret: store, headers: [Authorization]}}, {LOOPBACK}}}
  - {{allow: "{site}", paths: [/command], swap: {{secret: command, in: query}}, {LOOPBACK}}}
  - {{allow: "{site}", paths: ["/vault/*/x"], swap: {{secret: vault, in: path}}, {LOOPBACK}}}
  - {{allow: "{site}", paths: [/oauth], swap: {{secret: oauth, in: body}}, {LOOPBACK}}}
  - {{allow: "{site}", paths: [/sign], sign: {{sigv4: keys, region: eu-west-1, service: s3}}, {LOOPBACK}}}
  - allow: "{site}"
    paths: [/hmac]
    sign: {{hmac: {{secret: hook, message: "${{timestamp}}.${{body}}", header: X-Signature}}}}
    {LOOPBACK}
  - {{allow: "{site}", {LOOPBACK}}}
"""

    def program(self, text: str, *, more: str = "") -> None:
        """What the secret of a command prints from now on; renamed over, since one that runs cannot be written."""
        script = self.folder / "program.new"
        script.write_text(f"#!/bin/sh\n{more}\ncat <<'END'\n{text}\nEND\n")
        script.chmod(0o700)
        script.rename(self.folder / "program")

    def plant_store(self, port: int, state: Path) -> None:
        """The store, in a state folder that is there."""
        with SecretStore.create(state / FILE_NAME, KEY) as store:
            put(store, "stored", CANARIES["store"], read_binding([f"{HOST}:{port}"]))


def _write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o600)


def plant(folder: Path, authority: TestAuthority, stack: contextlib.ExitStack) -> Planted:
    """Put every value where its source has it; services run until the stack ends."""
    folder.mkdir()
    vault, tokens = Vault(lambda: 0.0), TokenEndpoint("egress", CANARIES["client secret"])
    planted = Planted(folder, vault, tokens)
    vault.tokens[CANARIES["vault token"]] = Token(None)
    vault.secrets["secret/data/ci/canary"] = VaultSecret({"token": CANARIES["vault"]})
    tokens.given = {"access_token": CANARIES["oauth"], "token_type": "Bearer", "expires_in": 3600}
    for name, service in (("vault", vault), ("tokens", tokens)):
        context = authority.server_context(SERVICES)
        planted.ports[name] = stack.enter_context(serving(service.reply, context))
    _write(folder, "file", CANARIES["file"])
    _write(folder, "hook", CANARIES["hmac key"])
    _write(folder, "vault-token", CANARIES["vault token"])
    planted.program(CANARIES["command"])
    keys = {"AccessKeyId": "ASIAPUBLIC", "SecretAccessKey": CANARIES["signing key"]}
    planted.env = {
        "CANARY": CANARIES["env"],
        "CLIENT_SECRET": CANARIES["client secret"],
        "KEYS": json.dumps({"Version": 1, **keys, "SessionToken": CANARIES["session token"]}),
    }
    return planted


def repeating(reply: Callable[..., Reply], status: int) -> Callable[[Asked], Reply]:
    """A service that fails, and says back all that it was asked with, and what it would have given."""

    def answer(asked: Asked) -> Reply:
        told = {"error": "invalid_request", "error_description": f"{asked.headers} {asked.body!r} {CANARIES}"}
        return reply(status, told)

    return answer
