"""Imports the network settings of the sandbox runtime and of Claude Code, from JSON.

The shapes follow the README and the configuration schema of the sandbox runtime (`network.allowedDomains`,
`network.deniedDomains`; what is denied wins) and the settings of Claude Code, which hold the same under `sandbox` and
besides permissions such as `WebFetch(domain:example.com)`.

1. denials first, since they win there
2. a domain there is a host on every port and by any protocol; here it is HTTP on 443 and 80
3. `WebFetch(domain:...)` reads, so its permission becomes one for reading; its denial one of the whole host
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from egress.review.convert.incoming import allowed_host, denied_host
from egress.review.convert.loss import Converted, Effect, Losses
from egress.review.convert.policy_text import ImportedPolicy, ImportedRule
from egress.review.convert.source import read_source

if TYPE_CHECKING:
    from egress.review.convert.source import Source
    from egress.review.yaml_text import Plain

_FETCH: Final = re.compile(r"WebFetch\(\s*domain:\s*([^()\s]+)\s*\)\Z")
_LISTS: Final = ("allowedDomains", "deniedDomains")


def from_sandbox_runtime(text: str, file: str) -> Converted:
    """The policy file for settings of the sandbox runtime. Raises ConfigError."""
    return _converted(read_source(text, file), "settings of the sandbox runtime", file)


def from_claude_code(text: str, file: str) -> Converted:
    """The policy file for settings of Claude Code. Raises ConfigError."""
    return _converted(read_source(text, file), "settings of Claude Code", file)


def _converted(source: Source, what: str, file: str) -> Converted:
    losses = Losses(file)
    policy = ImportedPolicy(f"Imported from {what}.")
    permissions = source.mapping("permissions")
    network = (source.mapping("sandbox") or source).mapping("network")
    denied = _denied(network, "deniedDomains", losses) + _fetched(permissions, "deny", losses)
    asked = _fetched(permissions, "ask", losses)
    allowed = _allowed(network, losses)
    reading = [host for host in _fetched(permissions, "allow", losses) if host not in allowed]
    for verb, hosts, more in (
        ("deny", denied, {}),
        ("ask", asked, {}),
        ("allow", allowed, {}),
        ("allow", reading, {"methods": "read-only"}),
    ):
        if hosts:
            values: dict[str, Plain] = {verb: list(dict.fromkeys(hosts)), **more}
            policy.rules.append(ImportedRule(values))
    _note_the_rest(network, losses)
    if allowed:
        losses.add(Effect.NARROWER, "a domain is every port and protocol there; here it is HTTP on 443 and 80")
    if reading:
        losses.add(Effect.NARROWER, "`WebFetch` permissions became rules for reading")
    return Converted(policy.text(), tuple(losses.found))


def _allowed(network: Source | None, losses: Losses) -> list[str]:
    texts = [] if network is None else network.texts("allowedDomains")
    found = [allowed_host(text, line, losses) for text, line in texts]
    return [host for host in found if host is not None]


def _denied(network: Source | None, key: str, losses: Losses) -> list[str]:
    texts = [] if network is None else network.texts(key)
    return [denied_host(text, line, losses) for text, line in texts]


def _fetched(permissions: Source | None, key: str, losses: Losses) -> list[str]:
    """The hosts of the `WebFetch(domain:...)` entries; other tools' entries say nothing of the network."""
    found: list[str] = []
    for text, line in [] if permissions is None else permissions.texts(key):
        match = _FETCH.match(text)
        if match is None:
            if text.startswith("WebFetch"):
                effect = Effect.LEFT_OUT if key == "allow" else Effect.NOTE
                losses.add(effect, "`WebFetch` without one domain names no host", line)
        elif key == "allow":
            found += _fetched_host(match[1], line, losses)
        else:
            found.append(denied_host(match[1], line, losses))
    return found


def _fetched_host(text: str, line: int, losses: Losses) -> list[str]:
    if text == "*":
        losses.add(Effect.LEFT_OUT, "a permission to fetch from every host names none", line)
        return []
    host = allowed_host(text, line, losses)
    return [] if host is None else [host]


def _note_the_rest(network: Source | None, losses: Losses) -> None:
    for key in [] if network is None else network.unknown(*_LISTS):
        line = network.line(key) if network is not None else None
        losses.add(Effect.NOTE, f"`network.{key}` says nothing about hosts and is passed over", line)
