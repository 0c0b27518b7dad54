"""A sandbox as configuration knows it: how its clients are told from others, and which files it has of its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from egress.config.listening import ListenAddress
    from egress.config.sources import PolicySource
    from egress.policy import Network, Sandbox

# The sandbox of a client that is none of those that there are. No sandbox has this name.
UNKNOWN_SANDBOX: Final = "unknown"
# `openssl rand -hex 32` gives twice as many.
TOKEN_AT_LEAST: Final = 32
TOKEN_AT_MOST: Final = 256


@dataclass(frozen=True, slots=True)
class SandboxDefinition:
    """All that is stated must hold: the client's address in `sources`, its user in `uids`, its listener, its token.

    Only a unix socket tells a client's user, and none tells an address.
    `token` is the SHA-256 of the token, which is random, so that no slower hash is needed. `policies` come beside the
    files that all sandboxes have in common.

    Of one that was registered at run time, `session` is the text of its own scope (`session`), which can only narrow,
    and `expires` when it ends (seconds since 1970; None: when it is removed).
    """

    sandbox: Sandbox
    sources: tuple[Network, ...] = ()
    listener: ListenAddress | None = None
    token: bytes | None = field(default=None, repr=False)
    policies: tuple[PolicySource, ...] = ()
    registered: bool = False
    session: str = field(default="", repr=False)
    expires: float | None = None
    uids: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The sandbox's name."""
        return self.sandbox.name


def hash_token(token: bytes) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token).digest()
