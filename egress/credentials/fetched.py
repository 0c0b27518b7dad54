"""The secrets of one store whose values have to be fetched: what is wanted, who fetches it, what it is bound to.

The variables that their sources name are read here and now, as those of other secrets are, so that they can be taken
out of the environment; files and our own store are read where the values are fetched.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from egress.config import EnvSource
from egress.config.plain_sources import is_fetched, leaves_of
from egress.credentials.secret import Secret
from egress.credentials.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from egress.config import SecretDefinition
    from egress.config.secret_sources import FetchedSource
    from egress.credentials.wanted import SecretService, Usable
    from egress.policy import Request


class FetchedSecrets:
    """`service` fetches; None: nobody does, and there are no values. `variables`: the values of leaves, by name."""

    def __init__(self, definitions: Mapping[str, SecretDefinition], env: Mapping[str, str]) -> None:
        self.service: SecretService | None = None
        self._sources: dict[str, FetchedSource] = {}
        for name, definition in definitions.items():
            if is_fetched(definition.source):
                self._sources[name] = definition.source
        self.named = frozenset(
            leaf.variable
            for source in self._sources.values()
            for leaf in leaves_of(source)
            if isinstance(leaf, EnvSource)
        )
        self.variables = {name: Secret(name, env[name]) for name in self.named if name in env}
        self.wanted: dict[str, Wanted] = {}
        self._want()

    def had(self, variables: Mapping[str, Secret]) -> None:
        """Have values of variables that were read before, and are not in the environment any more."""
        self.variables = {**variables, **self.variables}
        self._want()

    def value(self, name: str) -> Usable | None:
        """What can be used now."""
        return None if self.service is None else self.service.known(self.wanted[name])

    def is_bound(self, name: str, request: Request) -> bool:
        """Whether our own store, where that is the source, binds the value to the request. True while there is none."""
        usable = self.value(name)
        binding = None if usable is None else usable.binding
        return binding is None or binding.holds(request.host, request.port, request.method, request.path)

    async def fetch(self, names: Iterable[str]) -> None:
        """Have values fetched that are not there, all at once, and wait for them, within the service's limit."""
        service = self.service
        lacking = [self.wanted[name] for name in names if name in self.wanted and self.value(name) is None]
        if service is None or not lacking:
            return
        if len(lacking) == 1:
            await service.fetch(lacking[0])
            return
        await asyncio.gather(*[service.fetch(wanted) for wanted in lacking])

    def secrets(self) -> list[Secret]:
        """The values of variables, and of all that was fetched, for the cleaning of logs."""
        fetched = () if self.service is None else self.service.values()
        return [*self.variables.values(), *fetched]

    def _want(self) -> None:
        for name, source in self._sources.items():
            named = {leaf.variable for leaf in leaves_of(source) if isinstance(leaf, EnvSource)}
            leaves = {variable: value for variable, value in self.variables.items() if variable in named}
            self.wanted[name] = Wanted(name, source, leaves)
