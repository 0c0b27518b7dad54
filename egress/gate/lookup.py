"""One question to a name server, by dnspython: absolute, without a search list, every failure a sentence."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver

if TYPE_CHECKING:
    from egress.policy import Address

FAILURES = (dns.exception.DNSException, OSError, ValueError)

# Addresses, seconds to live, and why there are none.
type Found = tuple[list[Address], float, str]


def make_resolver(servers: tuple[str, ...]) -> dns.asyncresolver.Resolver:
    """A resolver that asks `servers`, or the system's if there are none, and completes no name."""
    resolver = dns.asyncresolver.Resolver(configure=not servers)
    if servers:
        resolver.nameservers = list(servers)
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
        return [], 0.0, "the name does not exist"
    except dns.exception.Timeout:
        return [], 0.0, "the resolver did not answer in time"
    except FAILURES as error:
        return [], 0.0, f"the resolver failed ({type(error).__name__})"
    if answer.rrset is None:
        return [], 0.0, "no address"
    return [ip_address(record.to_text()) for record in answer.rrset], float(answer.rrset.ttl), ""
