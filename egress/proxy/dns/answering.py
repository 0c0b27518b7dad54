"""The verdict on a DNS question, and its answer.

In this order, and the first that speaks ends it:

1. nobody's question, one too many, or one that is none: refused
2. types that are never answered: whole zones, everything at once, and what only tunnels ask for
3. `use-application-dns.net`: it does not exist, so that browsers leave DNS to us
4. the name of an address: what we gave out, as far as the asker may ask for that name; else it does not exist
5. a name that no rule could allow: it does not exist, and the extended error says why (RFC 8914)
6. addresses: ours for the name, or those of its own that may be reached; of services (HTTPS, SVCB) none, since they
   would tell the way around us
7. other types: refused, unless a rule with `protocol: dns` allows the name; then asked for anew, and told anew

INVARIANT no-grant-no-connect: no question leaves for a name that no rule could allow, and none leaves as it came.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Protocol

import dns.exception
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset

from egress.config import DNS_PORT, DnsAnswers
from egress.gate.ids import new_decision_id
from egress.gate.resolver import NO_ADDRESS, NO_NAME
from egress.gate.within import within
from egress.policy import (
    Decision,
    Host,
    Reason,
    Refusal,
    Request,
    Verdict,
    decide_question,
    parse_host,
    question_addresses,
)
from egress.policy import Protocol as Carried
from egress.proxy.dns import message
from egress.proxy.dns.ledger import QuestionLedger
from egress.proxy.dns.tunnelling import QueryLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.audit import DecisionEvent
    from egress.config import DnsConfig
    from egress.gate.exchange import Client
    from egress.gate.gate import Gate
    from egress.gate.resolver import Records, Servers
    from egress.policy import Address, Policy, QuestionDecision
    from egress.proxy.dns.message import Asked, Malformed

logger = logging.getLogger(__name__)

CANARY: Final = "use-application-dns.net"
_VERSIONS: Final = {int(dns.rdatatype.A): 4, int(dns.rdatatype.AAAA): 6}
_OF_SERVICES: Final = frozenset({int(dns.rdatatype.HTTPS), int(dns.rdatatype.SVCB)})
_NULL: Final = int(dns.rdatatype.NULL)
_OPT: Final = int(dns.rdatatype.OPT)
# Questions, not records: AXFR, IXFR, ANY, TKEY, TSIG and their like (RFC 6895, section 3.1).
_META: Final = range(128, 256)
# Extended errors (RFC 8914, section 4).
_OTHER, _BLOCKED, _PROHIBITED, _UNREACHABLE = 0, 15, 18, 22
_UNDER_WAY_AT_MOST: Final = 256
_ADDRESSES_AT_MOST: Final = 16
_SLACK_SECONDS: Final = 1.0


class Lending(Protocol):
    """What is asked of whoever has the addresses and the other records."""

    async def name_of(self, address: Address) -> str | None:
        """The one name that a synthetic address stands for; None: none. May raise: then nothing is told."""

    async def lend(self, name: str, version: int, sandbox: str) -> Address | None:
        """The address that stands for a canonical name; None: there is none to be had. May raise."""

    async def records(self, name: str, kind: int, servers: Servers) -> Records:
        """Records of a type of a canonical name, asked for anew, of the policy's servers if it has any. May raise."""


# Made anew for each question, so not frozen. Nobody changes one.
@dataclass(slots=True)
class _Verdict:
    """What is recorded, and what is answered. `asks`: the answer is still to be asked for, once this is recorded."""

    decision: Decision
    rcode: int
    host: str = ""
    records: tuple[dns.rrset.RRset, ...] = ()
    code: int | None = None
    address: str | None = None
    error: str | None = None
    asks: bool = False
    servers: Servers = ()


