"""The value is in our own encrypted store, with what it is bound to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from egress.credentials.means import FetchMeans, binding_of
from egress.credentials.providers.interface import Fetched
from egress.errors import CredentialError

if TYPE_CHECKING:
    from egress.config.secret_sources import StoreSource
    from egress.credentials.providers.interface import Means

# The store is a file of our own, cheap to ask: a value that was replaced or taken away is used no longer than this.
REFRESH_SECONDS: Final = 5.0


async def fetch(name: str, source: StoreSource, means: Means) -> Fetched:
    """The record of that name, as it is now. Raises CredentialError."""
    if not isinstance(means, FetchMeans):
        raise CredentialError(f"secret `{name}`: there is no store here")
    record = await means.stored(source.name)
    return Fetched(record.value, refresh_seconds=REFRESH_SECONDS, binding=binding_of(record))
