"""Which clouds' identity endpoints the proxy answers itself, where, and with the placeholder of which secret."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from egress.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from egress.config.secrets_model import SecretDefinition

_JWT: Final = "jwt"


@dataclass(frozen=True, slots=True)
class NamedSecret:
    """The name of a secret, and where it is named: file, line and place."""

    name: str
    file: str = ""
    line: int | None = None
    where: str = ""

    def problem(self, message: str, hint: str) -> Problem:
        """A problem there."""
        return Problem(self.file, self.line, self.where, message, hint)


@dataclass(frozen=True, slots=True)
class GoogleIdentity:
    """A service account as Google's metadata server tells of it; None: it does not."""

    secret: NamedSecret
    email: str
    project: str | None = None
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IdentityConfig:
    """The endpoints. `azure`: the secret of each resource, which has no slash at its end. None, empty: not answered."""

    listen: tuple[str, int]
    azure: Mapping[str, NamedSecret] = field(default_factory=dict)
    aws: NamedSecret | None = None
    google: GoogleIdentity | None = None

    def problems(self, secrets: Mapping[str, SecretDefinition]) -> Iterator[Problem]:
        """What keeps the endpoints from being answered with what the policies define."""
        named = [*self.azure.values()]
        named += [] if self.aws is None else [self.aws]
        named += [] if self.google is None else [self.google.secret]
        for each in named:
            azure = each in self.azure.values()
            definition = secrets.get(each.name)
            if definition is None:
                yield each.problem(f"no secret `{each.name}` is defined", "define it under `secrets`")
            elif definition.placeholder is None:
                message = f"the secret `{each.name}` has no placeholder, and the sandbox gets nothing else"
                yield each.problem(message, f"add `placeholder: {{like: {_JWT if azure else 'plain'}}}` to it")
        for each in self.azure.values():
            said = None if (definition := secrets.get(each.name)) is None else definition.placeholder
            if said is not None and said.value is None and said.like != _JWT:
                message = f"the placeholder of `{each.name}` does not look like a token of Azure"
                yield each.problem(message, "write `placeholder: {like: jwt}`")


def bare_resource(text: str) -> str:
    """A resource as it is compared: clients write it with a slash at the end, or without."""
    return text.removesuffix("/")
