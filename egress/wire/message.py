"""What request and response heads have in common: version, fields, and lookups that cannot hide a repeated field."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.wire.framing import Version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.wire.fields import Fields

type Single = Mapping[bytes, bytes]


# Made anew for each message, so not frozen: that would make the making several times as dear. Nobody changes one.
@dataclass(slots=True, unsafe_hash=True)
class Head:
    """A parsed head. `fields` are (name, value) in order, spelled as sent; `length` is its size in bytes, all told."""

    version: Version
    fields: Fields
    length: int
    # The same fields by name in lower case, if no name is given twice: lookups are many, and fields too.
    single: Single | None = field(repr=False, compare=False)

    def values(self, name: bytes) -> tuple[bytes, ...]:
        """All values of the field `name` (given in lower case), in order."""
        single = self.single
        if single is not None:
            return (single[name],) if name in single else ()
        return tuple([value for key, value in self.fields if key.lower() == name])

    def tokens(self, name: bytes) -> tuple[bytes, ...]:
        """The members of the list field `name` (given in lower case) over all its lines, in lower case."""
        values = self.values(name)
        if not values:
            return ()
        members = [member.strip(b" \t") for member in b",".join(values).lower().split(b",")]
        return tuple([member for member in members if member])

    @property
    def connection(self) -> tuple[bytes, ...]:
        """The options of Connection: names of fields to remove before forwarding, `close`, `upgrade`."""
        return self.tokens(b"connection")

    @property
    def upgrade(self) -> tuple[bytes, ...]:
        """The protocols that Upgrade names, in lower case; whether Connection agrees is not looked at."""
        return self.tokens(b"upgrade")

    @property
    def keep_alive(self) -> bool:
        """Whether the connection outlives this message, as far as its head says (RFC 9112 section 9.3)."""
        options = self.connection
        if b"close" in options:
            return False
        return self.version is Version.HTTP_11 or b"keep-alive" in options


def by_name(fields: Fields) -> Single | None:
    """The fields by name in lower case; None if a name is given twice."""
    single = {name.lower(): value for name, value in fields}
    return single if len(single) == len(fields) else None


def repeated_names(fields: Fields) -> frozenset[bytes]:
    """The names, in lower case, that are given more than once."""
    seen: set[bytes] = set()
    again: set[bytes] = set()
    for name, _ in fields:
        lower = name.lower()
        (again if lower in seen else seen).add(lower)
    return frozenset(again)


def values_of(fields: Fields, names: tuple[bytes, ...]) -> list[list[bytes]]:
    """For each of `names` (lower case) all its values, in order."""
    return [[value for key, value in fields if key.lower() == name] for name in names]
