"""The opening of a connection that was redirected here: what it is to be judged as; from there `Onward` carries it.

1. who it is     its place alone; nothing inside a connection counts
2. where to      the original destination, as the kernel has it. None, or an address of this machine: refused, since
                 nobody sent it elsewhere, or it would come back to us
3. a given name  an address that our DNS gave out stands for one name, and is judged as that; one that stands for none
                 is refused. A name that the client may not ask for is not told to it
4. first bytes   any other address: SNI or Host name the destination, which is then resolved by us and dialled there;
                 the original address counts for nothing any more
5. no name       the address itself is the destination, judged as one. Where only raw TCP may reach it, nothing is
                 waited for: its server may be the first to speak
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from egress.gate.own import is_local
from egress.gate.within import within
from egress.policy import Host, Protocol, Reason, Refusal, Request, parse_authority, parse_host
from egress.proxy.connection import Phase
from egress.proxy.first_bytes import HANDSHAKE, looks_like_http, peek_first, peek_head, peek_hello
from egress.proxy.roads import TRANSPARENT
from egress.wire.client_hello import ClientHello
from egress.wire.head import Reject, RejectKind, RequestHead

if TYPE_CHECKING:
    from egress.gate.given import GivenNames
    from egress.policy import Address
    from egress.proxy.connection import Connection
    from egress.proxy.onward import Onward

logger = logging.getLogger(__name__)

_STRAIGHT = Refusal(Reason.ADDRESS_IS_PROXY, "the connection was not on its way to anywhere but this machine")
_STALE = Refusal(Reason.NAME_NOT_RESOLVED, "the address stands for no name that was given out here")
_NAMES_ADDRESS = Refusal(Reason.NAME_MISMATCH, "SNI or Host is another address than the connection's own")


class TransparentOpening:
    """Carries one redirected connection at a time through its opening, and on; one a worker."""

    def __init__(self, onward: Onward) -> None:
        self._onward = onward

    async def carry(self, connection: Connection) -> None:
        """Everything from the accept to the end of the connection."""
        original = connection.entrance.original
        found = None if original is None else original(connection.endpoint.sock)
        literal = None if found is None else parse_host(str(found[0]))
        if found is None or literal is None or isinstance(literal, Refusal):
            await self._refuse(connection, Host(""), 0, _STRAIGHT)
            return
        address, port = found
        problem = await connection.identify(None)
        if problem is None and (not port or is_local(address)):
            problem = _STRAIGHT
        if problem is not None:
            await self._refuse(connection, literal, port, problem)
            return
        # Whatever interrupts the wait is recorded as of this.
        connection.judging = _request(connection, literal, port)
        named = await self._named(connection, address, literal, port)
        connection.judging = None
        if isinstance(named, Refusal):
            await self._refuse(connection, literal, port, named)
        elif named is not None:
            given = connection.gate.given
            by = literal if given is not None and given.is_synthetic(address) else None
            await self._onward.towards(connection, named, port, TRANSPARENT, given=by)

    async def _named(self, connection: Connection, address: Address, literal: Host, port: int) -> Host | Refusal | None:
        """What the destination is to be judged as, or why it is none; None if the client left."""
        given = connection.gate.given
        if given is not None and given.is_synthetic(address):
            return await _by_answer(given, address, connection.gate.limits.judge_seconds)
        if connection.gate.only_raw(connection.client, literal, port):
            return literal
        connection.expect(Phase.HEAD, connection.limits.head_seconds)
        seen = await peek_first(connection)
        if not seen:
            return None
        if seen[0] == HANDSHAKE:
            return await _by_hello(connection, literal)
        return await _by_head(connection, literal) if looks_like_http(seen) else literal

    async def _refuse(self, connection: Connection, host: Host, port: int, refusal: Refusal) -> None:
        denial = await connection.refuse(_request(connection, host, port), refusal)
        await self._onward.tell(connection, TRANSPARENT, denial)


async def _by_answer(given: GivenNames, address: Address, seconds: float) -> Host | Refusal:
    try:
        name = await within(seconds, given.name_of(address))
    except Exception:
        # Also an OSError, which would else be taken for the client's.
        logger.exception("it cannot be said which name an address was given out for")
        return Refusal(Reason.INTERNAL_ERROR, "")
    return _STALE if name is None else parse_host(name)


async def _by_hello(connection: Connection, literal: Host) -> Host | Refusal | None:
    hello = await peek_hello(connection)
    if not isinstance(hello, ClientHello):
        return None if hello is None else Refusal(Reason.REQUEST_MALFORMED, hello.detail)
    connection.sni = hello.sni
    return literal if hello.sni is None else _other_than_address(parse_host(hello.sni), literal)


async def _by_head(connection: Connection, literal: Host) -> Host | Refusal | None:
    head = await peek_head(connection)
    if not isinstance(head, RequestHead):
        return None if head is None else _rejected(head)
    if head.host is None:
        return literal
    named = parse_authority(head.host, 80)
    return named if isinstance(named, Refusal) else _other_than_address(named[0], literal)


def _other_than_address(named: Host | Refusal, literal: Host) -> Host | Refusal:
    """A name counts; an address counts only if it is where the connection goes anyway."""
    if isinstance(named, Host) and named.address is not None and named != literal:
        return _NAMES_ADDRESS
    return named


def _rejected(head: Reject) -> Refusal:
    reason = Reason.LIMIT_HEAD if head.kind is RejectKind.TOO_LARGE else Reason.REQUEST_MALFORMED
    return Refusal(reason, head.detail)


def _request(connection: Connection, host: Host, port: int) -> Request:
    return Request(connection.client.sandbox, Protocol.TCP, host, port)
