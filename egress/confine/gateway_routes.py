"""The route that TPROXY needs: packets with the mark of a table of rules are for this host, whatever their address.

Without it they are for elsewhere, and refused by the rules; so a route that is missing closes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from egress.confine.gateway import Gateway, Ipv6, Subnet
from egress.confine.gateway_nft import run
from egress.confine.gateway_subnet_text import mark_of
from egress.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Iterator

# More than were ever set for one mark.
_MOST: Final = 16


def needs_routes(gateway: Gateway) -> bool:
    """Whether the rules mark packets."""
    return isinstance(gateway.confined, Subnet) and gateway.confined.tproxy and not gateway.closed


def set_routes(gateway: Gateway) -> None:
    """Set rule and route for each family that is redirected. Raises GatewayError."""
    mark = mark_of(gateway.table)
    for family in _families(gateway):
        for words in (
            ["route", "replace", "local", "default", "dev", "lo", "table", str(mark)],
            ["rule", "add", "fwmark", f"{mark:#x}", "lookup", str(mark)],
        ):
            done = run(["ip", family, *words])
            if done.returncode:
                raise GatewayError(
                    f"`ip {family} {' '.join(words)}` failed: {done.stderr.strip()}",
                    hint="the rules are in force and closed: nothing passes until `egress gateway up` succeeds",
                )


def drop_routes(table: str) -> None:
    """Remove what `set_routes` set, if it did. Raises GatewayError where `ip` is not there."""
    mark = mark_of(table)
    for family in ("-4", "-6"):
        for _ in range(_MOST):
            if run(["ip", family, "rule", "del", "fwmark", f"{mark:#x}", "lookup", str(mark)]).returncode:
                break
        run(["ip", family, "route", "flush", "table", str(mark)])


def missing_routes(gateway: Gateway) -> Iterator[str]:
    """What is missing of that which `set_routes` set, in words."""
    mark = mark_of(gateway.table)
    for family in _families(gateway):
        rules = run(["ip", family, "rule", "show"]).stdout
        if f"fwmark {mark:#x} lookup {mark}" not in rules:
            yield f"missing: ip {family} rule add fwmark {mark:#x} lookup {mark}"
        if "local default dev lo" not in run(["ip", family, "route", "show", "table", str(mark)]).stdout:
            yield f"missing: ip {family} route add local default dev lo table {mark}"


def _families(gateway: Gateway) -> tuple[str, ...]:
    return ("-4", "-6") if gateway.ipv6 is Ipv6.REDIRECT else ("-4",)
