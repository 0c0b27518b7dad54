"""What the secret store gives: a secret with its binding, or what may be shown of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from egress.config import Binding, binding_of, target_text
from egress.errors import CredentialError

if TYPE_CHECKING:
    from egress.credentials.sealing import Record
    from egress.credentials.secret import Secret

_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A value, where it may go, and how often it was rotated: `version` is 1 for the first value."""

    value: Secret
    binding: Binding
    version: int

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that it is bound to, as they are written."""
        return tuple(target_text(target) for target in self.binding.hosts)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that it is bound to; none: any."""
        return tuple(sorted(self.binding.methods or ()))

    @property
    def paths(self) -> tuple[str, ...]:
        """The patterns of paths that it is bound to; none: any."""
        return tuple(pattern.text for group in self.binding.paths for pattern in group)


@dataclass(frozen=True, slots=True)
class Listed:
    """What may be shown of a secret. Times in seconds since 1970; `used` None: never, or not known."""

    name: str
    version: int
    binding: Binding
    created: float
    rotated: float
    used: float | None


def listed(record: Record, used: int | None) -> Listed:
    """What may be shown of a record. Raises CredentialError for a binding that cannot be read."""
    created, rotated = record.created_us / _MICROSECONDS, record.rotated_us / _MICROSECONDS
    return Listed(record.name, record.version, binding_in(record), created, rotated, used)


def binding_in(record: Record) -> Binding:
    """The binding of a record. Raises CredentialError for one that another version wrote and this one refuses."""
    try:
        return binding_of(record.binding)
    except ValueError:
        message = f"the secret `{record.name}` has a binding that this version cannot read"
        raise CredentialError(message, hint="set it again, with --host") from None
