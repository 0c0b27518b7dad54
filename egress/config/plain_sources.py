"""Sources of secrets as plain values and back, for a message from one of our own processes to another.

What is made from a message is one of the sources that there are, with fields that it has: never another object.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from egress.config.secret_sources import (
    AwsSource,
    AzureIdentity,
    AzureSource,
    CommandSource,
    EnvSource,
    FileSource,
    GithubAppSource,
    GoogleSource,
    KeyringSource,
    OAuth2Source,
    StoreSource,
    VaultAppRole,
    VaultKubernetes,
    VaultSource,
    VaultToken,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.config.secret_sources import FetchedSource, LeafSource, SecretSource

type Plain = tuple[Any, ...]

# The word of each in a policy file.
FETCHED: Final[dict[type[Any], str]] = {
    StoreSource: "store",
    CommandSource: "command",
    KeyringSource: "keyring",
    VaultSource: "vault",
    AzureSource: "azure",
    OAuth2Source: "oauth2",
    GithubAppSource: "github_app",
    GoogleSource: "google",
    AwsSource: "aws",
}
_INNER: Final = (EnvSource, FileSource, VaultToken, VaultAppRole, VaultKubernetes, AzureIdentity)
_KINDS: Final[dict[str, type[Any]]] = {kind.__name__: kind for kind in (*FETCHED, *_INNER)}
_LEAVES: Final = (EnvSource, FileSource, StoreSource)


def is_fetched(source: SecretSource) -> TypeGuard[FetchedSource]:
    """Whether the value has to be fetched, and so is not had in the process that needs it."""
    return type(source) in FETCHED


def word_of(source: FetchedSource) -> str:
    """What a policy file calls it."""
    return FETCHED[type(source)]


def leaves_of(source: FetchedSource) -> tuple[LeafSource, ...]:
    """The leaves that a source is made with. A store source is itself one, and has none."""
    return tuple(_leaves(source))


def to_plain(source: object) -> Plain:
    """A source as tuples, text and numbers."""
    values = tuple(_plain(getattr(source, field.name)) for field in fields(source))  # type: ignore[arg-type]
    return (type(source).__name__, *values)


def from_plain(values: Plain) -> Any:
    """The source that `to_plain` wrote. Raises ValueError for what is none."""
    kind = _KINDS.get(values[0]) if values else None
    if kind is None:
        raise ValueError("no source has this name")
    found = [_value(value) for value in values[1:]]
    if len(found) != len(fields(kind)):
        raise ValueError("the source has other fields")
    return kind(*found)


def _leaves(source: object) -> Iterator[LeafSource]:
    for field in fields(source):  # type: ignore[arg-type]
        value = getattr(source, field.name)
        if isinstance(value, _LEAVES):
            yield value
        elif is_dataclass(value):
            yield from _leaves(value)


def _plain(value: object) -> object:
    """Tuples are marked, so that no text of a file can be taken for a source."""
    if is_dataclass(value):
        return ("source", to_plain(value))
    if isinstance(value, Path):
        return ("path", str(value))
    if isinstance(value, tuple):
        return ("tuple", tuple(_plain(item) for item in value))
    return value


def _value(value: object) -> object:
    match value:
        case ("source", tuple(inner)):
            return from_plain(inner)
        case ("path", str(text)):
            return Path(text)
        case ("tuple", tuple(items)):
            return tuple(_value(item) for item in items)
        case None | str() | bool() | int() | float():
            return value
        case _:
            raise ValueError("no plain value")
