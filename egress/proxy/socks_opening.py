"""The opening of a SOCKS client: greeting, who it is, and where it wants to go; from there `Onward` carries it.

1. each message is consumed exactly: what a client sends on before its answer is the lane's that follows
2. name and token are asked for where a sandbox that has them could be there, and are then all that counts; else the
   place says who it is. What a client says that offers nothing but a password counts as well
3. only CONNECT: what would listen for the client, or send datagrams for it, is refused, on record
4. a name is judged as a name and never resolved before it is allowed; an address as an address
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from egress.gate.naming import NOWHERE
from egress.gate.roster import NameAndToken
from egress.policy import Host, Protocol, Reason, Refusal, Request, parse_host, parse_port
from egress.proxy.connection import Phase
from egress.proxy.lingering import linger
from egress.proxy.peeking import peek
from egress.proxy.roads import SOCKS
from egress.wire import socks
from egress.wire.outcome import NeedMore, Reject

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.proxy.connection import Connection
    from egress.proxy.onward import Onward

# As the audit has it.
ROAD: Final = "socks"
_SOCKS4 = Refusal(Reason.REQUEST_MALFORMED, "SOCKS4 is not spoken here: SOCKS5 is")
_NO_METHOD = Refusal(Reason.SANDBOX_UNKNOWN, "the client offers no way to say who it is that is known here")
_COMMAND = Refusal(Reason.REQUEST_MALFORMED, "of SOCKS only CONNECT is carried, and neither BIND nor UDP ASSOCIATE")
_ADDRESS_TYPE = Refusal(Reason.HOST_INVALID, "the SOCKS request names its host in a way that is not known")
_NOT_ASCII = Refusal(Reason.HOST_INVALID, "a name in a SOCKS request is ASCII")


class SocksOpening:
    """Carries one SOCKS client at a time through its opening, and on; one a worker."""

    def __init__(self, onward: Onward) -> None:
        self._onward = onward

    async def carry(self, connection: Connection, version: int) -> None:
        """Everything from the first byte, which is not consumed, to the end of the connection."""
        connection.client = replace(connection.client, road=ROAD)
        if version == socks.SOCKS4:
            await self._refuse(connection, _SOCKS4, socks.REFUSED4)
            return
        if not await self._greet(connection):
            return
        asked = await _read(connection, socks.parse_socks_request)
        if asked is None:
            return
        if isinstance(asked, Reject):
            await self._refuse(connection, _malformed(asked), socks.reply(socks.Reply.FAILURE))
            return
        (host, port), problem, code = _destination(asked)
        if problem is None:
            await self._onward.towards(connection, host, port, SOCKS)
            return
        request = Request(connection.client.sandbox, Protocol.TCP, host, port)
        await connection.refuse(request, problem)
        await _end(connection, socks.reply(code))

    async def _greet(self, connection: Connection) -> bool:
        """Agree on a way to say who the client is, and learn it; whether it may ask."""
        greeting = await _read(connection, socks.parse_greeting)
        if greeting is None:
            return False
        if isinstance(greeting, Reject):
            await self._refuse(connection, _malformed(greeting), socks.method_answer(socks.Method.UNACCEPTABLE))
            return False
        method = _method(connection, greeting.methods)
        if method is socks.Method.PASSWORD:
            await connection.endpoint.send(socks.method_answer(method))
            return await self._password(connection)
        problem = await connection.identify(None) if method is socks.Method.NONE else _NO_METHOD
        if problem is not None:
            await self._refuse(connection, problem, socks.method_answer(socks.Method.UNACCEPTABLE))
            return False
        await connection.endpoint.send(socks.method_answer(method))
        return True

    async def _password(self, connection: Connection) -> bool:
        said = await _read(connection, socks.parse_credentials)
        if said is None:
            return False
        if isinstance(said, Reject):
            problem: Refusal | None = _malformed(said)
        else:
            problem = await connection.identify(NameAndToken(said.name, said.token))
        if problem is not None:
            await self._refuse(connection, problem, socks.credentials_answer(known=False))
            return False
        await connection.endpoint.send(socks.credentials_answer(known=True))
        return True

    async def _refuse(self, connection: Connection, refusal: Refusal, answer: bytes) -> None:
        """Refuse who has named no destination yet."""
        await connection.refuse_unread(refusal.reason, refusal.detail)
        await _end(connection, answer)


def _method(connection: Connection, offered: frozenset[int]) -> socks.Method:
    """How the client is to say who it is."""
    roster, place = connection.gate.generation.roster, connection.client.place
    asks = roster is not None and place is not None and (roster.asks(place) or roster.at(place) is None)
    wanted = (socks.Method.PASSWORD, socks.Method.NONE) if asks else (socks.Method.NONE, socks.Method.PASSWORD)
    return next((method for method in wanted if method in offered), socks.Method.UNACCEPTABLE)


def _destination(asked: socks.SocksRequest) -> tuple[tuple[Host, int], Refusal | None, socks.Reply]:
    """Where to, as far as it can be read; and why it is refused if it is, with its answer."""
    if asked.host is None:
        return NOWHERE, _ADDRESS_TYPE, socks.Reply.ADDRESS_TYPE_NOT_SUPPORTED
    host = _host(asked.host)
    port = parse_port(str(asked.port))
    named = Host("") if isinstance(host, Refusal) else host, 0 if isinstance(port, Refusal) else port
    if asked.command != socks.Command.CONNECT:
        return named, _COMMAND, socks.Reply.COMMAND_NOT_SUPPORTED
    problem = host if isinstance(host, Refusal) else port if isinstance(port, Refusal) else None
    return named, problem, socks.Reply.NOT_ALLOWED


def _host(named: object) -> Host | Refusal:
    if not isinstance(named, bytes):
        # The text of an address: mapped ones become what they stand for, as everywhere.
        return parse_host(str(named))
    return parse_host(named.decode("ascii")) if named.isascii() else _NOT_ASCII


async def _read[Message: (socks.Greeting, socks.Credentials, socks.SocksRequest)](
    connection: Connection, parse: Callable[[bytes], Message | NeedMore | Reject]
) -> Message | Reject | None:
    """The next message, consumed exactly; None if the client left before its end."""
    seen = b""
    while True:
        seen = await peek(connection, socks.LARGEST_MESSAGE, len(seen))
        if not seen:
            return None
        message = parse(seen)
        if isinstance(message, Reject):
            return message
        if not isinstance(message, NeedMore):
            connection.endpoint.sock.recv(message.length)
            return message


async def _end(connection: Connection, answer: bytes) -> None:
    # A deadline that passes from here on is no refusal of its own.
    connection.expect(Phase.IDLE, connection.limits.idle_seconds)
    await connection.endpoint.send(answer)
    await linger(connection.endpoint)


def _malformed(rejected: Reject) -> Refusal:
    return Refusal(Reason.REQUEST_MALFORMED, rejected.detail)
