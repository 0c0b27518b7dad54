"""A proxy that answers identity endpoints, for secrets whose values only the test and the origin know."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

from egress.config import GoogleIdentity, IdentityConfig, NamedSecret
from rig.modes import HOST, Site
from rig.proxy import LOOPBACK, port_of
from rig.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins

    from rig.proxy import Proxy
    from rig.wire import Reply

ARM, VAULT = "https://management.azure.com", "https://vault.azure.net"
EMAIL, PROJECT = "agent@one.iam.gserviceaccount.com", "one-project"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
AWS = json.dumps(
    {"Version": 1, "AccessKeyId": "ASIAREAL", "SecretAccessKey": AWS_SECRET, "SessionToken": "real-session"}
)
VALUES = {"ARM": "real-arm-token-1", "VAULT": "real-vault-token-2", "KEYS": AWS, "CLOUD": "real-google-token-3"}
IDENTITY = IdentityConfig(
    ("127.0.0.1", 0),
    azure={ARM: NamedSecret("arm"), VAULT: NamedSecret("vault")},
    aws=NamedSecret("keys"),
    google=GoogleIdentity(NamedSecret("cloud"), EMAIL, PROJECT, ("https://www.googleapis.com/auth/cloud-platform",)),
)
UNBOUND = "elsewhere.test"


def policy(port: int, more: str = "") -> str:
    """Each secret is swapped, or signs, under a path of its own; at another host there is no rule for any."""
    hosts = f'hosts: ["{HOST}:{port}"]'
    return f"""
version: 1
secrets:
  arm: {{env: ARM, {hosts}, placeholder: {{like: jwt}}}}
  vault: {{env: VAULT, {hosts}, placeholder: {{like: jwt}}}}
  keys: {{env: KEYS, {hosts}, placeholder: {{like: plain}}}}
  cloud: {{env: CLOUD, {hosts}, placeholder: {{like: plain}}}}
rules:
  - {{allow: "{HOST}:{port}", paths: [/arm/**], swap: {{secret: arm, headers: [Authorization]}}, {LOOPBACK}}}
  - {{allow: "{HOST}:{port}", paths: [/vault/**], swap: {{secret: vault, headers: [Authorization]}}, {LOOPBACK}}}
  - {{allow: "{HOST}:{port}", paths: [/bucket/**], sign: {{sigv4: keys}}, {LOOPBACK}}}
  - {{allow: "{HOST}:{port}", paths: [/cloud/**], swap: {{secret: cloud, headers: [Authorization]}}, {LOOPBACK}}}
  - {{allow: "{UNBOUND}:{port}", {LOOPBACK}}}
{more}"""


def begin(start: Callable[..., Proxy], origin: Origins, more: str = "", **setup: object) -> Site:
    """A site whose proxy answers the endpoints."""
    port = port_of(origin)
    asked: dict[str, object] = {"env": VALUES, "identity": IDENTITY, **setup}
    return Site(start(policy(port, more), HOST, UNBOUND, **asked), origin, port)


def token_of(proxy: Proxy) -> str:
    """What `egress env` exports for clients to show."""
    assert proxy.gate.endpoints is not None
    return proxy.gate.endpoints._token


def placeholder(proxy: Proxy, name: str) -> str:
    """What the sandbox holds in place of a secret."""
    found = proxy.gate.generation.credentials.placeholder(name)
    assert found is not None
    return found


def ask(proxy: Proxy, path: str, *fields: str, method: str = "GET", host: str | None = None) -> Reply:
    """Ask the listener of the endpoints, directly."""
    address, port = proxy.endpoints
    with Wire(socket.create_connection(proxy.endpoints, timeout=10)) as wire:
        rows = [f"{method} {path} HTTP/1.1", f"Host: {host or f'{address}:{port}'}", *fields, "", ""]
        return wire.send("\r\n".join(rows).encode()).reply(method)


def ask_through(proxy: Proxy, url: str, *fields: str, method: str = "GET") -> Reply:
    """Ask for a whole URL, as a client does of its proxy."""
    with proxy.connect() as wire:
        host = url.split("/")[2]
        rows = [f"{method} {url} HTTP/1.1", f"Host: {host}", *fields, "", ""]
        return wire.send("\r\n".join(rows).encode()).reply(method)
