"""Where a rule could speak, as sets of ports and protocols that can be united, intersected and subtracted.

A rule may speak in one way about a request that is read, and in another about one that never is, or whose path or
method can be read more than one way (doubt counts against the request). So there is a region for each `View`:

1. KNOWN         the request is read: wherever the rule's ports and protocols hold;
2. OPAQUE        nothing inside is seen: a deny or ask speaks if it might match, an allow only if it must;
3. ODD_PATH      the path can be read more than one way: an allow with `paths` is silent, a deny or ask is not;
4. ODD_METHOD    the method is another spelling (`delete`): an allow with `methods` is silent, a deny or ask is not;
5. ODD_BOTH      both at once.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from egress.policy import HTTP_PROTOCOLS, Protocol, Verdict
from egress.review.lint.terms import inside_terms, stated_inside, unknown_terms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from egress.policy import Rule

type Region = tuple[tuple[int, int, int], ...]
"""First port, last port, protocols as bits: sorted, apart from each other, none without a protocol."""
type Regions = tuple[Region, Region, Region, Region, Region]
"""One region for each `View`."""

BIT: Final = {protocol: 1 << place for place, protocol in enumerate(Protocol)}
EVERY: Final = sum(BIT.values())
EMPTY: Final[Region] = ()
FULL: Final[Region] = ((1, 65535, EVERY),)
HTTPS_PORT: Final = 443

_CLEAR: Final = BIT[Protocol.HTTP] | BIT[Protocol.WS]
_GRPC: Final = BIT[Protocol.GRPC]
_DNS: Final = BIT[Protocol.DNS]
_OVER_TLS: Final = BIT[Protocol.HTTPS] | BIT[Protocol.WSS] | _GRPC
_WEBSOCKET: Final = BIT[Protocol.WS] | BIT[Protocol.WSS]
_HTTP: Final = sum(BIT[protocol] for protocol in HTTP_PROTOCOLS)
# What a connection may turn out to carry is known at the request only: an upgrade makes WebSocket of HTTP.
_GROUPS: Final = (_CLEAR, _OVER_TLS, *(bit for bit in BIT.values() if not bit & (_CLEAR | _OVER_TLS)))
_DEFAULT_PORTS: Final = ((80, 80), (HTTPS_PORT, HTTPS_PORT))
_MOST_PIECES: Final = 64


class View(IntEnum):
    """What can be seen of a request: the place of its region in `Regions`."""

    KNOWN = 0
    OPAQUE = 1
    ODD_PATH = 2
    ODD_METHOD = 3
    ODD_BOTH = 4


NOWHERE: Final[Regions] = (EMPTY,) * 5
EVERYWHERE: Final[Regions] = (FULL,) * 5


def known_region(rule: Rule, port: int | None) -> Region:
    """Where the rule's ports and protocols hold, for a target with this port of its own."""
    if port is not None:
        ports: Iterable[tuple[int, int]] = ((port, port),)
    elif rule.ports is not None:
        ports = ((span.first, span.last) for span in rule.ports)
    else:
        ports = _DEFAULT_PORTS if rule.verdict is Verdict.ALLOW else ((1, 65535),)
    bits = _protocols(rule)
    questions = EMPTY
    if rule.protocols is not None and Protocol.DNS in rule.protocols:
        # Questions that a rule names itself are met whatever its ports.
        questions, bits = ((1, 65535, _DNS),), bits & ~_DNS
    if rule.verdict is Verdict.ALLOW and rule.ports is None and port is None:
        bits &= ~BIT[Protocol.TCP]
    region = unite(((first, last, bits),) for first, last in ports) if bits else EMPTY
    if rule.verdict is Verdict.ALLOW and rule.protocols is None:
        region = subtract(region, ((HTTPS_PORT, HTTPS_PORT, _CLEAR),))
    return unite((region, questions)) if questions else region


