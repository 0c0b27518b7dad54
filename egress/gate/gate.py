"""The gate: every request and tunnel of every lane passes these steps, in this order, and each can only narrow.

1. name      no: refused before any DNS. yes or maybe: only the client's own handshake goes on
2. request   policy, once more if a rule rewrites it, then the secrets that the rule injects
3. address   resolve, drop what is ours or not permitted; none left: refused
4. limits    those of every rule that allowed: one of them reached, and the request is refused
5. record    the decision is queued for the audit, or the request is refused
6. grant     one connection to one of the addresses judged

A step that raises, or takes too long, ends in a refusal with reason `internal-error`: a `Denial` is a value.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.config import wall_clock
from egress.credentials import BodyLook
from egress.gate.connecting import decide_connect
from egress.gate.cutting import (
    EXPIRED,
    NO_SANDBOX,
    NOW_DENIED,
    RELOADED,
    cut_exchanges,
    cut_standing,
    still_allowed,
)
from egress.gate.denial import Denial
from egress.gate.dial import DialFailure, Dialled, dial
from egress.gate.exchange import Exchange
from egress.gate.expiry import ExpiryWatch
from egress.gate.grant import GRANT_SECONDS, Grant, GrantBook
from egress.gate.identity import arrived, identify
from egress.gate.ids import new_decision_id
from egress.gate.judged_body import BodyRoom, BodyWanted
from egress.gate.own import OwnListeners
from egress.gate.own_answer import answered
from egress.gate.permit import Permit, Refused, is_secure, permit
from egress.gate.quota import Over
from egress.gate.refusing import record_refusal, refused_over
from egress.gate.shares import ShareBook
from egress.gate.within import within
from egress.policy import Host, Protocol, Reason, Request, TlsMode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from egress.audit import DecisionEvent, OutcomeEvent
    from egress.credentials import Secret
    from egress.credentials.wanted import SecretService
    from egress.gate.body import Buffer
    from egress.gate.connecting import Destination
    from egress.gate.endpoints import Endpoints
    from egress.gate.exchange import Client
    from egress.gate.generation import Generation
    from egress.gate.given import GivenNames
    from egress.gate.identity import Saying
    from egress.gate.record import Recorder
    from egress.gate.resolver import NameService
    from egress.gate.roster import ClientPlace
    from egress.gate.standing import Standing
    from egress.gate.upstream_way import UpstreamWay
    from egress.policy import Address, Refusal

logger = logging.getLogger(__name__)

_PLAIN_PORT = 80


@dataclass(frozen=True, slots=True)
class GateLimits:
    """Seconds that opening a connection, and judging a request up to its grant, may take, and a body to be judged."""

    connect_seconds: float = 10.0
    judge_seconds: float = 30.0
    body_seconds: float = 60.0


# Made anew for each request, so not frozen: that would make the making several times as dear. Nobody changes one.
@dataclass(slots=True)
class Asked:
    """A request to be admitted, and what it came on.

    `book` takes the grant. `cut` ends the connection with a reason code, for a reload that denies it. `peer` is the
    address of an open connection that will carry the request. `reads_body`: the lane can read the request's body first;
    one that cannot gets the answer for a body that nobody can read. `body`: all of it, where the lane holds it.
    """

    client: Client
    request: Request
    book: GrantBook
    cut: Callable[[str], None]
    sni: str | None = None
    peer: Address | None = None
    reads_body: bool = False
    body: Buffer | None = None


@dataclass(slots=True)
class Gate:
    """One gate a process. All methods run on the event loop's thread.

    `via`: upstreams are told of the proxy. `standing`: the connections of the lane that stand idle. `quotas`: the
    limits of rules, as far as this process has a part in them. `clients`: the sandbox of each that is open. `fetcher`
    fetches values of secrets; None: nobody does. `endpoints`: the identity endpoints that are answered here, if any.
    `way`: the upstream proxy that connections go out by, if there is one.
    `given`: what our own DNS gave out, if there is one.
    `presentable`: whether our CA may sign for a host; None: for every one.
    """

    generation: Generation
    resolver: NameService
    recorder: Recorder
    limits: GateLimits = field(default_factory=GateLimits)
    own: OwnListeners = field(default_factory=OwnListeners)
    draining: bool = False
    via: bool = False
    quotas: ShareBook = field(default_factory=ShareBook)
    standing: Callable[[], Iterable[Standing]] = tuple
    bodies: BodyRoom = field(default_factory=BodyRoom)
    clients: Callable[[], Iterable[str]] = tuple
    fetcher: SecretService | None = None
    endpoints: Endpoints | None = None
    way: UpstreamWay | None = None
    given: GivenNames | None = None
    presentable: Callable[[str], bool] | None = None
    open: dict[str, Exchange] = field(default_factory=dict)
    _expiring: ExpiryWatch | None = None

    def __post_init__(self) -> None:
        """Know whether rules expire: asked at each request, and the same for a whole generation."""
        self._expiring = self._expiry_watch()
        if self.fetcher is not None:
            self.generation.credentials.serve(self.fetcher)

    def arrived(self, peer: str, place: ClientPlace, road: str | None = None) -> Client:
        """A client that has said nothing yet: `peer` is its `address:port`."""
        return arrived(self.generation.roster, peer, place, road)

    def identify(self, client: Client, said: Saying) -> Client | Refusal:
        """Who sends a head to the proxy itself, or says so; the lane records the refusal, if it is one."""
        roster = self.generation.roster
        return client if roster is None else identify(roster, client, said)

    def only_raw(self, client: Client, host: Host, port: int) -> bool:
        """Whether a destination may be reached by raw TCP, and by nothing that says more of itself."""
        generation = self.generation
        policy = generation.policy if generation.roster is None else generation.policy_of(client.sandbox)
        if policy is None:
            return False
        return decide_connect(policy, Request(client.sandbox, Protocol.HTTPS, host, port)).only_raw

    async def judge_connect(self, client: Client, host: Host, port: int) -> Destination | Denial:
        """May a client go on towards this destination? No name is resolved unless the tunnel stays unopened."""
        request = Request(client.sandbox, Protocol.HTTPS, host, port)
        if self.endpoints is not None and self.endpoints.owns(host, port):
            return await self.answer(client, request)
        try:
            return await within(self.limits.judge_seconds, self._judge_connect(client, request))
        except Exception as error:  # noqa: BLE001 - whatever it was, it refuses
            return await self._internal_error(error, client, request, None)

    async def admit(self, asked: Asked) -> Exchange | Denial:
        """Judge a request or a tunnel; an `Exchange` may go on, and the book then holds its grant."""
        outcome = await self.admit_head(asked)
        if isinstance(outcome, BodyWanted):  # INVARIANT fail-closed: nobody is there to read it
            error = LookupError("a body is asked for where none can be read")
            return await self._internal_error(error, asked.client, asked.request, asked.sni)
        return outcome

    async def admit_head(self, asked: Asked) -> Exchange | Denial | BodyWanted:
        """As `admit`, for a lane that reads bodies: where a rule asks for this one, it says so, and records nothing."""
        if self.endpoints is not None and self.endpoints.owns(asked.request.host, asked.request.port):
            return await self.answer(asked.client, asked.request)
        try:
            return await within(self.limits.judge_seconds, self._admit(asked))
        except Exception as error:  # noqa: BLE001 - whatever it was, it refuses
            return await self._internal_error(error, asked.client, asked.request, asked.sni)

    async def answer(self, client: Client, request: Request) -> Denial:
        """The answer of an identity endpoint, as a value that is told like a refusal; nothing is admitted."""
        try:
            return await within(self.limits.judge_seconds, answered(self, client, request))
        except Exception as error:  # noqa: BLE001 - whatever it was, it refuses
            return await self._internal_error(error, client, request, None)

    async def dial(self, book: GrantBook, host: str, port: int, *, tls: bool) -> Dialled | DialFailure:
        """Spend a grant on a connection. Without one: a failure, and nothing is sent."""
        grant = book.spend(host, port, tls=tls)
        if grant is None:  # INVARIANT no-grant-no-connect
            logger.info("refused to dial %s:%d: no grant", host, port)
            return DialFailure("no grant for this destination")
        way = dial if self.way is None else self.way.dial
        outcome = await way(grant, timeout_seconds=self.limits.connect_seconds)
        exchange = self.open.get(grant.decision_id)
        if exchange is not None and isinstance(outcome, Dialled):
            exchange.address = str(outcome.address)
        return outcome

    def ready(self, exchange: Exchange, peer: Address, *, verified_tls: bool) -> str:
        """Judge the connection that is about to carry the request; the empty string lets it go on.

        A pooled connection's address is judged again at each use, and a secret leaves only over verified TLS.
        """
        request = exchange.request
        if request.host.address is not None and peer != request.host.address:
            return "the connection goes to another address than the one judged"
        if peer not in exchange.addresses:  # else it was judged as this request was
            policy = exchange.generation.policy_of(request.sandbox)
            if policy is None:
                return NO_SANDBOX
            judged = policy.decide_address(request, exchange.decision, [peer])
            if not judged.addresses:
                return judged.decision.detail or "the connection's address is not permitted"
        if is_secure(request) and not verified_tls:
            return "the server's certificate was not verified"
        if peer != exchange.addresses[0]:
            exchange.address = str(peer)
        return ""

    async def refuse(
        self, client: Client, request: Request, reason: Reason, detail: str = "", *, sni: str | None = None
    ) -> Denial:
        """Refuse for a reason that no rule gave, and record it."""
        return await self._refuse(client, request, Refused(reason, detail), sni)

    async def refuse_unread(self, client: Client, reason: Reason, detail: str) -> Denial:
        """Refuse what could not be read as a request at all, and record it."""
        return await self.refuse(client, Request(client.sandbox, Protocol.TCP, Host(""), 0), reason, detail)

    def secrets(self) -> tuple[Secret, ...]:
        """The values in force, for the cleaning of logs."""
        known = self.generation.credentials.known()
        return known if self.way is None else (*known, *self.way.known())

    def swap(self, generation: Generation) -> int:
        """Judge by a new generation from now on, and cut what it denies. Returns how many were cut."""
        self.adopt(generation)
        return self.cut_denied()

    def adopt(self, generation: Generation) -> None:
        """Judge by a new generation from now on."""
        if self.fetcher is not None:
            generation.credentials.serve(self.fetcher)
        self.generation = generation
        if self._expiring is not None:
            self._expiring.stop()
        self._expiring = self._expiry_watch()
        if self._expiring is not None and self.open:
            self._expiring.look(wall_clock())

    def cut_denied(self, code: str = RELOADED, detail: str = NOW_DENIED) -> int:
        """Cut what the generation in force denies now. Returns how many were cut."""
        cut = cut_exchanges(self.open.values(), self.generation, code, detail)
        return cut + cut_standing(self.standing(), self.generation, self.recorder, code, detail)

    def _expiry_watch(self) -> ExpiryWatch | None:
        """That of the generation in force; None where no rule of it expires."""
        moments = self.generation.expiries
        return ExpiryWatch(moments, self._cut_expired) if moments else None

    def _cut_expired(self) -> bool:
        cut = self.cut_denied(Reason.RULE_EXPIRED.value, EXPIRED)
        if cut:
            self.recorder.note_cut(cut, EXPIRED)
        return bool(self.open)

    async def _judge_connect(self, client: Client, request: Request) -> Destination | Denial:
        if self.draining:
            return await self.refuse(client, request, Reason.SHUTTING_DOWN)
        generation = self.generation
        policy = generation.policy if generation.roster is None else generation.policy_of(request.sandbox)
        if policy is None:
            return await self.refuse(client, request, Reason.SANDBOX_UNKNOWN)
        decisions = decide_connect(policy, request)
        denied = decisions.denied
        if denied is not None:
            return await self._refuse(client, request, denied, None)
        presentable = self.presentable is None or self.presentable(request.host.text)
        destination = decisions.destination(policy, request, presentable=presentable)
        opens = destination.https and destination.tls is not TlsMode.TUNNEL
        # At port 80 no TLS is to be expected; should it come all the same, its hello is refused.
        if opens and not destination.presentable and request.port != _PLAIN_PORT:
            return await self.refuse(client, request, Reason.CA_CONSTRAINED)
        if destination.https and destination.tls is TlsMode.TUNNEL:
            # The tunnel's addresses are judged now, while a readable 403 can still be given.
            outcome = await permit(generation, self.resolver, self.own, request, None)
            if isinstance(outcome, BodyWanted):
                raise LookupError("a body is asked for where none can be read")
            if isinstance(outcome, Refused):
                return await self._refuse(client, request, outcome, None)
        return destination

    async def _admit(self, asked: Asked) -> Exchange | Denial | BodyWanted:  # noqa: PLR0911 -- one return a step
        client, request, sni = asked.client, asked.request, asked.sni
        if self.draining:
            return await self.refuse(client, request, Reason.SHUTTING_DOWN, sni=sni)
        generation = self.generation
        since = 0.0 if self._expiring is None else wall_clock()
        outcome = await permit(
            generation, self.resolver, self.own, request, asked.peer, reads_body=asked.reads_body, body=asked.body
        )
        if not isinstance(outcome, Permit):
            return outcome if isinstance(outcome, BodyWanted) else await self._refuse(client, request, outcome, sni)
        if asked.book.full:
            return await self.refuse(client, request, Reason.LIMIT_CONNECTIONS, sni=sni)
        exchange = self._exchange(asked, outcome, generation)
        if outcome.decision.limits:
            over = await self.quotas.hold(client.sandbox, outcome.decision.limits)
            if isinstance(over, Over):
                return await self._refuse(client, request, refused_over(over, outcome, generation), sni)
            exchange.quota = over
        told = outcome.told or outcome.decision
        if self.way is not None:
            told = self.way.told(told, outcome.request, outcome.addresses)
        event = self.recorder.event(
            exchange.id, (client, request, sni), told, generation.digest, outcome, sent=outcome.request
        )
        if not await self._recorded(exchange, event):
            return Denial(exchange.id, Reason.AUDIT_UNAVAILABLE, host=request.host.text, port=request.port)
        self.open[exchange.id] = exchange
        if self._expiring is not None:
            self._expiring.look(since)
        if generation is not self.generation and not still_allowed(exchange, self.generation):
            # A reload came while this was being judged; it could not be cut yet, so it ends here.
            exchange.finish(f"{RELOADED}: {NOW_DENIED}")
            return Denial(exchange.id, Reason.HOST_NOT_ALLOWED, host=request.host.text, port=request.port)
        expires = time.monotonic() + GRANT_SECONDS
        sent = outcome.request
        raw = sent.protocol is Protocol.TCP
        asked.book.add(
            Grant(exchange.id, sent.host.text, sent.port, is_secure(sent), outcome.addresses, expires=expires, raw=raw)
        )
        return exchange

    async def _recorded(self, exchange: Exchange, event: DecisionEvent) -> bool:
        """Record a decision; what is not recorded never goes on, and holds nothing."""
        recorded = False
        try:
            recorded = await self.recorder.record(event)
            if recorded and self.recorder.commit is not None:
                recorded = False
                recorded = await self.recorder.committed(event)
        finally:
            if not recorded:
                exchange.release()
        return recorded

    def _exchange(self, asked: Asked, permitted: Permit, generation: Generation) -> Exchange:
        request, seeker = permitted.request, generation.credentials.seeker
        return Exchange(
            id=new_decision_id(),
            client=asked.client,
            request=request,
            asked=None if request is asked.request else asked.request,
            decision=permitted.decision,
            rendered=permitted.rendered,
            generation=generation,
            on_finish=self._finished,
            cut=asked.cut,
            addresses=permitted.addresses,
            address=permitted.address,
            look=None if seeker is None or asked.body is not None or request.method is None else BodyLook(seeker),
        )

    def _refuse(self, client: Client, request: Request, refused: Refused, sni: str | None) -> Awaitable[Denial]:
        return record_refusal(self.generation, self.recorder, (client, request, sni), refused)

    async def _internal_error(self, error: Exception, client: Client, request: Request, sni: str | None) -> Denial:
        logger.error("a request could not be judged", exc_info=error)
        try:
            return await within(self.limits.judge_seconds, self.refuse(client, request, Reason.INTERNAL_ERROR, sni=sni))
        except Exception:
            logger.exception("a refusal could not be recorded")
            return Denial(new_decision_id(), Reason.INTERNAL_ERROR)

    def _finished(self, exchange: Exchange, outcome: OutcomeEvent) -> None:
        self.open.pop(exchange.id, None)
        if not self.recorder.audit.offer(outcome):
            logger.error("the outcome of decision %s could not be recorded", exchange.id)
