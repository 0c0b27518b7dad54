"""The values of secrets that are in variables: read once, and had from then on.

A variable is read here and now, so that it can then be taken out of the environment; what was ever read is handed to
the stores of later reloads, and to other processes of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.config import EnvSource
from egress.credentials.secret import Secret
from egress.credentials.sources import checked
from egress.errors import CredentialError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.config import SecretDefinition

type PlainValue = str | tuple[str, str]


class Variables:
    """`values`: of each secret that is in a variable the value, or why there is none. `named`: those variables."""

    __slots__ = ("_ever", "_variables", "values")

    def __init__(self, definitions: Mapping[str, SecretDefinition], env: Mapping[str, str]) -> None:
        self._variables = {
            name: definition.source.variable
            for name, definition in definitions.items()
            if isinstance(definition.source, EnvSource)
        }
        self.values = {name: _read(name, variable, env) for name, variable in self._variables.items()}
        # Every value ever read, by its variable: a secret that one reload drops and the next brings back is still had.
        self._ever = self._own()

    @property
    def named(self) -> frozenset[str]:
        """The variables that these secrets are in."""
        return frozenset(self._variables.values())

    @property
    def ever(self) -> Mapping[str, Secret]:
        """Every value that was ever read, by its variable."""
        return self._ever

    def had(self, before: Mapping[str, Secret], env: Mapping[str, str]) -> None:
        """Have what was read `before`, of variables that `env` has lost since."""
        self._ever = {**before, **self._ever}
        for name, variable in self._variables.items():
            if variable not in env and variable in before:
                self.values[name] = _read(name, variable, {variable: before[variable].reveal()})

    def keep(self, before: Mapping[str, Secret]) -> None:
        """Have what was read `before` for a later reload, besides what is had here."""
        self._ever = {**before, **self._own()}

    def hand_on(self) -> dict[str, PlainValue]:
        """The values in clear, for `handed_on` in another of our own processes."""
        return {
            name: value.reveal() if isinstance(value, Secret) else (value.message, value.hint)
            for name, value in self.values.items()
        }

    def handed_on(self, values: Mapping[str, PlainValue]) -> None:
        """Take what `hand_on` of another process gave."""
        for name, value in values.items():
            self.values[name] = Secret(name, value) if isinstance(value, str) else _problem(*value)

    def _own(self) -> dict[str, Secret]:
        return {self._variables[name]: value for name, value in self.values.items() if isinstance(value, Secret)}


def _read(name: str, variable: str, env: Mapping[str, str]) -> Secret | CredentialError:
    try:
        return checked(name, env.get(variable, ""), f"variable `{variable}`")
    except CredentialError as error:
        return error


def _problem(message: str, hint: str) -> CredentialError:
    return CredentialError(message, hint=hint)
