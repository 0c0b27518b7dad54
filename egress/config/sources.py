"""Finds policy files: `NAME` of a shipped policy, `PATH`, or `SCOPE=` before either."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from egress.config.wording import did_you_mean, one_of, printable, quoted
from egress.errors import ConfigError, Problem
from egress.policy import Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# In a checkout this is a link to `policies/` at its root; a wheel holds the files themselves.
SHIPPED: Final = Path(__file__).parent / "shipped"

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*\Z")
_SCOPED = re.compile(r"([A-Za-z_-]+)=(.*)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PolicySource:
    """A policy file and the scope that it speaks for."""

    scope: Scope
    path: Path


def shipped_policies() -> dict[str, Path]:
    """The policies that come with egress, by name."""
    return {path.stem: path.resolve() for path in sorted(SHIPPED.glob("*.yaml"))}


def find_policy(text: str) -> PolicySource:
    """The file that `text` names. A bare name is always a shipped policy, so that no file of the folder shadows it.

    Raises ConfigError for an unknown scope or an unknown bare name. Whether the file exists is seen when it is read.
    """
    scope = Scope.SANDBOX
    scoped = _SCOPED.match(text)
    if scoped is not None:
        words = [member.value for member in Scope]
        if scoped[1] not in words:
            raise _error(text, f"unknown scope {quoted(scoped[1])}", did_you_mean(scoped[1], words))
        scope, text = Scope(scoped[1]), scoped[2]
    if not text or "\0" in text:
        raise _error(text or "--policy", "no policy is named", f"write a path, or {one_of(shipped_policies())}")
    if _NAME.match(text) is None:
        return PolicySource(scope, Path(text))
    shipped = shipped_policies()
    if text not in shipped:
        hint = did_you_mean(text, shipped)
        if Path(text).exists():
            hint = f"for the file write `./{text}`"
        elif "did you mean" in hint:
            hint += f" The shipped policies are {one_of(shipped).replace(' or ', ' and ')}"
        raise _error(text, "no shipped policy has this name", hint)
    return PolicySource(scope, shipped[text])


def with_policies(configured: Iterable[PolicySource], named: Sequence[PolicySource]) -> list[PolicySource]:
    """The policies of a configuration, without those of scopes for which others are named; then the named ones."""
    replaced = {source.scope for source in named}
    return [*(source for source in configured if source.scope not in replaced), *named]


def _error(name: str, message: str, hint: str) -> ConfigError:
    return ConfigError([Problem(printable(name), None, "", message, hint)])
