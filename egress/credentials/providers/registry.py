"""Which provider fetches a source: a module each, loaded when the first secret of its kind is fetched."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from egress.config.plain_sources import word_of
from egress.errors import CredentialError

if TYPE_CHECKING:
    from egress.config.secret_sources import FetchedSource
    from egress.credentials.providers.interface import Provider

# By the word of a policy file. `os_keyring` and `stored`: their words are names of other modules.
_MODULES: Final = {
    "store": "stored",
    "command": "command",
    "keyring": "os_keyring",
    "vault": "vault",
    "azure": "azure",
    "oauth2": "oauth2",
    "github_app": "github_app",
    "google": "google",
    "aws": "aws",
}


def provider_of(source: FetchedSource) -> Provider[Any]:
    """The `fetch` of a source's provider. Raises CredentialError if it cannot be loaded."""
    word = word_of(source)
    try:
        module = importlib.import_module(f"egress.credentials.providers.{_MODULES[word]}")
    except ImportError as error:
        raise CredentialError(
            f"`{word}` cannot be used: {type(error).__name__} of `{error.name}`", hint="install what it needs"
        ) from error
    fetch: Provider[Any] = module.fetch
    return fetch
