"""The variables that hold placeholders in the sandbox, as the configured policies define them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.config import SecretDefinition, ServerConfig


def placeholder_variables(
    server: ServerConfig, definitions: Mapping[str, SecretDefinition] | None = None
) -> dict[str, str]:
    """The placeholders by their variables. Raises ConfigError for the policy, StateError for the key.

    `definitions`: those of the policies, where they are loaded already.
    """
    from egress.credentials import needs_key, placeholder_key, placeholder_of  # noqa: PLC0415

    wanted = _by_variable(definitions_of(server) if definitions is None else definitions)
    key = placeholder_key(server.state_dir.absolute()) if needs_key(wanted) else b""
    return {variable: placeholder_of(each, key) for variable, each in wanted.items()}


def placeholder_names(server: ServerConfig) -> tuple[str, ...]:
    """The variables alone; none where the policy does not load, since they are to be removed."""
    try:
        return tuple(_by_variable(definitions_of(server)))
    except ConfigError:
        return ()


def _by_variable(definitions: Mapping[str, SecretDefinition]) -> dict[str, SecretDefinition]:
    return {
        each.placeholder.variable: each
        for each in definitions.values()
        if each.placeholder is not None and each.placeholder.variable is not None
    }


def definitions_of(server: ServerConfig) -> dict[str, SecretDefinition]:
    """The secrets that the configuration and its policies define. Raises ConfigError."""
    from egress.config import load_policies  # noqa: PLC0415

    if not server.policies and not server.sandboxes:
        return dict(server.secrets)
    # As the proxy loads them: which file may define secrets depends on which others there are.
    groups = dict.fromkeys([server.policies, *((*server.policies, *own.policies) for own in server.sandboxes)])
    loaded = load_policies(list(groups), secrets=server.secrets, presets=server.presets)
    return dict(loaded[0].secrets)
