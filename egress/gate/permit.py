"""Steps 2 and 3 of the gate: the request under the policy, the secrets it needs, the addresses it may reach."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from egress.policy import Decision, Protocol, Reason, Refusal, Request

if TYPE_CHECKING:
    from egress.credentials import Rendered
    from egress.gate.generation import Generation
    from egress.gate.own import OwnListeners
    from egress.gate.resolver import NameService
    from egress.policy import Address

_OVER_TLS = frozenset({Protocol.HTTPS, Protocol.WSS})


# Made anew for each request, so not frozen. Nobody changes one.
@dataclass(slots=True)
class Permit:
    """What the steps gave: the decision, the headers to inject, the addresses that may be dialled, in order.

    `address` is the text of the first.
    """

    decision: Decision
    rendered: Rendered
    addresses: tuple[Address, ...]
    address: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal on its way to becoming a recorded `Denial`.

    `decision` if the policy gave it, or allowed before another step refused; `digest` of the policy that was asked.
    """

    reason: Reason
    detail: str
    decision: Decision | None = None
    digest: str = ""


def is_secure(request: Request) -> bool:
    """Whether the request travels over TLS that is opened and made anew by us, or ends at the destination."""
    return request.protocol in _OVER_TLS


async def permit(
    generation: Generation, resolver: NameService, own: OwnListeners, request: Request, peer: Address | None
) -> Permit | Refused:
    """Judge a request, then its addresses. `peer`: that of an open connection, judged in place of fresh answers."""
    digest = generation.policy.digest
    decision = generation.policy.decide_request(request)
    if not decision.allowed:
        return Refused(decision.reason, decision.detail, decision, digest)
    rendered = generation.credentials.render(decision.inject, request, verified_tls=is_secure(request))
    if isinstance(rendered, Refusal):
        return Refused(rendered.reason, rendered.detail, decision, digest)
    if rendered.unbound:
        told = ", ".join(f"`{name}`" for name in rendered.unbound)
        decision = replace(decision, detail=f"Sent without a secret that is not bound to this host: {told}.")
    candidates = await _candidates(resolver, request, peer)
    if isinstance(candidates, str):
        return Refused(Reason.NAME_NOT_RESOLVED, candidates, decision, digest)
    judged = generation.policy.decide_address(request, decision, candidates)
    if not judged.addresses:
        return Refused(judged.decision.reason, judged.decision.detail, judged.decision, digest)
    foreign = tuple(address for address in judged.addresses if not own.includes(address, request.port))
    if not foreign:
        return Refused(Reason.ADDRESS_IS_PROXY, "", decision, digest)
    return Permit(decision, rendered, foreign, str(foreign[0]))


async def _candidates(resolver: NameService, request: Request, peer: Address | None) -> tuple[Address, ...] | str:
    """The addresses to judge, or why there are none."""
    if request.host.address is not None:
        return (request.host.address,)
    if peer is not None:
        return (peer,)
    answer = resolver.known(request.host.text) or await resolver.resolve(request.host.text)
    return answer.addresses or f"`{request.host.text}`: {answer.error}"
