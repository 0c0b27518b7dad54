"""One question to a name server, by dnspython: absolute, without a search list, every failure a sentence."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from egress.gate.resolver import NO_ADDRESS, NO_NAME, Records

if TYPE_CHECKING:
    from egress.gate.resolver import RecordData, Server
    from egress.policy import Address

FAILURES = (dns.exception.DNSException, OSError, ValueError)

# Of one answer that is passed on to a client.
_RECORDS_AT_MOST = 64
_BYTES_AT_MOST = 16_000

# Addresses, seconds to live, and why there are none.
type Found = tuple[list[Address], float, str]


def make_resolver(servers: tuple[Server, ...]) -> dns.asyncresolver.Resolver:
    """A resolver that asks `servers`, or the system's if there are none, and completes no name."""
    resolver = dns.asyncresolver.Resolver(configure=not servers)
    if servers:
        resolver.nameservers = [
            server if isinstance(server, str) else dns.nameserver.Do53Nameserver(*server) for server in servers
        ]
    resolver.search = []
    resolver.domain = dns.name.root
    return resolver


async def query(resolver: dns.asyncresolver.Resolver, name: str, kind: str, seconds: float) -> Found:
    """The records of `kind` (A or AAAA) of a canonical name."""
    try:
        answer = await resolver.resolve(
            dns.name.from_text(name + "."), kind, search=False, lifetime=seconds, raise_on_no_answer=False
        )
    except dns.resolver.NXDOMAIN:
        return [], 0.0, NO_NAME
    except dns.exception.Timeout:
        return [], 0.0, "the resolver did not answer in time"
    except FAILURES as error:
        return [], 0.0, f"the resolver failed ({type(error).__name__})"
    if answer.rrset is None:
        return [], 0.0, NO_ADDRESS
    # The aliases that led there live no longer than they say, either.
    return [ip_address(record.to_text()) for record in answer.rrset], float(answer.chaining_result.minimum_ttl), ""


async def query_records(resolver: dns.asyncresolver.Resolver, name: str, kind: int, seconds: float) -> Records:
    """The records of a type of a canonical name, and the aliases on the way to them; nothing else of the answer."""
    try:
        answer = await resolver.resolve(
            dns.name.from_text(name + "."),
            dns.rdatatype.RdataType.make(kind),
            search=False,
            lifetime=seconds,
            raise_on_no_answer=False,
        )
        chain = [] if answer.rrset is None else [*answer.chaining_result.cnames, answer.rrset]
        return _taken_over(chain)
    except dns.resolver.NXDOMAIN:
        return Records((), NO_NAME)
    except dns.exception.Timeout:
        return Records((), "the resolver did not answer in time")
    except FAILURES as error:
        return Records((), f"the resolver failed ({type(error).__name__})")


def _taken_over(chain: list[dns.rrset.RRset]) -> Records:
    """Written anew, record by record. Raises ValueError for more than a client is told."""
    records: list[RecordData] = []
    for rrset in chain:
        owner = rrset.name.to_text()
        for record in rrset:
            data = record.to_wire()
            if data is None:
                raise ValueError(owner)
            records.append((owner, int(rrset.rdtype), data))
    if len(records) > _RECORDS_AT_MOST or sum(len(data) for _, _, data in records) > _BYTES_AT_MOST:
        raise ValueError(len(records))
    return Records(tuple(records), ttl=float(min((rrset.ttl for rrset in chain), default=0)))
