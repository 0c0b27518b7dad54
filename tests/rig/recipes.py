"""A page of docs/recipes in force: its policy on a proxy, its hosts at an origin's port, its clients sent through.

What is changed of a page's policy is where things are, and nothing that it decides: each host gets the origin's port,
each rule that allows gets the addresses of loopback, and each secret is read from a variable of its own name.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from documents import ROOT, blocks
from ruamel.yaml import YAML

from egress.config import PolicySource, load_policy
from egress.confine.environment import child_environment
from egress.credentials import placeholder_key, placeholder_of
from egress.policy import Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from rig.proxy import Proxy

FOLDER = ROOT / "docs" / "recipes"
_SOURCES = frozenset({"env", "file", "store", "command", "azure", "google", "aws", "github_app", "oauth2", "vault"})


def policies(page: str) -> list[str]:
    """The whole policies that a page shows."""
    return [block.text for block in blocks(FOLDER / page, "yaml") if "version: 1" in block.text]


def variable(secret: str) -> str:
    """The variable that a moved policy reads a secret from."""
    return f"REAL_{secret.upper()}"


def moved(policy: str, port: int) -> tuple[str, set[str]]:
    """The policy with its hosts at this port of loopback, and those hosts."""
    document: dict[str, Any] = YAML(typ="safe").load(policy)
    hosts: set[str] = set()

    def at_port(named: object) -> list[str]:
        names = named if isinstance(named, list) else [named]
        hosts.update(names)
        return [f"{name}:{port}" for name in names]

    for name, secret in document["secrets"].items():
        for source in _SOURCES & secret.keys():
            del secret[source]
        secret |= {"env": variable(name), "hosts": at_port(secret["hosts"])}
    for rule in document["rules"]:
        for verdict in {"allow", "deny"} & rule.keys():
            rule[verdict] = at_port(rule[verdict])
        if "allow" in rule:
            rule["addresses"] = ["127.0.0.0/8"]
    return json.dumps(document), hosts


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Where a page's commands run: behind the proxy, in a home of its own, with placeholders for credentials."""

    proxy: Proxy
    home: Path
    held: Mapping[str, str]

    def run(self, *words: str, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a client, and give what it did."""
        return subprocess.run(
            words,
            cwd=cwd or self.home,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    @property
    def environment(self) -> dict[str, str]:
        """The variables that `egress env` prints, and what every program needs."""
        ca = self.proxy.authority.certificate_path
        base = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LANG": "C.UTF-8", "GIT_CONFIG_NOSYSTEM": "1"}
        return base | dict(self.held) | dict(child_environment(self.url, ca, ca))

    def http(self) -> httpx.Client:
        """A client for replaying the requests of one that is not here. It follows no redirect by itself."""
        trusted = ssl.create_default_context(cafile=self.proxy.authority.certificate_path)
        return httpx.Client(proxy=self.url, verify=trusted, trust_env=False, timeout=20)

    @property
    def url(self) -> str:
        """The proxy's."""
        return f"http://127.0.0.1:{self.proxy.address[1]}"

    @property
    def refused(self) -> list[str]:
        """The reasons of what was refused, in order."""
        return [row.reason for row in self.proxy.ledger.decisions if row.verdict == "deny"]


def sandbox(
    start: Callable[..., Proxy], home: Path, policy: str, port: int, values: Mapping[str, str], *names: str
) -> Sandbox:
    """A sandbox under a page's policy, moved to `port`. `values`: the secrets', by name. `names`: more hosts to pin."""
    text, hosts = moved(policy, port)
    pinned = [name for name in (*hosts, *names) if "*" not in name]
    proxy = start(text, *pinned, env={variable(name): value for name, value in values.items()})
    loaded = load_policy([PolicySource(Scope.SANDBOX, proxy.policy_file)])
    key = placeholder_key(proxy.folder)
    held = {
        each.placeholder.variable: placeholder_of(each, key)
        for each in loaded.secrets.values()
        if each.placeholder is not None and each.placeholder.variable is not None
    }
    home.mkdir(exist_ok=True)
    return Sandbox(proxy, home, held)
