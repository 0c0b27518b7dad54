"""Fuzz target for the opening of SOCKS5: greeting, credentials and request, one after the other as a client sends them.

A second reader, straight from RFC 1928 and RFC 1929, is the witness: what ours accepts, it takes apart alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from fuzz.mutation import cuts_of, mutate

from egress.wire.outcome import NeedMore, Reject
from egress.wire.socks import (
    LARGEST_MESSAGE,
    Credentials,
    Greeting,
    Method,
    SocksRequest,
    parse_credentials,
    parse_greeting,
    parse_socks_request,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

type Message = Greeting | Credentials | SocksRequest
type Parse = Callable[[bytes], Message | NeedMore | Reject]

_WHO = b"\x01\x05ci-31\x0atoken-of-3"
_NAMED = b"\x05\x01\x00\x03\x06a.test\x01\xbb"
SEEDS = (
    b"\x05\x01\x00" + _NAMED + b"\x16\x03\x01",
    b"\x05\x02\x00\x02" + _WHO + _NAMED,
    b"\x05\x01\x02" + _WHO + b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50",
    b"\x05\x01\x00\x05\x01\x00\x04" + ip_address("2001:db8::1").packed + b"\x01\xbb",
    b"\x05\x01\x00\x05\x02\x00\x01\xc0\x00\x02\x01\x00\x50",
    b"\x05\x01\x00\x05\x03\x00\x03\x01a\x00\x00",
    b"\x05\x03\x00\x01\x80",
    b"\x04\x01\x00\x50\xc0\x00\x02\x01me\x00",
)
PIECES = (
    b"\x05", b"\x01", b"\x00", b"\x02", b"\x03", b"\x04", b"\xff", b"\x05\x01\x00", b"\x05\x02\x00\x02",
    b"\x05\x01\x00\x03", b"\x05\x01\x00\x01", b"\x05\x01\x00\x04", b"\x01\x01a\x01b", b"\x03\x06a.test",
    b"a.test\x00", b"\x00\x50", b"127.1",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SocksOpenings:
    """Openings of clients, mutated."""

    name: str = "socks-openings"
    seeds: tuple[bytes, ...] = SEEDS

    def generate(self, chance: Random, pool: Sequence[bytes]) -> bytes:
        """A mutant."""
        return mutate(chance, pool, PIECES)

    def check(self, data: bytes, chance: Random) -> str:
        """Hold one input to everything, message by message, as far as it can be read."""
        told = []
        parsers: list[Parse] = [parse_greeting]
        while parsers:
            parse = parsers.pop(0)
            message = read(data, cuts_of(chance, data, 3), parse)
            told.append(signature(message))
            if isinstance(message, NeedMore | Reject):
                break
            if isinstance(message, Greeting):
                asks = Method.PASSWORD in message.methods
                parsers = [*([parse_credentials] if asks else []), parse_socks_request]
            data = data[message.length :]
        return "; ".join(told)


def read(data: bytes, cuts: Sequence[int], parse: Parse) -> Message | NeedMore | Reject:
    """The message that the bytes begin with; what must hold of it does."""
    whole = parse(data)
    for cut in cuts:
        part = parse(data[:cut])
        assert isinstance(part, NeedMore) or type(part) is type(whole), "a prefix says other than the whole"
        assert isinstance(part, NeedMore | Reject) or part == whole, "a prefix is another message than the whole"
    if isinstance(whole, Greeting | Credentials | SocksRequest):
        assert 0 < whole.length <= min(len(data), LARGEST_MESSAGE), "a message is longer than any can be"
        assert parse(data[: whole.length]) == whole, "what follows is part of the message"
        assert isinstance(parse(data[: whole.length - 1]), NeedMore), "a message ends before its end"
        assert written(whole, data) == data[: whole.length], "another message has the same meaning"
    return whole


def written(message: Message, data: bytes) -> bytes:
    """The bytes that mean this, as the RFCs have them; where they leave it open, those of `data`."""
    match message:
        case Greeting(methods, length):
            assert methods == set(data[2:length]), "other methods than offered"
            return bytes([5, length - 2]) + data[2:length]
        case Credentials(name, token):
            return bytes([1, len(name)]) + name + bytes([len(token)]) + token
        case SocksRequest(command, None):
            assert data[3] not in {1, 3, 4}, "a known type of address is taken for none"
            return bytes([5, command, 0, data[3]])
        case SocksRequest(command, bytes(host), port):
            return bytes([5, command, 0, 3, len(host)]) + host + port.to_bytes(2)
        case SocksRequest(command, address, port):
            packed = ip_address(str(address)).packed
            return bytes([5, command, 0, 1 if len(packed) == 4 else 4]) + packed + port.to_bytes(2)
    raise AssertionError(message)


def signature(outcome: Message | NeedMore | Reject) -> str:
    """What kind of answer it is."""
    match outcome:
        case Reject():
            return f"refused: {outcome.detail}"
        case NeedMore():
            return "more"
        case Greeting(methods):
            return f"greeting: {Method.NONE in methods} {Method.PASSWORD in methods}"
        case Credentials():
            return "credentials"
        case SocksRequest(command, host):
            return f"request: {min(command, 4)} {type(host).__name__}"
