"""What a gateway may be: everything that the rules rest on is refused when it does not hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from egress.confine.gateway import Gateway, Subnet, ThisHost, of_options, options, parse_pair, parse_source
from egress.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Callable

LAN = Subnet(interfaces=("lan0",))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Subnet, "nothing says what is to be confined"),
        (lambda: Subnet(interfaces=("lan*",)), "`lan*` is no name of an interface"),
        (lambda: Subnet(interfaces=('l"; drop',)), "is no name of an interface"),
        (lambda: Subnet(interfaces=("a" * 16,)), "is no name of an interface"),
        (lambda: Subnet(interfaces=("lo",)), "`lo` is no interface that sandboxes are behind"),
        (lambda: Subnet(sources=(parse_source("0.0.0.0/0"),)), "`0.0.0.0/0` names no sandboxes"),
        (lambda: Subnet(sources=(parse_source("127.0.0.0/8"),)), "`127.0.0.0/8` names no sandboxes"),
        (lambda: Subnet(sources=(parse_source("::1"),)), "`::1/128` names no sandboxes"),
        (lambda: Subnet(pairs=(parse_pair("a=v1:10.0.0.1"), parse_pair("b=v2:10.0.0.1"))), "bound to two interfaces"),
        (lambda: parse_source("10.8.0.1/24"), "`10.8.0.1/24` is no range of addresses"),
        (lambda: parse_source("lan0"), "`lan0` is no range of addresses"),
        (lambda: parse_pair("a=v1"), "`a=v1` binds no sandbox to an address"),
        (lambda: parse_pair("A=v1:10.0.0.1"), "`A=v1:10.0.0.1` binds no sandbox"),
        (lambda: parse_pair("a=v1:fe80::1%v1"), "binds no sandbox"),
        (ThisHost, "needs either the users that are confined, or those that are not"),
        (lambda: ThisHost(uids=(1,), except_uids=(2,)), "needs either the users"),
        (lambda: ThisHost(uids=(2**32 - 1,)), "is no user's number"),
        (lambda: ThisHost(uids=(-1,)), "is no user's number"),
        (lambda: Gateway(LAN, table="filter"), "`filter` is no name for a table of ours"),
        (lambda: Gateway(LAN, table="egress-compared"), "is no name for a table of ours"),
        (lambda: Gateway(LAN, port=0), "0 is no port"),
        (lambda: Gateway(LAN, port=65_536), "65536 is no port"),
        (lambda: Gateway(LAN, dns_port=3129), "one port is named for two purposes"),
        (lambda: Gateway(ThisHost(uids=(1,), closed_ports=(3129,))), "one port is named for two purposes"),
        (lambda: Gateway(Subnet(interfaces=("lan0",), open_ports=(3129,))), "one port is named for two purposes"),
    ],
)
def test_what_the_rules_could_not_hold_is_refused(make: Callable[[], object], message: str) -> None:
    """With what is wrong, before any text is written."""
    with pytest.raises(GatewayError) as refused:
        make()
    assert message in refused.value.message


@pytest.mark.parametrize("told", [[], [("table", "egress")], [*options(Gateway(LAN))[:2]], [("port", "x")]])
def test_a_description_with_parts_missing_is_none(told: list[tuple[str, str]]) -> None:
    """Guessing the rest would make a table that confines less."""
    with pytest.raises(GatewayError):
        of_options(told)


def test_who_is_confined() -> None:
    """Named users; or everybody but the named."""
    assert [ThisHost(uids=(1001,)).confines(uid) for uid in (0, 1001)] == [False, True]
    assert [ThisHost(except_uids=(3128,)).confines(uid) for uid in (0, 3128)] == [True, False]