def may_speak(rule: Rule, port: int | None) -> Regions:
    """Where the rule could speak, for each view: never less than where it does."""
    known = known_region(rule, port)
    if rule.verdict is not Verdict.ALLOW:
        return (known, _map(known, _touched), known, known, known)
    inside = bool(rule.methods is not None or rule.paths is not None or rule.inject or rule.remove or rule.rewrite)
    inside = inside or bool(rule.swap or rule.strip_own) or rule.sign is not None or inside_terms(rule)
    odd_path = known if rule.paths is None else EMPTY
    upper = rule.methods is not None and all(method == method.upper() for method in rule.methods)
    odd_method = EMPTY if upper else known
    opaque = known if unknown_terms(rule) else EMPTY if inside else _map(known, _whole)
    return (known, opaque, odd_path, odd_method, odd_path and odd_method)


def must_stop(rule: Rule, region: Region) -> bool:
    """Whether the rule speaks about every request in its region, whatever that turns out to be."""
    return rule.methods is None and rule.paths is None and not inside_terms(rule) and _map(region, _whole) == region


def demands(rule: Rule, port: int | None) -> Regions:
    """What must be spoken for by others before the rule's target is needless. Odd requests count against it alone."""
    known, opaque, *_ = may_speak(rule, port)
    refuses = rule.verdict is not Verdict.ALLOW
    odd_path = known if refuses and rule.paths is not None else EMPTY
    odd_method = known if refuses and rule.methods is not None else EMPTY
    return (known, opaque, odd_path, odd_method, odd_path and odd_method)


def unite(regions: Iterable[Region]) -> Region:
    """What any of them holds. One in too many pieces becomes everything: larger, so that nothing is claimed of it."""
    found: Region = EMPTY
    for region in regions:
        found = _united(found, region)
        if len(found) > _MOST_PIECES:
            return FULL
    return found


@lru_cache(maxsize=16_384)
def subtract(one: Region, other: Region) -> Region:
    """What `one` holds and `other` does not."""
    return _combine(one, other, lambda mine, theirs: mine & ~theirs)


@lru_cache(maxsize=16_384)
def intersect(one: Region, other: Region) -> Region:
    """What both hold."""
    return _combine(one, other, lambda mine, theirs: mine & theirs)


@lru_cache(maxsize=16_384)
def _united(one: Region, other: Region) -> Region:
    return _combine(one, other, lambda mine, theirs: mine | theirs)


def _combine(one: Region, other: Region, bits: Callable[[int, int], int]) -> Region:
    cuts = sorted({edge for first, last, _ in (*one, *other) for edge in (first, last + 1)})
    found: list[tuple[int, int, int]] = []
    for start, stop in pairwise(cuts):
        held = bits(_at(one, start), _at(other, start))
        if held and found and found[-1][1:] == (start - 1, held):
            found[-1] = (found[-1][0], stop - 1, held)
        elif held:
            found.append((start, stop - 1, held))
    return tuple(found)


def _at(region: Region, port: int) -> int:
    return next((bits for first, last, bits in region if first <= port <= last), 0)


def _map(region: Region, change: Callable[[int], int]) -> Region:
    return unite(((first, last, change(bits)),) for first, last, bits in region if change(bits))


def _whole(bits: int) -> int:
    """The protocols whose every alternative is there."""
    return sum(group for group in _GROUPS if group & bits == group)


def _touched(bits: int) -> int:
    """The protocols of which any alternative is there."""
    return sum(group for group in _GROUPS if group & bits)


def _protocols(rule: Rule) -> int:
    if rule.protocols is not None:
        stated = sum(BIT[protocol] for protocol in rule.protocols)
        # gRPC is HTTPS.
        return stated | _GRPC if Protocol.HTTPS in rule.protocols else stated
    if rule.verdict is not Verdict.ALLOW:
        # What is for some requests of a host only says nothing of questions for its name.
        narrowed = rule.methods is not None or rule.paths is not None or stated_inside(rule)
        return EVERY & ~_DNS if narrowed else EVERY
    # A rule for reading is no channel that writes: with `methods`, no WebSocket.
    return _HTTP if rule.methods is None else _HTTP & ~_WEBSOCKET
