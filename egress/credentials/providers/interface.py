"""What a provider gives, and what it is given to work with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.config.secret_sources import LeafSource
    from egress.credentials.binding import Binding
    from egress.credentials.secret import Secret


@dataclass(frozen=True, slots=True)
class Fetched:
    """A value, and until when it is valid: seconds since 1970, or None where its source does not say.

    `refresh_seconds`: after so long it is fetched anew, valid or not; None: the broker's own measure. `renewed` is what
    the source gave in place of a leaf that can be used once (a refresh token), for the next fetch. `binding`: what our
    own store binds the value to.
    """

    value: Secret
    expires: float | None = None
    refresh_seconds: float | None = None
    renewed: Secret | None = None
    binding: Binding | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A service's answer: at most a megabyte of body, and never shown, since it may hold a value."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"<answer {self.status}>"


class Means(Protocol):
    """What a provider may use. Everything here is bounded in time and size."""

    def now(self) -> float:
        """The time, in seconds since 1970."""

    def leaf(self, source: LeafSource) -> Secret:
        """The value of a leaf. Raises CredentialError."""

    async def call(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Ask a service, over verified TLS where the URL says https; redirects are not followed.

        Raises CredentialError where there is no answer. `http:` is for services of the host itself, at link-local and
        loopback addresses: others are refused.
        """


class Provider[Source](Protocol):
    """`fetch` of a provider's module."""

    async def __call__(self, name: str, source: Source, means: Means) -> Fetched:
        """The value of the secret `name`, now. Raises CredentialError."""
