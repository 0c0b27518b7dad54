"""What request and response heads have in common: version, fields, and lookups that cannot hide a repeated field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress.wire.framing import Version

if TYPE_CHECKING:
    from egress.wire.fields import Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A parsed head. `fields` are (name, value) in order, spelled as sent; `length` is its size in bytes, all told."""

    version: Version
    fields: Fields
    length: int

    def values(self, name: bytes) -> tuple[bytes, ...]:
        """All values of the field `name` (given in lower case), in order."""
        return tuple([value for key, value in self.fields if key.lower() == name])

    def tokens(self, name: bytes) -> tuple[bytes, ...]:
        """The members of the list field `name` (given in lower case) over all its lines, in lower case."""
        members = b",".join(self.values(name)).split(b",")
        return tuple([member.strip(b" \t").lower() for member in members if member.strip(b" \t")])

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
