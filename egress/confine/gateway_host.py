"""What this host is like, as far as its gateway's rules rest on it: interfaces, addresses, listeners, forwarding.

All of it is of the network namespace that we are in.
"""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from egress.confine.gateway_nft import run
from egress.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from egress.confine.gateway import Address

# Of this thread's namespace; /proc/net is the process's.
_NET: Final = Path("/proc/thread-self/net")
_SETTINGS: Final = Path("/proc/sys/net")
_LISTENS: Final = "0A"
_FORWARDING: Final = {"IPv4": "ipv4/ip_forward", "IPv6": "ipv6/conf/all/forwarding"}


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that takes what comes to a port, and whose it is."""

    address: Address
    port: int
    uid: int


def listeners(protocol: str, port: int) -> tuple[Listener, ...]:
    """The sockets of `tcp` or `udp` that take what comes to a port."""
    found = (each for family in ("", "6") for each in _listeners(_NET / f"{protocol}{family}"))
    return tuple(listener for listener in found if listener.port == port)


def _listeners(file: Path) -> Iterator[Listener]:
    rows = [line.split() for line in _read(file).splitlines()[1:]]
    for row in rows:
        if file.name.startswith("tcp") and row[3] != _LISTENS:
            continue
        address, _, port = row[1].partition(":")
        yield Listener(_address(address), int(port, 16), int(row[7]))


def _address(text: str) -> Address:
    # Words of 32 bits in the machine's order of bytes.
    raw = bytes.fromhex(text)
    words = [raw[at : at + 4] for at in range(0, len(raw), 4)]
    turned = b"".join(socket.htonl(int.from_bytes(word, "big")).to_bytes(4, "big") for word in words)
    return IPv4Address(turned) if len(turned) == len(words[0]) else IPv6Address(turned)


def interface_names() -> frozenset[str]:
    """The interfaces that there are."""
    return frozenset(name for _, name in socket.if_nameindex())


def ipv6_scopes(interface: str) -> frozenset[str]:
    """Of an interface's IPv6 addresses, how far each is valid: `global`, `link`, `host`."""
    names = {0x00: "global", 0x10: "host", 0x20: "link"}
    rows = (line.split() for line in _read(_NET / "if_inet6").splitlines())
    return frozenset(names.get(int(row[3], 16), "other") for row in rows if row[5] == interface)


def forwarding() -> tuple[str, ...]:
    """The families that this host forwards."""
    return tuple(family for family, name in _FORWARDING.items() if _read(_SETTINGS / name).strip() not in {"", "0"})


def bridge_of(interface: str) -> str | None:
    """The bridge, bond or VRF that an interface is a part of: what comes in by it is then told to come from there."""
    told = _told_by_ip("link", "show", "dev", interface)
    return next((str(link["master"]) for link in told if "master" in link), None)


def ways_out() -> frozenset[str]:
    """The interfaces that the default routes lead to."""
    routes = [*_told_by_ip("-4", "route", "show", "default"), *_told_by_ip("-6", "route", "show", "default")]
    hops = [hop for route in routes for hop in route.get("nexthops", ())]
    return frozenset(str(each["dev"]) for each in (*routes, *hops) if "dev" in each)


def _told_by_ip(*words: str) -> list[Mapping[str, Any]]:
    done = run(["ip", "-j", *words])
    if done.returncode:
        raise GatewayError(f"`ip {' '.join(words)}` failed: {done.stderr.strip()}")
    found: list[Mapping[str, Any]] = json.loads(done.stdout or "[]")
    return found


def _read(file: Path) -> str:
    """A file of the kernel's; empty where the kernel was built without it."""
    with contextlib.suppress(FileNotFoundError):
        return file.read_text(encoding="ascii")
    return ""
