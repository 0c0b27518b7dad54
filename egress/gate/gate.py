"""The gate: every request and tunnel of every lane passes these steps, in this order, and each can only narrow.

1. name      no: refused before any DNS. yes or maybe: only the client's own handshake goes on
2. request   policy, then the secrets that the rule injects
3. address   resolve, drop what is ours or not permitted; none left: refused
4. record    the decision is queued for the audit, or the request is refused
5. grant     one connection to one of the addresses judged

A step that raises ends in a refusal with reason `internal-error`: each public method returns a `Denial` as a value.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from egress.audit import DecisionEvent, OutcomeEvent, mask_query
from egress.credentials import Rendered
from egress.gate.denial import Denial
from egress.gate.dial import DialFailure, Dialled, dial
from egress.gate.exchange import Client, Exchange
from egress.gate.grant import GRANT_SECONDS, Grant, GrantBook
from egress.gate.ids import new_decision_id
from egress.gate.own import OwnListeners
from egress.policy import Certainty, Decision, Host, NameDecision, Reason, Refusal, Request, Verdict
from egress.policy import Protocol as Carried
from egress.policy import TlsMode

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.gate.generation import Generation
    from egress.gate.resolver import Resolver
    from egress.policy import Address

logger = logging.getLogger(__name__)

_RECORD_PAUSE_SECONDS = 0.02

# The outcome of what a reload cut.
RELOADED = "policy-reload"


class AuditSink(Protocol):
    """What the gate needs of the audit: a place to queue an event without ever blocking."""

    def offer(self, event: DecisionEvent | OutcomeEvent) -> bool:
        """False if the event was not queued."""


@dataclass(frozen=True, slots=True)
class GateLimits:
    """Seconds that a step may take."""

    connect_seconds: float = 10.0
    record_seconds: float = 2.0
    judge_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Destination:
    """A destination that a client may go on towards, and what it may turn out to carry.

    `opaque` is True if raw TCP is allowed by a rule; `tls` says whether a TLS hello is passed unopened or opened.
    """

    host: Host
    port: int
    tls: TlsMode
    https: bool
    http: bool
    opaque: bool


@dataclass(slots=True)
class _Refused:
    """A refusal on its way to becoming a recorded `Denial`."""

    reason: Reason
    detail: str
    decision: Decision | None = None


@dataclass(slots=True)
class Gate:
    """One gate a process. All methods run on the event loop's thread."""

    generation: Generation
    resolver: Resolver
    audit: AuditSink
    lane: str
    limits: GateLimits = field(default_factory=GateLimits)
    own: OwnListeners = field(default_factory=OwnListeners)
    show_query_values: bool = False
    draining: bool = False
    open: dict[str, Exchange] = field(default_factory=dict)

    # 1. name

    async def judge_connect(self, client: Client, host: Host, port: int) -> Destination | Denial:
        """May a client go on towards this destination? No name is resolved unless the tunnel stays unopened."""
        request = Request(client.sandbox, Carried.HTTPS, host, port)
        try:
            async with asyncio.timeout(self.limits.judge_seconds):
                return await self._judge_connect(client, request)
        except Exception:
            return await self._internal_error(client, request)

    async def _judge_connect(self, client: Client, request: Request) -> Destination | Denial:
        if self.draining:
            return await self.refuse(client, request, Reason.SHUTTING_DOWN)
        policy = self.generation.policy
        https = policy.decide_name(request)
        http = policy.decide_name(_as(request, Carried.HTTP))
        tcp = policy.decide_request(_as(request, Carried.TCP))
        if https.certainty is Certainty.NO and http.certainty is Certainty.NO and not tcp.allowed:
            refused = _most_helpful(https, http, tcp)
            return await self._refuse_decided(client, request, refused)
        destination = Destination(
            request.host,
            request.port,
            https.tls,
            https=https.certainty is not Certainty.NO,
            http=http.certainty is not Certainty.NO,
            opaque=tcp.allowed,
        )
        if destination.https and https.tls is TlsMode.TUNNEL:
            # The tunnel's addresses are judged now, while a readable 403 can still be given.
            outcome = await self._permit(request, None)
            if isinstance(outcome, _Refused):
                return await self._refuse_decided(client, request, outcome)
        return destination

    # 2 to 5. request, address, record, grant

    async def admit(
        self,
        client: Client,
        request: Request,
        *,
        book: GrantBook,
        cut: Callable[[str], None],
        sni: str | None = None,
        peer: Address | None = None,
    ) -> Exchange | Denial:
        """Judge a request or a tunnel; an `Exchange` may go on, and `book` then holds its grant.

        `peer` is the address of an open connection that will carry it, which is then judged instead of fresh
        answers. `cut` ends the connection with a reason code, for a reload that denies it.
        """
        try:
            async with asyncio.timeout(self.limits.judge_seconds):
                return await self._admit(client, request, book, cut, sni, peer)
        except Exception:
            return await self._internal_error(client, request, sni)

    async def _admit(
        self,
        client: Client,
        request: Request,
        book: GrantBook,
        cut: Callable[[str], None],
        sni: str | None,
        peer: Address | None,
    ) -> Exchange | Denial:
        if self.draining:
            return await self.refuse(client, request, Reason.SHUTTING_DOWN, sni=sni)
        generation = self.generation
        outcome = await self._permit(request, peer)
        if isinstance(outcome, _Refused):
            return await self._refuse_decided(client, request, outcome, sni)
        exchange = Exchange(
            id=new_decision_id(),
            client=client,
            request=request,
            decision=outcome.decision,
            rendered=outcome.rendered,
            generation=generation,
            on_finish=self._finished,
            cut=cut,
            addresses=outcome.addresses,
            address=str(outcome.addresses[0]),
        )
        secure = request.protocol in (Carried.HTTPS, Carried.WSS)
        grant = Grant(
            exchange.id,
            request.host.text,
            request.port,
            secure,
            outcome.addresses,
            time.monotonic() + GRANT_SECONDS,
        )
        if not await self._record(self._event(exchange.id, client, request, outcome.decision, sni, outcome)):
            return Denial(exchange.id, Reason.AUDIT_UNAVAILABLE, host=request.host.text, port=request.port)
        self.open[exchange.id] = exchange
        if not book.add(grant):
            exchange.finish(Reason.LIMIT_CONNECTIONS.value)
            return Denial(exchange.id, Reason.LIMIT_CONNECTIONS, host=request.host.text, port=request.port)
        return exchange

    async def _permit(self, request: Request, peer: Address | None) -> _Permit | _Refused:
        generation = self.generation
        decision = generation.policy.decide_request(request)
        if not decision.allowed:
            return _Refused(decision.reason, decision.detail, decision)
        secure = request.protocol in (Carried.HTTPS, Carried.WSS)
        rendered = generation.credentials.render(decision.inject, request, verified_tls=secure)
        if isinstance(rendered, Refusal):
            return _Refused(rendered.reason, rendered.detail, decision)
        if request.host.address is not None:
            candidates: tuple[Address, ...] = (request.host.address,)
        elif peer is not None:
            candidates = (peer,)
        else:
            answer = await self.resolver.resolve(request.host.text)
            if not answer.addresses:
                return _Refused(Reason.NAME_NOT_RESOLVED, f"{request.host.text}: {answer.error}", decision)
            candidates = answer.addresses
        judged = generation.policy.decide_address(request, decision, candidates)
        if not judged.addresses:
            return _Refused(judged.decision.reason, judged.decision.detail, judged.decision)
        foreign = tuple(address for address in judged.addresses if not self.own.includes(address, request.port))
        if not foreign:
            return _Refused(Reason.ADDRESS_IS_PROXY, "", decision)
        return _Permit(decision, rendered, foreign)

    async def dial(self, book: GrantBook, host: str, port: int, *, tls: bool) -> Dialled | DialFailure:
        """Spend a grant on a connection. Without one: a failure, and nothing is sent."""
        grant = book.spend(host, port, tls=tls)
        if grant is None:  # INVARIANT no-grant-no-connect
            logger.warning("refused to dial %s:%d: no grant", host, port)
            return DialFailure("no grant for this destination")
        outcome = await dial(grant, timeout_seconds=self.limits.connect_seconds)
        exchange = self.open.get(grant.decision_id)
        if exchange is not None and isinstance(outcome, Dialled):
            exchange.address = str(outcome.address)
        return outcome

    def ready(self, exchange: Exchange, peer: Address, *, verified_tls: bool) -> str:
        """Judge the connection that is about to carry the request; the empty string lets it go on.

        A pooled connection's address is judged again at each use, and a secret leaves only over verified TLS.
        """
        judged = exchange.generation.policy.decide_address(exchange.request, exchange.decision, [peer])
        if exchange.request.host.address is None and not judged.addresses:
            return judged.decision.detail or "the connection's address is not permitted"
        if exchange.request.host.address is not None and peer != exchange.request.host.address:
            return "the connection goes to another address than the one judged"
        secure = exchange.request.protocol in (Carried.HTTPS, Carried.WSS)
        if secure and not verified_tls:
            return "the server's certificate was not verified"
        exchange.address = str(peer)
        return ""

    # refusals

    async def refuse(
        self, client: Client, request: Request, reason: Reason, detail: str = "", *, sni: str | None = None
    ) -> Denial:
        """Refuse for a reason that no rule gave, and record it."""
        return await self._refuse_decided(client, request, _Refused(reason, detail), sni)

    async def refuse_unread(self, client: Client, reason: Reason, detail: str) -> Denial:
        """Refuse what could not be read as a request at all, and record it."""
        return await self.refuse(client, _unread(client), reason, detail)

    async def _refuse_decided(
        self, client: Client, request: Request, refused: _Refused, sni: str | None = None
    ) -> Denial:
        decision_id = new_decision_id()
        decision = refused.decision
        verdict = Verdict.ASK if decision is not None and decision.verdict is Verdict.ASK else Verdict.DENY
        rule = None if decision is None else decision.rule
        denied = Decision(verdict, refused.reason, refused.detail, () if decision is None else decision.says, rule)
        denial = Denial(decision_id, refused.reason, refused.detail, verdict, rule, request.host.text, request.port)
        if await self._record(self._event(decision_id, client, request, denied, sni, None)):
            self.audit.offer(
                OutcomeEvent(id=decision_id, time_us=time.time_ns() // 1000, status=denial.status, duration_us=0)
            )
        else:
            logger.error("a denial could not be recorded: %s", refused.reason.value)
        return denial

    async def _internal_error(self, client: Client, request: Request, sni: str | None = None) -> Denial:
        logger.exception("a request could not be judged")
        try:
            return await self.refuse(client, request, Reason.INTERNAL_ERROR, sni=sni)
        except Exception:
            logger.exception("a refusal could not be recorded")
            return Denial(new_decision_id(), Reason.INTERNAL_ERROR)

    # records

    async def _record(self, event: DecisionEvent) -> bool:
        """Queue a decision; while the audit cannot take it the traffic waits, and is then refused."""
        deadline = time.monotonic() + self.limits.record_seconds
        while not self.audit.offer(event):
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_RECORD_PAUSE_SECONDS)
        return True

    def _finished(self, exchange: Exchange, outcome: OutcomeEvent) -> None:
        self.open.pop(exchange.id, None)
        if not self.audit.offer(outcome):
            logger.error("the outcome of decision %s could not be recorded", exchange.id)

    def _event(
        self,
        decision_id: str,
        client: Client,
        request: Request,
        decision: Decision,
        sni: str | None,
        permit: _Permit | None,
    ) -> DecisionEvent:
        rule = decision.rule
        query = request.query
        if query is not None and not self.show_query_values:
            query = mask_query(query)
        return DecisionEvent(
            id=decision_id,
            time_us=time.time_ns() // 1000,
            sandbox=client.sandbox,
            client=client.peer,
            verdict=decision.verdict.value,
            reason=decision.reason.value,
            scope=None if rule is None else rule.scope.value,
            rule=None if rule is None else rule.name,
            file=None if rule is None else rule.file,
            line=None if rule is None else rule.line,
            policy_hash=self.generation.policy.digest,
            method=request.method,
            scheme=_scheme(request.protocol),
            host=request.host.text,
            port=request.port or None,
            path=request.path,
            query=query,
            sni=sni,
            protocol=request.protocol.value,
            lane=self.lane,
            address=None if permit is None else str(permit.addresses[0]),
            secrets=() if permit is None else permit.rendered.names,
            detail=decision.detail or None,
        )

    # reload

    def swap(self, generation: Generation) -> int:
        """Judge by a new generation from now on, and cut what it denies. Returns how many were cut."""
        self.generation = generation
        doomed = [exchange for exchange in self.open.values() if not self._still_allowed(exchange)]
        for exchange in doomed:
            exchange.finish(f"{RELOADED}: the policy was reloaded and denies it")
            exchange.cut(RELOADED)
        return len(doomed)

    def _still_allowed(self, exchange: Exchange) -> bool:
        policy = self.generation.policy
        decision = policy.decide_request(exchange.request)
        if not decision.allowed:
            return False
        return bool(policy.decide_address(exchange.request, decision, exchange.addresses).addresses)


@dataclass(frozen=True, slots=True)
class _Permit:
    """What the first three steps gave: the decision, the headers to inject, and the addresses that may be dialled."""

    decision: Decision
    rendered: Rendered
    addresses: tuple[Address, ...]


def _as(request: Request, protocol: Carried) -> Request:
    return Request(request.sandbox, protocol, request.host, request.port)


def _unread(client: Client) -> Request:
    return Request(client.sandbox, Carried.TCP, Host(""), 0)


def _scheme(protocol: Carried) -> str | None:
    return None if protocol is Carried.TCP else {"ws": "http", "wss": "https"}.get(protocol.value, protocol.value)


def _most_helpful(https: NameDecision, http: NameDecision, tcp: Decision) -> _Refused:
    """Of three denials of one destination, the one that tells the user most: a rule's word before none."""
    candidates = [https.decision, http.decision, tcp]
    best = next((decision for decision in candidates if decision.rule is not None), https.decision)
    return _Refused(best.reason, best.detail, best)
