"""Explains a decision: what the policy says to a request, each scope's say, and what would be done to it.

The order is the proxy's own: the URL, the name, the request, once more what a rule rewrites it to, the secrets'
bindings, the addresses; each step can only narrow. Nothing is resolved, nothing is read, no secret's value is known.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from egress.config import allows
from egress.policy import (
    OVER_TLS,
    TEXTS,
    WITHOUT_REQUEST,
    Certainty,
    Decision,
    Protocol,
    Reason,
    Refusal,
    Request,
    TlsMode,
    Verdict,
    decide_question,
    parse_authority,
    read_body,
    signed_headers,
)
from egress.review.destination import Destination, parse_url
from egress.review.explanation import AddressJudgement, Explanation
from egress.review.lane import lane_at_denial, lane_of, lane_of_tcp
from egress.review.tried import tried

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.config import LoadedPolicy
    from egress.policy import Address, Lane, Policy, ReasonText
    from egress.review.question import Question


_ADDRESSES: Final = "addresses (A, AAAA) are answered all the same: a rule could let the name be connected to"


def explain(
    question: Question | Refusal, loaded: LoadedPolicy, *, pins: Mapping[str, tuple[Address, ...]] | None = None
) -> Explanation:
    """The policy's answer to one question. `pins` are the names that `--resolve` answers for. Never raises."""
    if isinstance(question, Refusal):
        return _refused(question)
    try:
        answer = _explain(question, loaded, pins or {})
        return (
            answer
            if answer.request is None
            else replace(answer, tried=tried(loaded.of(question.sandbox), answer.request))
        )
    except Exception:  # noqa: BLE001  INVARIANT fail-closed: what cannot be judged is denied
        return _refused(Refusal(Reason.INTERNAL_ERROR, "the request could not be judged"))


def judge(request: Request, loaded: LoadedPolicy, addresses: tuple[Address, ...] = ()) -> Explanation:
    """The policy's answer to a request that is read already: name, request, bindings, addresses. Never raises."""
    try:
        policy = loaded.of(request.sandbox)
        answer = _follow(_judge(request, policy), policy)
        if answer.allowed:
            answer = _check_secrets(answer, loaded)
        sent = answer.sent or request
        if answer.allowed and (addresses or sent.host.address is not None):
            answer = _check_addresses(answer, policy, addresses)
        return _settled(answer)
    except Exception:  # noqa: BLE001  INVARIANT fail-closed: what cannot be judged is denied
        return _refused(Refusal(Reason.INTERNAL_ERROR, "the request could not be judged"))


def explain_reason(code: str) -> tuple[Reason, ReasonText] | None:
    """A reason code and its text, if `code` is one."""
    return (Reason(code), TEXTS[Reason(code)]) if code in Reason else None


def _explain(question: Question, loaded: LoadedPolicy, pins: Mapping[str, tuple[Address, ...]]) -> Explanation:
    destination = parse_url(question.url)
    if isinstance(destination, Refusal):
        return _refused(destination)
    policy = loaded.of(question.sandbox)
    request = _request(question, destination)
    mismatch = _check_host(request)
    if mismatch is not None:
        return _settled(replace(_refused(mismatch), request=request, lane=_judge(request, policy).lane))
    answer = _judge(request, policy, bare=destination.bare)
    if destination.bare and not answer.allowed:
        # A CONNECT does not say what it will carry; raw TCP is allowed by rules of its own.
        raw = _judge(replace(request, protocol=Protocol.TCP), policy, bare=True)
        answer = raw if raw.allowed else answer
    if question.ignored:
        keys = ", ".join(f"`{key[:40]}`" for key in question.ignored[:10])
        answer = replace(answer, notes=(*answer.notes, f"ignored: {keys}"))
    answer = _follow(answer, policy)
    if answer.reason is Reason.BODY_UNREADABLE and question.body is None:
        answer = replace(answer, notes=(*answer.notes, "no body was given (try --method POST --body FILE)"))
    if answer.allowed:
        answer = _check_secrets(answer, loaded)
    if answer.allowed:
        reached = destination.host if answer.sent is None else answer.sent.host
        addresses = question.addresses or pins.get(reached.text, ())
        answer = _check_addresses(answer, policy, addresses)
    return _settled(answer)


def _request(question: Question, destination: Destination) -> Request:
    protocol = destination.protocol
    usual = "POST" if protocol is Protocol.GRPC else "GET"
    method = usual if question.method is None else question.method
    if protocol is Protocol.GRPC and method != usual:
        # A request that says that it is gRPC, and is none.
        protocol = Protocol.HTTPS
    headers = question.headers
    if question.body is not None and all(name.lower() != "content-type" for name, _ in headers):
        headers = (*headers, ("Content-Type", "application/json"))
    request = Request(
        sandbox=question.sandbox,
        protocol=protocol,
        host=destination.host,
        port=destination.port,
        method=None if protocol in WITHOUT_REQUEST else method,
        path=destination.path,
        query=destination.query,
        headers=headers,
    )
    return replace(request, body=read_body(request, question.body or b"")) if request.method is not None else request


