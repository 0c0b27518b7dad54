"""The rules of a gateway, as text for nftables.

1. A table replaces the one of its name, in one transaction: there is no moment without rules, and none with half.
2. Whatever no rule lets through is refused, at once: a reset for TCP, else ICMP "administratively prohibited".
3. A packet that is refused is refused before it is routed, so that this holds whether the host forwards or not.
4. Each counter has a comment `KIND WHOM`; those are what `egress gateway status` adds up.

The table says in a chain without a hook what it was made for: nothing about it is kept anywhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from egress.confine.gateway import Subnet, options
from egress.confine.gateway_host_text import this_host_chains
from egress.confine.gateway_subnet_text import subnet_chains

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from egress.confine.gateway import Gateway

MARK: Final = "made by egress gateway"
DESCRIBED: Final = "described"


def rules_text(gateway: Gateway) -> str:
    """The whole file for `nft -f`."""
    return _replaced(gateway.table, _table(gateway, gateway.table))


def compared_text(gateway: Gateway, name: str) -> str:
    """The same rules under another name, asleep: for nft to tell how it would list them."""
    return _replaced(name, _table(gateway, name, dormant=True))


def command_line(gateway: Gateway) -> str:
    """The command that sets these rules."""
    words = (f"--{name} {text}".strip() for name, text in options(gateway) if name != "closed")
    return f"egress gateway up {' '.join(words)}"


def _replaced(name: str, table: str) -> str:
    # A table has to be there to be deleted, so it is made first.
    return f"table inet {name}\ndelete table inet {name}\n{table}"


def _table(gateway: Gateway, name: str, *, dormant: bool = False) -> str:
    is_subnet = isinstance(gateway.confined, Subnet)
    parts = [
        *(["\tflags dormant"] if dormant else []),
        f'\tcomment "{MARK}"',
        *(_chain(chain, rules) for chain, rules in _described(gateway)),
        *(_chain(chain, rules) for chain, rules in (subnet_chains if is_subnet else this_host_chains)(gateway)),
        *(_chain(chain, rules) for chain, rules in _refuse()),
    ]
    return f"table inet {name} {{\n" + "\n".join(parts) + "\n}\n"


def _chain(name: str, rules: Iterable[str]) -> str:
    return f"\n\tchain {name} {{\n" + "".join(f"\t\t{rule}\n" for rule in rules) + "\t}"


def _described(gateway: Gateway) -> Iterator[tuple[str, list[str]]]:
    told = (f"{name} {text}".strip() for name, text in options(gateway))
    yield DESCRIBED, [f'continue comment "{option}"' for option in told]


def _refuse() -> Iterator[tuple[str, list[str]]]:
    yield "refuse", ["meta l4proto tcp reject with tcp reset", "reject with icmpx admin-prohibited"]
