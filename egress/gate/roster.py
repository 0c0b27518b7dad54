"""The roster: which sandboxes there are, who a client is, and by which policy each is judged.

Who a client is, by what cannot be said by it alone:

1. name and token, where it sends them (`Proxy-Authorization: Basic`, or those of SOCKS5): they are those of a sandbox,
   and everything else that this sandbox states holds as well; else the client is nobody, whatever its address
2. without them, the sandbox without a token whose listener, source and user fit; of several the one that fits in every
   way at least as narrowly as the others (longest prefix); where there is none such, nobody

Nothing else of a request counts: no X-Forwarded-For, no header inside a tunnel.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from egress.config import UNKNOWN_SANDBOX, hash_token
from egress.policy import DEFAULT_SANDBOX, unmap

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from egress.config import ListenAddress, SandboxDefinition
    from egress.gate.exchange import Client
    from egress.policy import Address, Policy

_PLACES_AT_MOST: Final = 4_096
# Compared where no sandbox has the name, so that the time taken does not tell which names there are.
_NOBODYS: Final = bytes(32)
_LONGEST: Final = 1_024


@dataclass(frozen=True, slots=True)
class ClientPlace:
    """Where a connection came from, and to which of the addresses that the configuration has the proxy listen on.

    `uid`: the user at the other end of a unix socket, which has no address: `address` is then a text that is none.
    """

    address: str
    listener: ListenAddress | None = None
    uid: int | None = None


@dataclass(frozen=True, slots=True)
class NameAndToken:
    """What a client says of itself, as bytes: a sandbox's name, and its token."""

    name: bytes
    token: bytes


@dataclass(frozen=True, slots=True)
class Member:
    """A sandbox and its policy."""

    definition: SandboxDefinition
    policy: Policy


def digest_of(members: Iterable[Member]) -> str:
    """SHA-256 (hex) over who there is, how each is known, and what each may do."""
    told = hashlib.sha256()
    for member in sorted(members, key=lambda member: member.definition.name):
        own = member.definition
        what = (own.sandbox, own.sources, own.listener, own.uids, own.token is not None, member.policy.digest)
        told.update(repr(what).encode() + b"\n")
    return told.hexdigest()


class Roster:
    """All sandboxes of a generation. Immutable but for what it remembers of places."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        self.policies = {member.definition.name: member.policy for member in members}
        self._by_name = {member.definition.name: member.definition for member in members}
        self._without_token = [member.definition for member in members if member.definition.token is None]
        self._with_token = [member.definition for member in members if member.definition.token is not None]
        self._places: OrderedDict[ClientPlace, str | None] = OrderedDict()

    @property
    def digest(self) -> str:
        """See `digest_of`."""
        return digest_of(self.members)

    def at(self, place: ClientPlace) -> str | None:
        """The sandbox of a client that says nothing of itself; None: nobody's."""
        if place not in self._places:
            if len(self._places) >= _PLACES_AT_MOST:
                self._places.popitem(last=False)
            self._places[place] = self._find(place)
        return self._places[place]

    def identify(self, place: ClientPlace, credentials: Sequence[bytes] | NameAndToken) -> str | None:
        """The sandbox of a client that sends these values of Proxy-Authorization, or says so; None: nobody's."""
        if isinstance(credentials, NameAndToken):
            named = _named(credentials.name, credentials.token)
        elif not credentials:
            return self.at(place)
        else:
            # Twice is a client that one reader takes for another than the next does.
            named = _basic(credentials[0]) if len(credentials) == 1 else None
        if named is None:
            return None
        name, token = named
        definition = self._by_name.get(name)
        expected = None if definition is None else definition.token
        same = hmac.compare_digest(hash_token(token), expected or _NOBODYS)
        if definition is None or expected is None or not same:
            return None
        return name if _fits(definition, place) is not None else None

    def asks(self, place: ClientPlace) -> bool:
        """Whether a client there could be told by a token."""
        return any(_fits(definition, place) is not None for definition in self._with_token)

    def _find(self, place: ClientPlace) -> str | None:
        fitting = [(fit, own.name) for own in self._without_token if (fit := _fits(own, place)) is not None]
        best = [name for fit, name in fitting if all(_covers(fit, other) for other, _ in fitting)]
        return best[0] if len(best) == 1 else None


def room_of(client: Client, address: str) -> str:
    """Whose room a connection takes: its sandbox's where clients are told apart and it is known, else its address's."""
    known = client.sandbox not in {DEFAULT_SANDBOX.name, UNKNOWN_SANDBOX}
    return f"sandbox {client.sandbox}" if known else address


def _fits(definition: SandboxDefinition, place: ClientPlace) -> tuple[int, int, int] | None:
    """How narrowly a place is what a sandbox states: by its listener, user and source. None: it is not."""
    if definition.listener is not None and definition.listener != place.listener:
        return None
    if definition.uids and place.uid not in definition.uids:
        return None
    prefix = _prefix(definition, place.address) if definition.sources else -1
    return None if prefix is None else (definition.listener is not None, bool(definition.uids), prefix)


def _covers(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    return all(first >= second for first, second in zip(one, other, strict=True))


def _prefix(definition: SandboxDefinition, text: str) -> int | None:
    """The length of the longest prefix that holds the address, counted in bits of IPv6."""
    address = _address(text)
    if address is None:
        return None
    found: Iterable[int] = (
        network.prefixlen + (128 - network.max_prefixlen) for network in definition.sources if address in network
    )
    return max(found, default=None)


# One place is compared with every sandbox, and ever new ones cost who sends from them no more than a datagram each.
@lru_cache(maxsize=64)
def _address(text: str) -> Address | None:
    try:
        return unmap(ip_address(text))
    except ValueError:
        return None


def _basic(value: bytes) -> tuple[str, bytes] | None:
    """Name and token of `Basic` credentials (RFC 7617); None for anything that is not exactly that."""
    scheme, _, rest = value.partition(b" ")
    if scheme.lower() != b"basic" or len(value) > _LONGEST:
        return None
    try:
        name, _, token = base64.b64decode(rest.strip(b" "), validate=True).partition(b":")
    except binascii.Error:
        return None
    return _named(name, token)


def _named(name: bytes, token: bytes) -> tuple[str, bytes] | None:
    return (name.decode("ascii"), token) if name.isascii() and name and token else None
