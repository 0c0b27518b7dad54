"""The effective policy as plain values: scopes from the highest down, each rule in the order in which it is tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.review.spelling import plain, rule_values, scope_values

if TYPE_CHECKING:
    from egress.config import LoadedPolicy
    from egress.policy import Sandbox
    from egress.review.spelling import JsonObject


def effective(loaded: LoadedPolicy, sandbox: Sandbox | None = None) -> JsonObject:
    """Digest, files, scopes with their rules and origins, presets with the parameters that they resolved to.

    Of secrets the names, never where a value is. `sandbox` None: rules as they are written, for whichever sandbox.
    Raises ConfigError, as `LoadedPolicy.of` does.
    """
    policy = loaded.policy if sandbox is None else loaded.of(sandbox)
    return {
        "digest": loaded.policy.digest,
        "files": [str(path) for path in loaded.files],
        "secrets": list(loaded.secrets),
        "includes": [
            {"preset": each.preset, "by": f"{each.by}:{each.line}", "parameters": plain(dict(each.parameters))}
            for each in loaded.includes
        ],
        "scopes": [
            scope_values(scope) | {"rules": [rule_values(rule) for rule in scope.rules]} for scope in policy.scopes
        ],
    }
