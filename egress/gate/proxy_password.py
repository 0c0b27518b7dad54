"""The password that we sign in to an upstream proxy with.

INVARIANT secret-confinement: it is read from a leaf source, held here, and sent to the proxy alone. A value of our own
store goes to no proxy that it is not bound to.

1. A variable is read once, before any process is forked, and taken out of the environment.
2. A file and the store are read at the first connection, and again after the proxy refused what they held.
3. What the proxy refused is not tried again at once: clients would lock the account by asking.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from egress.config import EnvSource, FileSource, ProxyScheme, StoreSource
from egress.credentials.means import binding_of
from egress.credentials.sources import checked, read_file
from egress.errors import CredentialError
from egress.wire.socks_reply import LONGEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.config import UpstreamProxy
    from egress.credentials import Secret
    from egress.credentials.means import Stored

NAME: Final = "upstream.proxy.password"
_REST_SECONDS: Final = 5.0

# One a process, and the same in those that are forked from it.
_variables: dict[str, Secret] = {}


@dataclass(slots=True)
class ProxyPassword:
    """The password of one proxy. `stored`: a record of our own store; it is called in a thread."""

    proxy: UpstreamProxy
    stored: Callable[[str], Stored]
    rest_seconds: float = _REST_SECONDS
    _held: Secret | None = field(default=None, repr=False)
    _rests_until: float = 0.0

    async def get(self) -> Secret | None:
        """The value, if one is configured. Raises EgressError."""
        if self._held is None and self.proxy.password is not None:
            read = self.read
            self._held = read() if isinstance(self.proxy.password, EnvSource) else await asyncio.to_thread(read)
        return self._held

    @property
    def rests(self) -> bool:
        """Whether the proxy refused it a moment ago."""
        return time.monotonic() < self._rests_until

    def refused(self) -> None:
        """The proxy did not take it: it may have been changed where it is kept."""
        if self.proxy.password is not None:
            self._held = None
            self._rests_until = time.monotonic() + self.rest_seconds

    def known(self) -> tuple[Secret, ...]:
        """What is held, for the cleaning of logs."""
        return () if self._held is None else (self._held,)

    def read(self) -> Secret:
        """Read it now. Raises EgressError for what is missing, or cannot be sent."""
        match self.proxy.password:
            case EnvSource(variable=variable):
                found = _of_variable(variable)
            case FileSource(path=path):
                found = read_file(NAME, path).secret
            case StoreSource(name=name):
                found = self._of_store(name)
            case None:
                raise CredentialError(f"secret `{NAME}`: no source is named")
        if self.proxy.address.scheme is ProxyScheme.SOCKS5 and len(found.reveal()) > LONGEST:
            raise CredentialError(f"secret `{NAME}`: a password for SOCKS5 has at most {LONGEST} bytes")
        return found

    def _of_store(self, name: str) -> Secret:
        record = self.stored(name)
        address = self.proxy.address
        if not binding_of(record).holds(address.host, address.port, "CONNECT", None):
            raise CredentialError(
                f"secret `{NAME}`: the stored secret `{name}` is bound to other hosts than `{address.host.text}`",
                hint="bind it to the proxy's host and port",
            )
        return checked(NAME, record.value.reveal(), f"the stored secret `{name}`")


def remember(proxy: UpstreamProxy) -> None:
    """Keep the value of its variable, which a secret of the same variable is about to take out of the environment."""
    if isinstance(proxy.password, EnvSource) and os.environ.get(proxy.password.variable):
        _variables[proxy.password.variable] = _of(proxy.password.variable, os.environ[proxy.password.variable])


def _of_variable(variable: str) -> Secret:
    value = os.environ.pop(variable, None)
    if value is not None:
        _variables[variable] = _of(variable, value)
    if variable not in _variables:
        raise CredentialError(
            f"secret `{NAME}`: variable `{variable}` is not set", hint="set it where the proxy is started"
        )
    return _variables[variable]


def _of(variable: str, value: str) -> Secret:
    return checked(NAME, value, f"variable `{variable}`")
