"""What targets and path patterns mean, read from their text alone: a second opinion that shares no code with ours.

Simple and slow, in the words of the guide: names by their labels, ranges by their bits, paths by their segments.
"""

from __future__ import annotations

import socket

import idna


def names(text: str, host: str, port: int, *, allows: bool) -> bool:
    """Whether the text of a target names a destination. `host` is canonical: a lower-case name, or an address."""
    body, own_port = _without_port(text)
    if own_port is not None and own_port != port:
        return False
    address = _bits(host)
    if body == "**":
        return address is None or not allows
    if "/" in body or _bits(body) is not None:
        return address is not None and _in_range(body, address)
    if address is not None:
        return False
    labels = host.split(".")
    if body.startswith(("*.", ".")):
        suffix = _labels(body.removeprefix("*").removeprefix("."))
        below = len(labels) > len(suffix) and labels[-len(suffix) :] == suffix
        return below or (body.startswith(".") and labels == suffix)
    return labels == _labels(body)


def path_matches(pattern: str, path: str) -> bool:
    """Whether a pattern matches a path; both without anything encoded."""
    wanted, given = pattern[1:].split("/"), path[1:].split("/")

    def rest(at: int, seen: int) -> bool:
        if at == len(wanted):
            return seen == len(given)
        if wanted[at] == "**":
            if at == len(wanted) - 1:
                return seen < len(given)  # below it, not the path itself
            return any(rest(at + 1, later) for later in range(seen, len(given) + 1))
        if seen == len(given) or (wanted[at] != given[seen] if wanted[at] != "*" else not given[seen]):
            return False
        return rest(at + 1, seen + 1)

    return rest(0, 0)


def _without_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        inside, _, port = text[1:].partition("]")
        return inside, int(port[1:]) if port else None
    body, colon, port = text.partition(":")
    return (body, int(port)) if colon and ":" not in port else (text, None)


def _bits(text: str) -> str | None:
    """The bits of an address as text of `0` and `1`; IPv4 in IPv6 is IPv4."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            packed = socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        bits = "".join(f"{octet:08b}" for octet in packed)
        return bits[96:] if packed.startswith(b"\0" * 10 + b"\xff\xff") and len(packed) == 16 else bits
    return None


def _in_range(body: str, address: str) -> bool:
    text, slash, length = body.partition("/")
    bits = _bits(text) or ""
    kept = int(length) - (96 if ":" in text and len(bits) == 32 else 0) if slash else len(bits)
    return len(bits) == len(address) and bits[:kept] == address[:kept]


def _labels(name: str) -> list[str]:
    name = name.removesuffix(".")
    if not name.isascii():
        name = idna.uts46_remap(name, std3_rules=False, transitional=False).removesuffix(".")
        name = ".".join(
            label if label.isascii() else "xn--" + label.encode("punycode").decode() for label in name.split(".")
        )
    return name.lower().split(".")
