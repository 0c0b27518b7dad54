"""The shape of `dns` in `egress.yaml`, and its reading into a `DnsConfig`.

1. a listener is one address that the sandboxes ask, so that an answer comes from where the question went
2. synthetic addresses come out of ranges that are nobody's: taken out of a public one, they would be somebody's
3. the proxy never asks itself
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import BeforeValidator, Field, PlainValidator

from egress.config.dns import DnsAnswers, DnsConfig, DnsLimits
from egress.config.fields import text, wrong
from egress.config.limit_fields import request_rate
from egress.config.name_servers import SERVER_HINT, Servers, address_and_port, listed
from egress.config.policy_model import Strict
from egress.config.wording import did_you_mean, kind_of, one_of, quoted
from egress.policy import Rate, Refusal, classify, parse_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.config.dns import NameServer
    from egress.config.document import Document
    from egress.config.wording import Place
    from egress.errors import Problem

_LISTEN: Final = "write `127.0.0.1:5353`"
_WORDS: Final = {word.value: word for word in DnsAnswers}


def read_dns_listen(value: object) -> tuple[str, int]:
    """`ADDRESS:PORT`, where port 0 picks a free one."""
    written = text(value)
    host, port = address_and_port(written, None, _LISTEN)
    if ip_address(host).is_unspecified:
        raise wrong(
            "all addresses are no place to answer from: an answer must come from where the question went",
            "name each address that the sandboxes ask",
        )
    return host, port


def _range[Network: (IPv4Network, IPv6Network)](
    kind: type[Network], fewest_bits: int, hint: str, value: object
) -> Network | Literal[False]:
    if value is False:
        return False
    try:
        network = kind(text(value))
    except ValueError:
        raise wrong(f"{quoted(text(value))} is not such a range of addresses", hint) from None
    if network.max_prefixlen - network.prefixlen < fewest_bits:
        raise wrong(f"{network} is too small: each name gets an address of its own", hint)
    # Of a range that begins and ends in two different ones that are nobody's, all between may be public.
    ends = network.network_address, network.broadcast_address
    if network.is_global or any(classify(address).public for address in ends):
        raise wrong(f"{network} is public: what is given out must be nobody's address", hint)
    return network


def _range4(value: object) -> IPv4Network | Literal[False]:
    return _range(IPv4Network, 8, "write `198.18.0.0/15`, or `false` for none", value)


def _range6(value: object) -> IPv6Network | Literal[False]:
    return _range(IPv6Network, 32, "write a /64 of fd00::/8, or `false` for none", value)


def _answers(value: object) -> DnsAnswers:
    if not isinstance(value, str):
        raise wrong(f"should be {one_of(_WORDS)}, not {kind_of(value)}")
    if value not in _WORDS:
        raise wrong(f"unknown word {quoted(value)}", did_you_mean(value, _WORDS))
    return _WORDS[value]


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(f"should be a whole number, not {kind_of(value)}", "write it without quotes or unit")
    return value


ListenField = Annotated[tuple[str, int], PlainValidator(read_dns_listen, json_schema_input_type=str)]
RateField = Annotated[Rate, PlainValidator(request_rate, json_schema_input_type=str)]
type Listens = Annotated[list[ListenField], BeforeValidator(listed, json_schema_input_type=str | list[str])]
_V4 = Annotated[IPv4Network | Literal[False], PlainValidator(_range4, json_schema_input_type=str | bool)]
_V6 = Annotated[IPv6Network | Literal[False], PlainValidator(_range6, json_schema_input_type=str | bool)]


class DnsRangesModel(Strict):
    """Where synthetic addresses come from."""

    ipv4: _V4 | None = None
    ipv6: _V6 | None = None


class DnsLimitsModel(Strict):
    """What a sandbox may ask in a time."""

    queries: RateField | None = None
    parent_queries: RateField | None = None
    parent_names: RateField | None = None


class DnsModel(Strict):
    """The resolver for sandboxes, and whom the proxy asks itself."""

    listen: Listens | None = None
    answers: Annotated[DnsAnswers, PlainValidator(_answers, json_schema_input_type=str)] | None = None
    ranges: DnsRangesModel | None = None
    keep: Annotated[int, BeforeValidator(_number), Field(ge=3_600, le=31_536_000)] | None = None
    ttl: Annotated[int, BeforeValidator(_number), Field(ge=1, le=3_600)] | None = None
    servers: Servers | None = None
    zones: dict[str, Servers] | None = None
    limits: DnsLimitsModel | None = None


def dns_config(model: DnsModel, document: Document) -> tuple[DnsConfig, list[Problem]]:
    """The resolver as a value, and what is wrong with it as a whole."""
    problems: list[Problem] = []
    zones: dict[str, tuple[NameServer, ...]] = {}
    for name, servers in (model.zones or {}).items():
        host = parse_host(name)
        if isinstance(host, Refusal) or host.address is not None:
            problems.append(document.problem(("dns", "zones", name), "is not a domain", "write `corp.example: IP`"))
        else:
            zones[host.text] = tuple(servers)
    empty: list[Place] = [("dns", "zones", zone) for zone, servers in (model.zones or {}).items() if not servers]
    empty += [("dns", "servers")] if model.servers == [] else []
    problems += [document.problem(place, "there is nobody to ask", SERVER_HINT) for place in empty]
    ranges = DnsRangesModel() if model.ranges is None else model.ranges
    default = DnsConfig()
    config = DnsConfig(
        listen=tuple(dict.fromkeys(model.listen or ())),
        answers=model.answers or default.answers,
        ipv4=default.ipv4 if ranges.ipv4 is None else ranges.ipv4 or None,
        ipv6=default.ipv6 if ranges.ipv6 is None else ranges.ipv6 or None,
        keep_seconds=model.keep or default.keep_seconds,
        ttl=model.ttl or default.ttl,
        servers=tuple(model.servers or ()),
        zones=zones,
        limits=_limits(model.limits),
    )
    problems += [document.problem(*told) for told in whole_problems(config)]
    return config, problems


def whole_problems(config: DnsConfig) -> Iterator[tuple[Place, str, str]]:
    """What is wrong with the resolver whatever it was read from: place, message, hint."""
    asked = [*config.servers, *(server for servers in config.zones.values() for server in servers)]
    for server in asked:
        if server in config.listen:
            yield ("dns", "servers"), "this is where we answer ourselves", "name the server that knows the names"
    if config.gives and config.ipv4 is None and config.ipv6 is None:
        yield ("dns", "ranges"), "there is no address to answer with", "name a range, or write `answers: real`"


def _limits(model: DnsLimitsModel | None) -> DnsLimits:
    stated = {} if model is None else {name: getattr(model, name) for name in DnsLimitsModel.model_fields}
    return replace(DnsLimits(), **{name: value for name, value in stated.items() if value is not None})
