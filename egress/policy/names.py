"""Canonical hosts, ports and authorities: the one place where text becomes a `Host`.

The grammar is strict, because every part behind us (resolver, libc, TLS library, origin) reads sloppy names in a way of
its own. What is not certainly one name or one address is refused, in this order:

1. length, control characters, and characters that delimit something else (`@`, `/`, `%`, `[` and the like);
2. an IPv6 address, in brackets where the caller allows them, never with a zone;
3. text outside ASCII: mapped by UTS-46 (non-transitional), then judged again from the start; it may not become an
   address, and no character of it may vanish;
4. a last label that is a number: a dotted quad of RFC 6943 (strict), or refused (libc reads `127.1` and `0x7f.1`);
5. labels of letters, digits, hyphen and underscore, 1 to 63 octets, 253 in all; A-labels must decode and come back.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import idna

from egress.policy.addresses import unmap
from egress.policy.reasons import Reason
from egress.policy.values import Address, Host, Refusal

MAX_NAME = 253
MAX_LABEL = 63
MAX_PORT = 65_535
# Longer than any name can be in any notation; what is longer is refused before any work is spent on it.
MAX_TEXT = 1_024

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_CANONICAL_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*{_LABEL}")
# What nearly every name is: the rules 1 to 5 in one look. Its last label begins like no number.
_PLAIN_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*(?![0-9]){_LABEL}")
_IPV6_TEXT = re.compile(r"[0-9a-f:.]+", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")

# Named one by one, so that a refusal can say what was wrong without showing any of it.
_FORBIDDEN = {
    "%": "a host holds no percent sign",
    "@": "a host holds no user information",
    "[": "brackets stand around an IPv6 address only",
    "]": "brackets stand around an IPv6 address only",
    "/": "a host holds no slash",
    "\\": "a host holds no backslash",
    "?": "a host holds no query",
    "#": "a host holds no fragment",
    ":": "a host holds no colon unless it is an IPv6 address",
    "*": "a host holds no wildcard",
}


def parse_host(raw: str, *, brackets: bool = False) -> Host | Refusal:
    """The canonical host that `raw` names, or why it names none.

    `brackets` accepts `[...]` around an IPv6 address, as URLs and authorities write it. IPv4-mapped IPv6 becomes the
    IPv4 address. Canonicalising the result again gives the same result. Reason: `host-invalid`.
    """
    if not raw:
        return _refuse("the host is empty")
    if len(raw) > MAX_TEXT:
        return _refuse("the host is longer than 253 octets")
    if raw[0] == "[" and brackets:
        if raw[-1] != "]":
            return _refuse("the brackets around the address do not close")
        address = _ipv6(raw[1:-1])
        return address if address is not None else _refuse("brackets stand around an IPv6 address only")
    return _parse_bare(raw)


def parse_address(raw: str) -> Address | None:
    """The address that `raw` spells without brackets, by the same rules as in a host; None where it spells none."""
    if ":" in raw:
        return _ipv6_address(raw)
    try:
        return IPv4Address(raw)
    except AddressValueError:
        return None


def parse_port(raw: str) -> int | Refusal:
    """The port, 1 to 65535, in ASCII digits with no sign or leading zero. Reason: `port-invalid`."""
    if _PORT.fullmatch(raw):
        port = int(raw)
        if port <= MAX_PORT:
            return port
    return Refusal(Reason.PORT_INVALID, "a port is a number from 1 to 65535, in plain digits")


def parse_authority(raw: str, default_port: int | None) -> tuple[Host, int] | Refusal:
    """Host and port of `host[:port]` or `[v6][:port]`, as in CONNECT targets and Host fields (RFC 9110, 7.2, 9.3.6).

    `default_port` None means that the port must be there. An empty port (`host:`) is refused.
    """
    return (_remembered if len(raw) <= _REMEMBERED_LENGTH else _parse_authority)(raw, default_port)


def _parse_authority(raw: str, default_port: int | None) -> tuple[Host, int] | Refusal:
    name, colon, port_text = _split_authority(raw)
    if not colon:
        if default_port is None:
            return Refusal(Reason.PORT_INVALID, "the destination names no port")
        port: int | Refusal = default_port
    else:
        port = parse_port(port_text)
    host = parse_host(name, brackets=True)
    if isinstance(host, Refusal):
        return host
    if isinstance(port, Refusal):
        return port
    if host.address is not None and ":" in name and name[0] != "[":
        return _refuse("an IPv6 address in an authority stands in brackets")
    return host, port


# A client repeats its Host with each request. What is remembered is a function of the text and the default port alone.
_remembered = lru_cache(maxsize=4_096)(_parse_authority)
_REMEMBERED_LENGTH = 270


@lru_cache(maxsize=8_192)
def is_canonical_name(text: str) -> bool:
    """Whether `text` could be the text of a `Host` that is a name. Cheap: no A-label is decoded again."""
    return _CANONICAL_NAME.fullmatch(text) is not None and not _NUMBER.fullmatch(text.rpartition(".")[2])


def _split_authority(raw: str) -> tuple[str, str, str]:
    if raw.startswith("["):
        closing = raw.rfind("]")
        name, rest = raw[: closing + 1], raw[closing + 1 :]
        # `[::1]evil.test:80` must not lose what follows the bracket.
        if rest and rest[0] != ":":
            return raw, "", ""
        return name, rest[:1], rest[1:]
    if raw.count(":") > 1:
        return raw, "", ""
    return raw.partition(":")


@lru_cache(maxsize=8_192)
def _parse_bare(raw: str) -> Host | Refusal:
    if raw.isascii() and _PLAIN_NAME.fullmatch(plain := raw.lower()) and "xn--" not in plain:
        return Host(plain)
    for character in raw:
        if character <= " " or "\x7f" <= character <= "\xa0":
            return _refuse("a host holds no control character or space")
    if ":" in raw and (host := _ipv6(raw)) is not None:
        return host
    if not raw.isascii():
        return _parse_unicode(raw)
    return _parse_ascii(raw.lower())


def _parse_ascii(text: str) -> Host | Refusal:  # noqa: PLR0911 -- one return a rule of the grammar
    for character in text:
        if character in _FORBIDDEN:
            return _refuse(_FORBIDDEN[character])
    name = text.removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(name) if name == text else _refuse("an address has no trailing dot")
    if not all(labels):
        return _refuse("a label of the host is empty")
    if len(name) > MAX_NAME:
        return _refuse("the host is longer than 253 octets")
    if max(map(len, labels)) > MAX_LABEL:
        return _refuse("a label of the host is longer than 63 octets")
    if not _CANONICAL_NAME.fullmatch(name):
        return _refuse("a label holds letters, digits, hyphens and underscores, with no hyphen at its ends")
    if not all(_is_sound_a_label(label) for label in labels if label.startswith("xn--")):
        return _refuse("a label that starts with xn-- is not one that IDNA makes")
    return Host(name)


def _parse_unicode(raw: str) -> Host | Refusal:
    try:
        # A character that vanishes (soft hyphen, zero width space) would make two spellings of one name.
        if not all(idna.uts46_remap(character, std3_rules=False) for character in raw):
            return _refuse("the host holds a character that no host can show")
        mapped = idna.uts46_remap(raw, std3_rules=False, transitional=False)
        labels = [label if label.isascii() else idna.alabel(label).decode("ascii") for label in mapped.split(".")]
    except (idna.IDNAError, UnicodeError, IndexError):
        return _refuse("the host is not a valid internationalised name")
    host = _parse_bare(".".join(labels))
    if isinstance(host, Host) and host.address is not None:
        return _refuse("an address is written in ASCII digits")
    return host


def _is_sound_a_label(label: str) -> bool:
    """Whether an `xn--` label decodes to text outside ASCII that UTS-46 leaves as it is, and encodes back to itself.

    Emoji names, which IDNA 2008 forbids and registries sell, pass.
    """
    try:
        text = label[4:].encode("ascii").decode("punycode")
        stable = idna.uts46_remap(text, std3_rules=False, transitional=False) == text
        back = text.encode("punycode").decode("ascii")
    except (idna.IDNAError, UnicodeError, IndexError, OverflowError, ValueError):
        return False
    return stable and not text.isascii() and "." not in text and back == label[4:]


def _ipv4(text: str) -> Host | Refusal:
    try:
        address = IPv4Address(text)
    except AddressValueError:
        return _refuse("a host whose last label is a number must be an address of four decimal numbers")
    return Host(str(address), address)


def _ipv6(text: str) -> Host | None:
    address = _ipv6_address(text)
    return None if address is None else Host(str(address), address)


def _ipv6_address(text: str) -> Address | None:
    if not _IPV6_TEXT.fullmatch(text) or ":" not in text:
        return None
    try:
        return unmap(IPv6Address(text))
    except AddressValueError:
        return None


def _refuse(detail: str) -> Refusal:
    return Refusal(Reason.HOST_INVALID, detail)
