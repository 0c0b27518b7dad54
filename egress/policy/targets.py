"""The grammar of targets: what stands after `allow`, `deny` and `ask`.

    host               the name itself                    api.example.com
    *.host             any depth below it, not itself     *.example.com
    .host              itself and any depth below         .example.com
    **                 any name; in deny and ask any address too
    address, CIDR      a destination named by address     10.1.2.3, 10.0.0.0/8, 2001:db8::/32
    ...:port           any of them on one port            example.com:8443, [2001:db8::1]:443

What people write by mistake is refused with the right spelling, since a target that matches more, or nothing, is worse
than one that does not load.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from egress.policy.names import parse_address, parse_host, parse_port
from egress.policy.values import Address, AnyTarget, Host, HostTarget, Network, NetworkTarget, Refusal, Target
from egress.policy.vocabulary import Verdict

# Two-label suffixes under which strangers register names. A wildcard above them would open all of those.
_PUBLIC_SUFFIXES = frozenset(
    f"{second}.{top}"
    for top, seconds in {
        "ar": "com gob net org",
        "au": "com edu gov id net org",
        "br": "com gov net org",
        "cn": "com edu gov net org",
        "hk": "com edu gov net org",
        "id": "co go or web",
        "il": "ac co gov net org",
        "in": "co firm gen ind net org",
        "jp": "ac ad co ed go gr lg ne or",
        "kr": "ac co go ne or re",
        "mx": "com gob net org",
        "my": "com edu gov net org",
        "nz": "ac co geek gen govt net org",
        "pl": "com edu gov net org",
        "sg": "com edu gov net org",
        "th": "ac co go in or",
        "tr": "com edu gov net org",
        "tw": "com edu gov net org",
        "ua": "com edu gov net org",
        "uk": "ac co gov ltd me net nhs org plc sch",
        "za": "ac co gov net org web",
        # Hosting under which anyone gets a name.
        "app": "netlify vercel fly",
        "dev": "pages workers deno r2",
        "io": "github gitlab",
        "com": "herokuapp appspot",
        "net": "azurewebsites cloudfront azureedge",
    }.items()
    for second in seconds.split()
)
_MAPPED = IPv6Network("::ffff:0:0/96")
_IPV4_BITS = 32
_MAPPED_BITS = int(_MAPPED.network_address) >> _IPV4_BITS
_LENGTH_DIGITS = 3
_ODD_STARTS = frozenset("-\"'\u201c\u201d\u2018\u2019\u00ab")


@dataclass(frozen=True, slots=True)
class TargetError:
    """A target that must not be used: what is wrong with it, and what to write instead."""

    message: str
    hint: str = ""


def parse_target(text: str, *, verdict: Verdict = Verdict.ALLOW) -> Target | TargetError:
    """The target that `text` spells, or what is wrong with it.

    `verdict` is that of the rule: ranges that hold every address may be denied or asked for, never allowed.
    """
    if not text:
        return TargetError("the target is empty", "write a host, an address or a CIDR range")
    if text.split() != [text] or text[0] in _ODD_STARTS or "," in text:
        return _not_one(text)
    if "://" in text:
        return TargetError(f"`{text}` is a URL", "write the host alone, and the rest as `ports` and `paths`")
    body, port = _split_port(text)
    if isinstance(port, TargetError):
        return port
    if not body:
        return TargetError(f"`{text}` names no host", "write it before the port; `ports` says which for a whole rule")
    what = _parse_body(body, verdict)
    return what if isinstance(what, TargetError) else Target(what, port)


def parse_network(text: str, *, verdict: Verdict = Verdict.ALLOW) -> Network | TargetError:
    """The range that an address or a CIDR spells, as in `addresses`. IPv4-mapped IPv6 becomes IPv4."""
    if "/" not in text:
        address = parse_address(text)
        if address is None:
            return TargetError(f"`{text}` is not an address or a CIDR range", "write it like `10.0.0.0/8`")
        return lean_network(address, address.max_prefixlen)
    address_text, _, length = text.partition("/")
    address = parse_address(address_text)
    if address is None:
        return TargetError(f"`{text}` is not a CIDR range", "write it like `10.0.0.0/8`; a path belongs in `paths`")
    if not (length.isascii() and length.isdigit()) or (len(length) > 1 and length[0] == "0"):
        return TargetError(f"`{text}` has no valid prefix length", "write it like `10.0.0.0/8`")
    return _network(text, address, address_text, length, verdict)


def unmap_network(network: Network) -> Network:
    """The network itself; a range of IPv4-mapped IPv6 addresses as the IPv4 range that it is."""
    # Not `subnet_of`: it works out the network's last address, and keeps it.
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED.prefixlen:
        value = int(network.network_address)
        if value >> _IPV4_BITS != _MAPPED_BITS:
            return network
        low = IPv4Address(value & 0xFFFF_FFFF)
        return lean_network(low, network.prefixlen - _MAPPED.prefixlen)
    return network


def lean_network(address: Address, length: int) -> Network:
    """The network of this prefix length that the address is in, in as little memory as `ipaddress` allows."""
    kind = IPv4Network if isinstance(address, IPv4Address) else IPv6Network
    network = kind((int(address), length), strict=False)
    if length >= network.max_prefixlen - 1:
        # Of one or two addresses it keeps a function of its own: as much memory again, and a cycle. The class has one.
        with suppress(AttributeError):
            delattr(network, "hosts")
    return network


def target_covers(target: Target, host: Host, port: int) -> bool:
    """Whether a target names this destination. A target without a port covers every port."""
    if target.port is not None and target.port != port:
        return False
    match target.what:
        case AnyTarget():
            return host.address is None
        case NetworkTarget(network):
            return host.address is not None and host.address in network
        case HostTarget(name, exact, below):
            if host.address is not None:
                return False
            return (exact and host.text == name) or (below and host.text.endswith("." + name))


def _not_one(text: str) -> TargetError:
    """What people write where one target should stand: several, or one in the syntax of something else."""
    first = text.strip().partition(" ")[0]
    if first[:1] in _ODD_STARTS:
        if first[0] == "-":
            return TargetError(f"`{text}` begins with a dash", "in YAML write a space after it, in a list file no dash")
        return TargetError(f"`{text}` holds its quotes", 'in YAML quote with a plain `"`, in a list file not at all')
    if "," in text:
        return TargetError(f"`{text}` holds a comma", "in YAML write `[a, b]`, in a list file one a line")
    if parse_address(first) is not None:
        return TargetError(f"`{text}` is a line of a hosts file", "write the name alone")
    return TargetError(f"`{text}` holds a space", "write one target an entry")


def _split_port(text: str) -> tuple[str, int | TargetError | None]:
    if text.startswith("["):
        inside, closing, rest = text[1:].partition("]")
        if not closing or ":" not in inside:
            return text, TargetError(f"`{text}` is not an address in brackets", "write it like `[2001:db8::1]:443`")
        if not rest:
            return inside, None
        body, port_text = inside, rest[1:]
        if rest[0] != ":":
            return text, TargetError(f"`{text}` has text after the brackets", "write it like `[2001:db8::1]:443`")
    elif text.count(":") != 1:
        return text, None
    else:
        body, _, port_text = text.partition(":")
    port = parse_port(port_text)
    if isinstance(port, Refusal):
        return text, TargetError(
            f"`{text}` has no valid port", "a port is a number from 1 to 65535; `ports` takes ranges"
        )
    return body, port


def _parse_body(  # noqa: PLR0911 -- one return a form
    body: str, verdict: Verdict
) -> HostTarget | AnyTarget | NetworkTarget | TargetError:
    if body == "**":
        return AnyTarget()
    if body == "*":
        return TargetError("`*` is not a target", "write `**` for any name, or better the hosts that are needed")
    if "/" in body:
        network = parse_network(body, verdict=verdict)
        return network if isinstance(network, TargetError) else NetworkTarget(network)
    if body.startswith("*."):
        return _parse_below(body, body[2:], exact=False)
    if body.startswith("."):
        return _parse_below(body, body[1:], exact=True)
    if "*" in body:
        name = body.rpartition("*")[2].lstrip(".")
        if isinstance(_parse_below(body, name, exact=True), TargetError):
            name = "example.com"
        return TargetError(
            f"`{body}` holds a `*` that is not a whole first label",
            f"write `*.{name}` for all names below, or `.{name}` for the name and all below",
        )
    host = parse_host(body)
    if isinstance(host, Refusal):
        return TargetError(
            f"`{body}` is not a host: {host.detail}", "write a plain host name, an address or a CIDR range"
        )
    if host.address is not None:
        return NetworkTarget(lean_network(host.address, host.address.max_prefixlen))
    return HostTarget(host.text, exact=True, below=False)


def _parse_below(text: str, name: str, *, exact: bool) -> HostTarget | TargetError:
    host = parse_host(name)
    if isinstance(host, Refusal):
        return TargetError(f"`{text}` is not a host pattern: {host.detail}", "write it like `*.example.com`")
    if host.address is not None:
        return TargetError(f"`{text}` is a pattern over an address", "write a CIDR range, like `10.0.0.0/8`")
    if "." not in host.text or host.text in _PUBLIC_SUFFIXES:
        return TargetError(
            f"`{text}` covers names that anyone can register",
            f"name more of the host, like `*.example.{host.text}`, or write `**` if any name is meant",
        )
    return HostTarget(host.text, exact=exact, below=True)


def _network(text: str, address: Address, address_text: str, length: str, verdict: Verdict) -> Network | TargetError:
    # The prefix length counts the bits of the notation: `::ffff:10.0.0.0/104` is 10.0.0.0/8.
    mapped = isinstance(address, IPv4Address) and ":" in address_text
    # No length of more digits is one; a huge number is not even read.
    bits = (int(length) if len(length) <= _LENGTH_DIGITS else -1) - (_MAPPED.prefixlen if mapped else 0)
    if not 0 <= bits <= address.max_prefixlen:
        return TargetError(f"`{text}` has no valid prefix length", "write it like `10.0.0.0/8`")
    network = lean_network(address, bits)
    if network.network_address != address:
        return TargetError(f"`{text}` has bits set outside its range", f"write `{network}` or `{address}`")
    if bits == 0 and verdict is Verdict.ALLOW:
        return TargetError(f"`{text}` covers every address", "name the ranges that are needed")
    return network
