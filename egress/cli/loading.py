"""What every command that loads a policy loads it with: one reading of `--policy`, `--presets` and `--config`.

1. as `egress run`  policies that are named replace those of the configuration for the same scope; folders add up
2. the secrets      of the configuration are known to every policy that is loaded with it
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import typer

from egress.cli.options import sandbox_named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from egress.config import LoadedPolicy, PolicySource, SandboxDefinition, SecretDefinition
    from egress.policy import Address, Sandbox

_NONE_NAMED = "no policy is named: add `--policy NAME` or `--policy FILE`, or the server's `--config`"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands around the policies that a command names: what the server's configuration and flags say.

    `audit` is the configuration's database; None without a configuration.
    """

    policies: tuple[PolicySource, ...] = ()
    presets: tuple[Path, ...] = ()
    secrets: Mapping[str, SecretDefinition] = field(default_factory=dict)
    pins: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
    audit: Path | None = None
    sandboxes: tuple[SandboxDefinition, ...] = ()

    def sources(self, named: Sequence[PolicySource]) -> list[PolicySource]:
        """The configuration's policies but for the scopes of those that are named, then those that are named."""
        from egress.config import with_policies  # noqa: PLC0415

        return with_policies(self.policies, named)

    def load(self, sources: Sequence[PolicySource], *, at: datetime | None = None) -> LoadedPolicy:
        """Load these policies, and no others, as they are now or at a moment. Raises ConfigError with every problem.

        Who asks by the name of a sandbox of the configuration alone is answered with that one's labels.
        """
        from egress.config import load_policy, wall_clock  # noqa: PLC0415

        clock = wall_clock if at is None else at.timestamp
        loaded = load_policy(sources, secrets=self.secrets, presets=self.presets, clock=clock)
        return replace(loaded, sandboxes={own.name: own.sandbox for own in self.sandboxes})

    def who(self, name: str | None, labels: list[str] | None) -> Sandbox | None:
        """The sandbox that is asked about; its labels are those of the configuration, unless some are named."""
        if name is None and not labels:
            return None
        own = self._configured(name)
        return own.sandbox if own is not None and not labels else sandbox_named(name, labels)

    def load_named(
        self, texts: Sequence[str], *, at: datetime | None = None, sandbox: str | None = None
    ) -> LoadedPolicy:
        """Load what these texts name, beside what the configuration does; the warnings go to standard error.

        `sandbox`: with the files that this one has of its own, if it is configured.
        """
        sources = [*self.sources(find(texts)), *self.own_policies(sandbox)]
        if not sources:
            raise typer.BadParameter(_NONE_NAMED, param_hint="--policy")
        loaded = self.load(sources, at=at)
        for warning in loaded.warnings:
            typer.echo(f"warning: {warning}", err=True)
        return loaded

    def own_policies(self, sandbox: str | None) -> tuple[PolicySource, ...]:
        """The files that a sandbox of the configuration has beside those of all."""
        own = self._configured(sandbox)
        return () if own is None else own.policies

    def _configured(self, name: str | None) -> SandboxDefinition | None:
        return next((own for own in self.sandboxes if own.name == name), None)


def surroundings(
    config: Path | None = None, presets: Sequence[Path] | None = None, resolve: Sequence[str] | None = None
) -> Surroundings:
    """What these options say. Raises ConfigError."""
    from egress.config import PinError, ServerOverrides, load_server_config, parse_pin  # noqa: PLC0415

    for text in resolve or ():
        pin = parse_pin(text)
        if isinstance(pin, PinError):
            raise typer.BadParameter(f"{pin.message}; {pin.hint}", param_hint="--resolve")
    overrides = ServerOverrides(presets=tuple(presets or ()), resolve=tuple(resolve or ()))
    server = load_server_config(config, overrides, os.environ)
    audit = None if config is None else server.audit.path
    return Surroundings(server.policies, server.presets, server.secrets, server.resolve, audit, server.sandboxes)


def find(texts: Sequence[str] | None) -> list[PolicySource]:
    """The files that `[SCOPE=]NAME` or `[SCOPE=]FILE` name. Raises ConfigError."""
    from egress.config import find_policy  # noqa: PLC0415

    return [find_policy(text) for text in texts or ()]
