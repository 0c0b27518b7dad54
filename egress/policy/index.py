"""The compiled index: which rules name a destination, in file order, at a cost that does not grow with their number.

Names: one dict of exact names, one of suffixes that is asked label by label (no deeper than the deepest suffix there
is), one list for `**`. Addresses: one dict for each prefix length in use. All scopes share the index; entries carry
their place, so that candidates come out highest scope first, in file order.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, assert_never

from egress.policy.addresses import readings, unmap
from egress.policy.targets import unmap_network
from egress.policy.values import AnyTarget, HostTarget, NetworkTarget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.policy.compiled import Entry
    from egress.policy.values import Address, Host, Network, Rule, Target

_by_order = attrgetter("order")
_NOTHING: tuple[Entry, ...] = ()
_FOUND_AT_MOST = 8_192


class NetworkIndex:
    """Entries by the range that they name."""

    __slots__ = ("_tables",)

    def __init__(self) -> None:
        # For each IP version: (bits to shift away, entries by what is left).
        self._tables: dict[int, dict[int, dict[int, Sequence[Entry]]]] = {4: {}, 6: {}}

    def add(self, network: Network, alone: tuple[Entry]) -> None:
        """Add one range, with an entry in a tuple of its own."""
        shift = network.max_prefixlen - network.prefixlen
        table = self._tables[network.version].setdefault(shift, {})
        _add(table, int(network.network_address) >> shift, alone)

    def find(self, address: Address) -> list[Entry]:
        """The entries whose range holds the address, in no order."""
        value = int(address)
        found: list[Entry] = []
        for shift, table in self._tables[address.version].items():
            entries = table.get(value >> shift)
            if entries is not None:
                found += entries
        return found

    def find_exactly(self, address: Address) -> Sequence[Entry]:
        """The entries that name this address alone."""
        return self._tables[address.version].get(0, {}).get(int(address), _NOTHING)


class Index:
    """All targets of all rules. Filled once, then only read."""

    __slots__ = (
        "_alike",
        "_any_address",
        "_any_name",
        "_below",
        "_below_labels",
        "_exact",
        "_found",
        "_holds",
        "_networks",
    )

    def __init__(self) -> None:
        self._exact: dict[str, Sequence[Entry]] = {}
        self._below: dict[str, Sequence[Entry]] = {}
        self._below_labels = 0
        self._any_name: list[Entry] = []
        self._any_address: list[Entry] = []
        # What `candidates` gave for a name; it gives the same again.
        self._found: dict[str, Sequence[Entry]] = {}
        # Entries of several targets, by their places: the same object for all names that the same rules name.
        self._alike: dict[tuple[int, ...], Sequence[Entry]] = {}
        self._networks = NetworkIndex()
        self._holds = NetworkIndex()

    def add(self, target: Target, alone: tuple[Entry]) -> None:
        """Add one target, with its entry in a tuple, which its rule's other targets share; entries come in order."""
        self._found.clear()
        self._alike.clear()
        match target.what:
            case HostTarget(name, exact, below):
                if exact:
                    _add(self._exact, name, alone)
                if below:
                    _add(self._below, name, alone)
                    self._below_labels = max(self._below_labels, name.count(".") + 1)
            case AnyTarget():
                self._any_name += alone
                if not alone[0].rule.allows:
                    self._any_address += alone
            case NetworkTarget(network):
                # An allow names exactly one reading of an address; a deny or ask holds for each of them.
                ranges = self._networks if alone[0].rule.allows else self._holds
                ranges.add(unmap_network(network), alone)
            case _:
                assert_never(target.what)

    def candidates(self, host: Host) -> Sequence[Entry]:
        """The entries whose target names the destination, in order."""
        if host.address is not None:
            return self._for_address(host.address)
        found = self._found.get(host.text)
        if found is None:
            found = self._for_name(host)
            if len(self._found) >= _FOUND_AT_MOST:
                self._found.clear()
                self._alike.clear()
            self._found[host.text] = found
        return found

    def _for_name(self, host: Host) -> Sequence[Entry]:
        found = self._exact.get(host.text)
        more: list[Sequence[Entry]] = []
        if self._below_labels:
            more = self._suffixes(host.text)
        if self._any_name:
            more.append(self._any_name)
        if not more:
            return _NOTHING if found is None else found
        if found is not None:
            more.append(found)
        if len(more) == 1:
            return more[0]
        entries = sorted([entry for several in more for entry in several], key=_by_order)
        return self._alike.setdefault(tuple(map(_by_order, entries)), entries)

    def holding(self, address: Address) -> list[Entry]:
        """The deny and ask entries whose range holds any reading of the address, in order and once each."""
        found = {entry.order: entry for reading in readings(address) for entry in self._holds.find(reading)}
        return [found[order] for order in sorted(found)]

    def names_address(self, rule: Rule, address: Address, *, alone: bool) -> bool:
        """Whether a target of this allow rule is a range that holds the address; `alone`: that address and no other."""
        entries = self._networks.find_exactly(address) if alone else self._networks.find(address)
        return any(entry.rule.rule is rule for entry in entries)

    def _for_address(self, address: Address) -> list[Entry]:
        found = self._networks.find(unmap(address)) + self.holding(address) + self._any_address
        found.sort(key=_by_order)
        return found

    def _suffixes(self, text: str) -> list[Sequence[Entry]]:
        """What names suffixes of the name, from the right. A name is not below itself."""
        found: list[Sequence[Entry]] = []
        below = self._below
        dot = len(text)
        for _ in range(self._below_labels):
            dot = text.rfind(".", 0, dot)
            if dot < 0:
                break
            entries = below.get(text[dot + 1 :])
            if entries is not None:
                found.append(entries)
        return found


def _add[Key](table: dict[Key, Sequence[Entry]], key: Key, alone: tuple[Entry]) -> None:
    """Add an entry under a key. The first one brings its tuple, which costs nothing; what has several has a list."""
    known = table.setdefault(key, alone)
    if isinstance(known, list):
        known += alone
    elif known is not alone:
        table[key] = [*known, *alone]
