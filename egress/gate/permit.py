"""Steps 2 and 3 of the gate: the request under the policy, the secrets it needs, the addresses it may reach.

A request that a rule rewrites is judged again as what it has become; from there on that alone counts: its host's
secrets, its host's addresses, its rules' ranges. What was asked for is never resolved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from egress.policy import OVER_TLS, Decision, Reason, Refusal, Request

if TYPE_CHECKING:
    from egress.credentials import Rendered
    from egress.gate.generation import Generation
    from egress.gate.own import OwnListeners
    from egress.gate.resolver import NameService
    from egress.policy import Address, RuleRef


# Made anew for each request, so not frozen. Nobody changes one.
@dataclass(slots=True)
class Permit:
    """What the steps gave: the decision, the headers to inject, the addresses that may be dialled, in order.

    `address` is the text of the first. `request` is what goes up: another one than was asked, if a rule rewrites it.
    `told` is then the decision for the audit, which speaks of both.
    """

    request: Request
    decision: Decision
    rendered: Rendered
    addresses: tuple[Address, ...]
    address: str
    told: Decision | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal on its way to becoming a recorded `Denial`.

    `decision` if the policy gave it, or allowed before another step refused; `digest` of the policy that was asked;
    `sent` is what would have gone up. `retry_after`: seconds until the same may be allowed, where that is known.
    """

    reason: Reason
    detail: str
    decision: Decision | None = None
    digest: str = ""
    sent: Request | None = None
    retry_after: float | None = None


def url_of(request: Request) -> str:
    """Where a request goes, for the audit: scheme, host, port and path, without its query."""
    return f"{origin_text(request)}{request.path or '/'}"


def origin_text(request: Request) -> str:
    """Scheme, host, and the port where it is another one than the scheme's."""
    host = f"[{request.host.text}]" if ":" in request.host.text else request.host.text
    scheme, default = ("https", 443) if is_secure(request) else ("http", 80)
    port = "" if request.port == default else f":{request.port}"
    return f"{scheme}://{host}{port}"


def is_secure(request: Request) -> bool:
    """Whether the request travels over TLS that is opened and made anew by us, or ends at the destination."""
    return request.protocol in OVER_TLS


async def permit(  # noqa: PLR0911 -- one return a step
    generation: Generation, resolver: NameService, own: OwnListeners, request: Request, peer: Address | None
) -> Permit | Refused:
    """Judge a request, then its addresses. `peer`: that of an open connection, judged in place of fresh answers."""
    digest = generation.policy.digest
    decision = generation.policy.decide_request(request)
    if not decision.allowed:
        return Refused(decision.reason, decision.detail, decision, digest)
    told: Decision | None = None
    if decision.rewrite is not None:
        asked = decision
        followed = generation.policy.follow(request, decision)
        # The peer is one of the host that was asked for.
        request, decision, peer = followed.request, followed.decision, None
        if not decision.allowed:
            return Refused(decision.reason, _from(asked, decision.detail), decision, digest, request)
        told = _of_both(asked, decision, request)
    rendered = generation.credentials.render(decision.inject, request, verified_tls=is_secure(request))
    if isinstance(rendered, Refusal):
        return Refused(rendered.reason, rendered.detail, decision, digest, request)
    if rendered.unbound:
        detail = f"Sent without a secret that is not bound to this host: {', '.join(map(_quoted, rendered.unbound))}."
        if told is None:
            decision = replace(decision, detail=detail)
        else:
            told = replace(told, detail=f"{told.detail} {detail}")
    candidates = await _candidates(resolver, request, peer)
    if isinstance(candidates, str):
        return Refused(Reason.NAME_NOT_RESOLVED, candidates, decision, digest, request)
    judged = generation.policy.decide_address(request, decision, candidates)
    if not judged.addresses:
        return Refused(judged.decision.reason, judged.decision.detail, judged.decision, digest, request)
    foreign = tuple(address for address in judged.addresses if not own.includes(address, request.port))
    if not foreign:
        return Refused(Reason.ADDRESS_IS_PROXY, "", decision, digest, request)
    return Permit(request, decision, rendered, foreign, str(foreign[0]), told)


def _of_both(asked: Decision, sent: Decision, request: Request) -> Decision:
    """The decision on what was asked, as the audit has it, naming the one on what goes up."""
    if sent.reason is Reason.WOULD_DENY:
        return replace(sent, detail=_from(asked, sent.detail))
    by = "a default" if sent.rule is None else _place(sent.rule)
    return replace(asked, detail=f"Rewritten to `{origin_text(request)}`, which {by} allows.", labels=sent.labels)


def _from(asked: Decision, detail: str) -> str:
    """What is said of the rewritten request, with the rule that rewrote it."""
    return detail if asked.rule is None else f"Rewritten by {_place(asked.rule)}. {detail}"


def _place(rule: RuleRef) -> str:
    line = "" if rule.line is None else f":{rule.line}"
    # The file's name only, as on the page that a client sees.
    return f"`{rule.name or 'rule'}` ({PurePath(rule.file).name}{line})"


def _quoted(name: str) -> str:
    return f"`{name}`"


async def _candidates(resolver: NameService, request: Request, peer: Address | None) -> tuple[Address, ...] | str:
    """The addresses to judge, or why there are none."""
    if request.host.address is not None:
        return (request.host.address,)
    if peer is not None:
        return (peer,)
    answer = resolver.known(request.host.text) or await resolver.resolve(request.host.text)
    return answer.addresses or f"`{request.host.text}`: {answer.error}"
