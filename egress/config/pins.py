"""Pinned names: `--resolve NAME:IP[,IP]` and the `resolve:` section. A pin is an answer of DNS, never a permission."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from egress.config.wording import quoted
from egress.policy import Refusal, parse_host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.policy import Address


class Pin(NamedTuple):
    """A canonical name and the addresses it shall have."""

    name: str
    addresses: tuple[Address, ...]


class PinError(NamedTuple):
    """A pin that cannot be read."""

    message: str
    hint: str


_HINT = "write `NAME:IP`, as in `db.corp.example:10.1.2.3`"


def parse_pin(text: str) -> Pin | PinError:
    """Read `NAME:IP[,IP]`. IPv6 addresses stand with or without brackets."""
    name, colon, addresses = text.partition(":")
    if not colon:
        return PinError(f"{quoted(text)} has no address", _HINT)
    return make_pin(name, addresses.split(","))


def make_pin(name: str, addresses: Sequence[str]) -> Pin | PinError:
    """A pin from a name and the texts of its addresses."""
    host = parse_host(name)
    if isinstance(host, Refusal):
        return PinError(f"{quoted(name)} is not a host name ({host.detail})", _HINT)
    if host.address is not None:
        return PinError(f"{quoted(name)} is an address, and only names are resolved", _HINT)
    found: list[Address] = []
    for text in addresses:
        answer = parse_host(text.strip(), brackets=True)
        if isinstance(answer, Refusal) or answer.address is None:
            return PinError(f"{quoted(text)} is not an IP address", _HINT)
        found.append(answer.address)
    return Pin(host.text, tuple(dict.fromkeys(found))) if found else PinError("no address is given", _HINT)