class Answering:
    """The answers of one process. `lending`: who has the addresses that are given out, and the other records."""

    def __init__(
        self, gate: Gate, config: DnsConfig, lending: Lending, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._gate = gate
        self._config = config
        self._lending = lending
        self._clock = clock
        self._limits = QueryLimits(config.limits)
        self._under_way: Counter[str] = Counter()
        self.ledger = QuestionLedger(gate.recorder, clock)

    async def answer(self, data: bytes, client: Client, *, stream: bool) -> bytes | None:
        """The answer to what came from a client; None: there is none to give. Never raises but to be cancelled."""
        asked = message.read(data)
        if asked is None:
            return None
        self._under_way[client.sandbox] += 1
        try:
            # Waits for a name, for an address, and for the audit.
            seconds = self._gate.limits.judge_seconds + _SLACK_SECONDS
            return await within(seconds, self._answer(asked, client, stream=stream))
        except Exception:
            logger.exception("a DNS question could not be answered")
            return await self._failed(asked, client, stream=stream)
        finally:
            self._under_way[client.sandbox] -= 1
            if not self._under_way[client.sandbox]:
                del self._under_way[client.sandbox]

    async def _answer(self, asked: Asked | Malformed, client: Client, *, stream: bool) -> bytes | None:
        if isinstance(asked, message.Malformed):
            over = self._limits.asks(client.sandbox, self._clock())
            reason = Reason.LIMIT_REQUESTS if over else Reason.REQUEST_MALFORMED
            await self._record(None, client, _refused(reason, over or f"The DNS message is {asked.detail}."))
            return asked.answer
        verdict = await self._judge(asked, client)
        told = await self._record(asked, client, verdict)
        if told is None:
            verdict = _Verdict(verdict.decision, dns.rcode.SERVFAIL, code=_OTHER)
            return message.write(
                asked, verdict.rcode, (), message.Extended(_OTHER, Reason.AUDIT_UNAVAILABLE), stream=stream
            )
        if verdict.asks:
            verdict = await self._other_records(asked, verdict)
        # Whoever is nobody learns nothing, and gets no more back than it sent: its address may be another's.
        text = f"{verdict.error or verdict.decision.reason}; decision {told}"
        nobody = self._is_nobody(client)
        extended = None if verdict.code is None or nobody else message.Extended(verdict.code, text)
        return message.write(asked, verdict.rcode, verdict.records, extended, stream=stream)

    async def _failed(self, asked: Asked | Malformed, client: Client, *, stream: bool) -> bytes | None:
        """INVARIANT fail-closed: a fault answers nothing but that there was one, and leaves a row."""
        if isinstance(asked, message.Malformed):
            return asked.answer
        verdict = _refused(Reason.INTERNAL_ERROR, "", dns.rcode.SERVFAIL, code=_OTHER)
        try:
            await within(self._gate.limits.judge_seconds, self._record(asked, client, verdict))
        except Exception:
            logger.exception("a refusal could not be recorded")
        extended = None if self._is_nobody(client) else message.Extended(_OTHER, Reason.INTERNAL_ERROR)
        return message.write(asked, verdict.rcode, (), extended, stream=stream)

    def _is_nobody(self, client: Client) -> bool:
        return self._gate.generation.policy_of(client.sandbox) is None

    # the verdict

    async def _judge(self, asked: Asked, client: Client) -> _Verdict:
        host = _host_of(asked)
        verdict = self._first(asked, client)
        if verdict is None and host is None:
            verdict = _refused(Reason.HOST_INVALID, "The question is for no host's name.", dns.rcode.NXDOMAIN, _BLOCKED)
        if verdict is None and host is not None:
            verdict = await self._judge_name(asked, client, host)
        if verdict is None:  # pragma: no cover - one of the two above spoke
            raise LookupError("no verdict")
        return replace(verdict, host=_shown(asked) if host is None else host.text)

    def _first(self, asked: Asked, client: Client) -> _Verdict | None:
        """What is refused whatever the name."""
        generation = self._gate.generation
        if self._gate.draining:
            return _refused(Reason.SHUTTING_DOWN, "", dns.rcode.SERVFAIL, code=_OTHER)
        over = self._limits.asks(client.sandbox, self._clock())
        if not over and self._under_way[client.sandbox] > _UNDER_WAY_AT_MOST:
            over = f"The sandbox waits for the answers to {_UNDER_WAY_AT_MOST} DNS questions already."
        if over:
            return _refused(Reason.LIMIT_REQUESTS, over)
        if generation.policy_of(client.sandbox) is None:
            return _refused(Reason.SANDBOX_UNKNOWN, "", code=_PROHIBITED)
        if message.bad_version(asked):
            return _refused(Reason.REQUEST_MALFORMED, "The question is of a version of EDNS unknown.", _BADVERS, None)
        if not asked.of_internet or asked.kind in {0, _NULL, _OPT} or asked.kind in _META:
            return _refused(Reason.PROTOCOL_NOT_ALLOWED, "DNS questions of this type are never answered.")
        return None

    async def _judge_name(self, asked: Asked, client: Client, host: Host) -> _Verdict:  # noqa: PLR0911 -- one a case
        policy = self._gate.generation.policy_of(client.sandbox)
        if policy is None:
            return _refused(Reason.SANDBOX_UNKNOWN, "", code=_PROHIBITED)
        if host.text == CANARY or host.text.endswith(f".{CANARY}"):
            detail = "Browsers ask for this name to learn whether they may resolve names elsewhere; they may not."
            return _refused(Reason.HOST_NOT_ALLOWED, detail, dns.rcode.NXDOMAIN)
        if host.text.endswith(".arpa") and asked.kind == dns.rdatatype.PTR:
            found = await self._name_of(asked, client, policy)
            if found is not None:
                return found
        question = decide_question(policy, client.sandbox, host)
        if not question.decision.allowed:
            return _Verdict(question.decision, dns.rcode.NXDOMAIN, code=_BLOCKED)
        over = self._limits.allows(client.sandbox, host.text, self._clock())
        if over:
            return _refused(Reason.LIMIT_REQUESTS, over)
        if asked.kind in _VERSIONS:
            return await self._addresses(asked, client, policy, question)
        if asked.kind in _OF_SERVICES:
            return _Verdict(question.decision, dns.rcode.NOERROR)
        if not question.stated:
            return _Verdict(question.further, dns.rcode.REFUSED, code=_BLOCKED)
        return _Verdict(question.further, dns.rcode.NOERROR, asks=True, servers=policy.resolvers)

    async def _name_of(self, asked: Asked, client: Client, policy: Policy) -> _Verdict | None:
        """The name of an address that we gave out; None: it is none of ours, or its name is not the asker's to ask."""
        given = self._gate.given
        try:
            address = ip_address(dns.reversename.to_address(asked.name))
        except (dns.exception.DNSException, ValueError):
            return None
        if given is None or not given.is_synthetic(address):
            return None
        name = await given.name_of(address)
        host = None if name is None else parse_host(name)
        if name is None or host is None or isinstance(host, Refusal):
            return None
        question = decide_question(policy, client.sandbox, host)
        if not question.decision.allowed:
            return None
        record = message.one(asked, "PTR", self._config.ttl, f"{name}.")
        return _Verdict(question.decision, dns.rcode.NOERROR, records=(record,), address=str(address))

    # what is told

    async def _addresses(self, asked: Asked, client: Client, policy: Policy, question: QuestionDecision) -> _Verdict:
        name = question.request.host.text
        # Asked for in both modes: whether a name exists is told as it is.
        found = await self._gate.resolver.resolve(name, policy.resolvers)
        if not found.addresses:
            return _unresolved(question.decision, found.error)
        version = _VERSIONS[asked.kind]
        if self._config.answers is DnsAnswers.SYNTHETIC:
            return await self._lent(asked, client, question, version)
        told = question_addresses(policy, question, found.addresses)
        if not told.addresses:
            denial = told.decision
            if denial.allowed:
                denial = _denial(Reason.ADDRESS_NOT_PUBLIC, f"None of the addresses of `{name}` may be reached.")
            return _Verdict(denial, dns.rcode.NXDOMAIN, code=_BLOCKED)
        ttl = max(min(int(found.ttl), self._config.ttl), 1)
        texts = [str(address) for address in told.addresses if address.version == version][:_ADDRESSES_AT_MOST]
        return _with(asked, question.decision, ttl, texts)

    async def _lent(self, asked: Asked, client: Client, question: QuestionDecision, version: int) -> _Verdict:
        if not any(network.version == version for network in self._config.ranges):
            return _Verdict(question.decision, dns.rcode.NOERROR)
        address = await self._lending.lend(question.request.host.text, version, client.sandbox)
        if address is None:
            detail = "All addresses that stand for names are in use, or all that one sandbox may have."
            return _refused(Reason.LIMIT_REQUESTS, detail, dns.rcode.SERVFAIL, _OTHER)
        return _with(asked, question.decision, self._config.ttl, [str(address)])

    async def _other_records(self, asked: Asked, verdict: _Verdict) -> _Verdict:
        found = await self._lending.records(verdict.host, asked.kind, verdict.servers)
        if found.error:
            return _unresolved(verdict.decision, found.error)
        kinds = {asked.kind, int(dns.rdatatype.CNAME)}
        ttl = max(min(int(found.ttl), self._config.ttl), 1)
        records = message.rrsets([record for record in found.records if record[1] in kinds], ttl, asked)
        return replace(verdict, records=tuple(records))

    # the record

    async def _record(self, asked: Asked | None, client: Client, verdict: _Verdict) -> str | None:
        """Leave a row, or count a repeat of one. Its id; None: it could not, and what was allowed must not happen."""
        event = self._event(asked, client, verdict)
        known = self.ledger.repeats(event, verdict.error)
        if known:
            return known
        if await self.ledger.record(event, verdict.error):
            return event.id
        if verdict.decision.allowed:
            return None
        logger.error("a denial could not be recorded: %s", verdict.decision.reason.value)
        return event.id

    def _event(self, asked: Asked | None, client: Client, verdict: _Verdict) -> DecisionEvent:
        kind = None if asked is None else asked.kind_text
        request = Request(client.sandbox, Carried.DNS, Host(verdict.host), DNS_PORT, kind)
        digest = self._gate.generation.digest
        event = self._gate.recorder.event(new_decision_id(), (client, request, None), verdict.decision, digest)
        event.address = verdict.address
        return event


_BADVERS: Final = int(dns.rcode.BADVERS)


def _host_of(asked: Asked) -> Host | None:
    host = parse_host(asked.name.to_text(omit_final_dot=True))
    return None if isinstance(host, Refusal) or host.address is not None else host


def _shown(asked: Asked) -> str:
    """A name that is no host's, in printable ASCII (RFC 1035, section 5.1)."""
    return asked.name.to_text(omit_final_dot=True).lower()


def _refused(reason: Reason, detail: str, rcode: int = dns.rcode.REFUSED, code: int | None = _BLOCKED) -> _Verdict:
    return _Verdict(_denial(reason, detail), rcode, code=code)


def _denial(reason: Reason, detail: str) -> Decision:
    return Decision(Verdict.DENY, reason, detail, ())


def _unresolved(decision: Decision, error: str) -> _Verdict:
    """The policy allows the name, and there is nothing to tell of it."""
    told = f"{Reason.NAME_NOT_RESOLVED.value}: {error}"
    if error == NO_NAME:
        return _Verdict(decision, dns.rcode.NXDOMAIN, error=told)
    if error == NO_ADDRESS:
        return _Verdict(decision, dns.rcode.NOERROR, error=told)
    return _Verdict(decision, dns.rcode.SERVFAIL, code=_UNREACHABLE, error=told)


def _with(asked: Asked, decision: Decision, ttl: int, texts: list[str]) -> _Verdict:
    if not texts:
        return _Verdict(decision, dns.rcode.NOERROR)
    record = message.one(asked, asked.kind_text, ttl, *texts)
    return _Verdict(decision, dns.rcode.NOERROR, records=(record,), address=texts[0])
