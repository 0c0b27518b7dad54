"""Who a client is, step by step: nobody or its place's at first, one sandbox from its first head to us on.

1. each CONNECT and each request to the proxy itself says anew who it is: who shares a connection must not share rights
2. a connection that was one sandbox's is never another's
3. who is nobody is asked for name and token where a sandbox that has one could be at its place
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from egress.config import UNKNOWN_SANDBOX
from egress.gate.exchange import Client
from egress.gate.roster import NameAndToken
from egress.policy import DEFAULT_SANDBOX, Reason, Refusal

if TYPE_CHECKING:
    from egress.gate.denial import Denial
    from egress.gate.roster import ClientPlace, Roster
    from egress.wire.head import RequestHead

type Saying = RequestHead | NameAndToken | None

_ANOTHERS: Final = Refusal(Reason.SANDBOX_UNKNOWN, "The connection belongs to another sandbox already.")
_NOBODY: Final = Refusal(Reason.SANDBOX_UNKNOWN, "")


def arrived(roster: Roster | None, peer: str, place: ClientPlace, road: str | None = None) -> Client:
    """A client that has said nothing yet: `peer` is its `address:port`, or `unix:uid=USER`."""
    sandbox = DEFAULT_SANDBOX.name if roster is None else roster.at(place) or UNKNOWN_SANDBOX
    return Client(sandbox, peer, place=place, road=road)


def identify(roster: Roster, client: Client, said: Saying) -> Client | Refusal:
    """Who sends a head to the proxy itself, or says so otherwise; a refusal if nobody, or another than before.

    `said` None: nothing, on a road where nothing can be said.
    """
    if client.place is None:
        return client if client.settled else _NOBODY
    if said is None:
        credentials: tuple[bytes, ...] | NameAndToken = ()
    else:
        credentials = said if isinstance(said, NameAndToken) else tuple(said.values(b"proxy-authorization"))
    name = roster.identify(client.place, credentials)
    if name is None:
        return _NOBODY
    if client.settled:
        return client if client.sandbox == name else _ANOTHERS
    return replace(client, sandbox=name, settled=True)


def as_unknown(roster: Roster | None, client: Client, denial: Denial) -> tuple[Client, Denial]:
    """A client that is nobody as its row has it, and its refusal: one that asks for a token where that would help."""
    if client.settled or client.place is None:
        return client, denial
    asks = roster is not None and roster.asks(client.place)
    return replace(client, sandbox=UNKNOWN_SANDBOX), replace(denial, asks_who=asks)