def _check_host(request: Request) -> Refusal | None:
    """INVARIANT one-name: a Host that the question gives is the URL's, once."""
    hosts = [value for name, value in request.headers if name.lower() == "host"]
    if not hosts:
        return None
    if len(hosts) > 1:
        return Refusal(Reason.REQUEST_MALFORMED, "the request has more than one Host")
    named = parse_authority(hosts[0], 443 if request.protocol in OVER_TLS else 80)
    if isinstance(named, Refusal):
        return named
    if named != (request.host, request.port):
        return Refusal(Reason.NAME_MISMATCH, "Host is not the URL's host and port")
    return None


def _judge(request: Request, policy: Policy, *, bare: bool = False) -> Explanation:
    """The name step, then the request step, as a lane would take them."""
    unread = replace(request, method=None, path=None, query=None, headers=(), body=None)
    if request.protocol is Protocol.TCP:
        decision = policy.decide_request(unread)
        return _told(unread, decision, lane_of_tcp(decision))
    if request.protocol is Protocol.DNS:
        told = _told(unread, policy.decide_request(unread), None)
        found = decide_question(policy, request.sandbox, request.host)
        return replace(told, notes=(_ADDRESSES,)) if found.decision.allowed and not found.stated else told
    secure = request.protocol in OVER_TLS
    name = policy.decide_name(replace(unread, protocol=Protocol.HTTPS if secure else Protocol.HTTP))
    lane = lane_of(request.protocol, name, connect=secure or bare)
    if name.certainty is Certainty.NO:
        return _told(request, name.decision, lane)
    if secure and name.tls is TlsMode.TUNNEL:
        decision = policy.decide_request(replace(unread, protocol=Protocol.HTTPS))
        note = "TLS passes unopened: method, path and headers are not seen"
        return replace(_told(unread, decision, lane), notes=(note,))
    return _told(request, policy.decide_request(request), lane)


def _follow(answer: Explanation, policy: Policy) -> Explanation:
    """What a rule rewrites is judged again as what it has become."""
    request, asked = answer.request, answer.decision
    if not answer.allowed or request is None or asked is None or asked.rewrite is None:
        return answer
    followed = policy.follow(request, asked)
    told = _told(request, followed.decision, answer.lane)
    sent = None if followed.request is request else followed.request
    return replace(told, notes=answer.notes, asked=asked, sent=sent)


def _settled(answer: Explanation) -> Explanation:
    if answer.allowed or answer.request is None:
        return answer
    return replace(answer, lane=lane_at_denial(answer.lane, answer.request.protocol))


def _told(request: Request, decision: Decision, lane: Lane | None) -> Explanation:
    return Explanation(decision.verdict, decision.reason, decision.detail, request, decision, lane=lane)


def _check_secrets(answer: Explanation, loaded: LoadedPolicy) -> Explanation:
    """INVARIANT secret-confinement: only to hosts that the secret is bound to, only over verified TLS."""
    request, decision = answer.sent or answer.request, answer.decision
    if request is None or decision is None:
        return answer
    names, signing = decision.secrets, decision.sign
    if not names:
        return answer
    if (signing is not None or any(one.secrets for one in decision.inject)) and request.protocol not in OVER_TLS:
        return _narrowed(answer, Reason.CREDENTIAL_INSECURE)
    definitions = {name: definition for name in names if (definition := loaded.secrets.get(name)) is not None}
    if len(definitions) < len(names):
        return _narrowed(answer, Reason.CREDENTIAL_UNAVAILABLE)
    unbound = [name for name in names if not allows(definitions[name], request)]
    # One of our own store that is bound there alone.
    stored = [name for name in names if name not in unbound and not definitions[name].hosts]
    notes = [f"the secret `{name}` is not bound to this host: the request goes without it" for name in unbound]
    notes += [f"the secret `{name}` goes where the secret store binds it, which is not asked here" for name in stored]
    if len(unbound) < len(names):
        notes.append("whether the values of its secrets can be had is seen only when the proxy runs")
    withheld = [injection for injection in decision.inject if set(injection.secrets) & set(unbound)]
    sent = replace(
        decision,
        inject=tuple(injection for injection in decision.inject if injection not in withheld),
        remove=(*decision.remove, *(injection.header for injection in withheld)),
        swap=tuple(swap for swap in decision.swap if swap.secret not in unbound),
    )
    if signing is not None and signing.secret in unbound:
        sent = replace(sent, sign=None, remove=(*sent.remove, *signed_headers(signing)))
    return replace(answer, decision=sent, notes=(*answer.notes, *notes))


def _check_addresses(answer: Explanation, policy: Policy, addresses: tuple[Address, ...]) -> Explanation:
    request, decision = answer.sent or answer.request, answer.decision
    if request is None or decision is None:
        return answer
    if request.host.address is not None:
        addresses = (request.host.address,)
    if not addresses:
        note = "the name is not resolved here: each address is judged before it is dialled (try --address IP)"
        return replace(answer, notes=(*answer.notes, note))
    judged = policy.decide_address(request, decision, addresses)
    told = AddressJudgement(
        tuple(str(address) for address in judged.addresses),
        tuple((str(address), why) for address, why in judged.dropped),
    )
    final = judged.decision
    return replace(
        answer, verdict=final.verdict, reason=final.reason, detail=final.detail, decision=final, addresses=told
    )


def _narrowed(answer: Explanation, reason: Reason) -> Explanation:
    return replace(answer, verdict=Verdict.DENY, reason=reason, detail=TEXTS[reason].sentence)


def _refused(refusal: Refusal) -> Explanation:
    return Explanation(Verdict.DENY, refusal.reason, refusal.detail)
