"""What a stored secret is bound to: hosts, and perhaps methods and paths. Bindings are law: a policy only narrows them.

INVARIANT secret-confinement: what cannot be read as a host, a path or a method is bound to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from egress import config
from egress.errors import ConfigError
from egress.policy import Protocol, Request

if TYPE_CHECKING:
    from egress.policy import Host


@dataclass(frozen=True, slots=True)
class Binding:
    """As it was stored, in words that go from process to process. No `methods` or `paths`: all; no `hosts`: none."""

    hosts: tuple[str, ...]
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    def holds(self, host: Host, port: int, method: str | None, path: str | None) -> bool:
        """Whether the value may go with a request. A method or path that is not known is not bound."""
        read = _read(self)
        return read is not None and read.covers(Request("", Protocol.HTTPS, host, port, method, path))


@lru_cache(maxsize=1_024)
def _read(binding: Binding) -> config.Binding | None:
    try:
        return config.read_binding(binding.hosts, binding.methods, binding.paths)
    except ConfigError:
        return None
