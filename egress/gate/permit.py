"""Steps 2 and 3 of the gate: the request under the policy, the secrets it needs, the addresses it may reach.

A request that a rule rewrites is judged again as what it has become; from there on that alone counts: its host's
secrets, its host's addresses, its rules' ranges. What was asked for is never resolved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from egress.credentials import Rendered, swapped, wants_body
from egress.gate.judged_body import BODY_WANTED, BodyWanted
from egress.gate.signing import ready_signature
from egress.policy import OVER_TLS, Decision, Reason, Refusal, Request, Verdict, told

if TYPE_CHECKING:
    from egress.credentials import CredentialStore
    from egress.gate.body import Buffer
    from egress.gate.generation import Generation
    from egress.gate.own import OwnListeners
    from egress.gate.resolver import NameService, Servers
    from egress.policy import Address, Policy, RuleRef


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

    @property
    def verdict(self) -> Verdict:
        """Ask, if that is the policy's word; else deny, whatever it was that refused."""
        return Verdict.ASK if self.decision is not None and self.decision.verdict is Verdict.ASK else Verdict.DENY


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


async def permit(  # noqa: C901, PLR0911 -- one branch, one return a step
    generation: Generation,
    resolver: NameService,
    own: OwnListeners,
    request: Request,
    peer: Address | None,
    *,
    reads_body: bool = False,
    body: Buffer | None = None,
) -> Permit | Refused | BodyWanted:
    """Judge a request, then its addresses. `peer`: that of an open connection, judged in place of fresh answers.

    `reads_body`: who asks can read the body first, where a rule asks for it. `body`: all of it, where it was read.
    """
    digest = generation.digest
    policy = generation.policy if generation.roster is None else generation.policy_of(request.sandbox)
    if policy is None:
        return Refused(Reason.SANDBOX_UNKNOWN, "", None, digest)
    judged = _judged(policy, request, digest, reads_body=reads_body)
    if not isinstance(judged, _Judged):
        return judged
    decision, both = judged.decision, judged.both
    if both is not None:
        # The peer is one of the host that was asked for.
        request, peer = judged.request, None
    if generation.credentials.fetched is not None:
        await generation.credentials.fetch_for(decision.secrets, request, verified_tls=is_secure(request))
    rendered = _put_on(generation.credentials, decision, request, body, reads_body=reads_body)
    if isinstance(rendered, BodyWanted):
        return rendered
    if isinstance(rendered, Refusal):
        return Refused(rendered.reason, rendered.detail, decision, digest, request)
    more = _more(rendered, request)
    if more and both is None:
        detail = more.strip() if rendered.unbound else f"{decision.detail}{more}"
        decision = replace(decision, detail=detail)
    elif more and both is not None:
        both = replace(both, detail=f"{both.detail}{more}")
    candidates = await _candidates(resolver, request, peer, policy.resolvers)
    if isinstance(candidates, str):
        return Refused(Reason.NAME_NOT_RESOLVED, candidates, decision, digest, request)
    reached = policy.decide_address(request, decision, candidates)
    if not reached.addresses:
        return Refused(reached.decision.reason, reached.decision.detail, reached.decision, digest, request)
    foreign = tuple(address for address in reached.addresses if not own.includes(address, request.port))
    if not foreign:
        return Refused(Reason.ADDRESS_IS_PROXY, "", decision, digest, request)
    return Permit(request, decision, rendered, foreign, str(foreign[0]), both)


def _put_on(
    credentials: CredentialStore, decision: Decision, request: Request, body: Buffer | None, *, reads_body: bool
) -> Rendered | Refusal | BodyWanted:
    """What the decision has put on the request, or why it must not be sent."""
    secure = is_secure(request)
    rendered: Rendered | Refusal | BodyWanted = credentials.render(decision.inject, request, verified_tls=secure)
    if decision.sign is not None and isinstance(rendered, Rendered):
        if decision.swap:
            return _SIGNED_AND_SWAPPED
        rendered = ready_signature(
            credentials, decision.sign, request, rendered, body, verified_tls=secure, reads_body=reads_body
        )
    if credentials.seeker is None or not isinstance(rendered, Rendered):
        return rendered
    return swapped(credentials, decision, request, None if body is None else bytes(body), rendered)


# What is signed is what came: a secret that is put into it afterwards would break the signature.
_SIGNED_AND_SWAPPED = Refusal(
    Reason.REQUEST_NOT_SIGNABLE, "one rule signs the request, and another swaps a placeholder in it"
)


# Made anew for each request, so not frozen. Nobody changes one.
@dataclass(slots=True)
class _Judged:
    """A request that the policy allows, as it goes up; `both` is the decision for the audit if a rule rewrote it."""

    request: Request
    decision: Decision
    both: Decision | None = None


def _judged(policy: Policy, request: Request, digest: str, *, reads_body: bool) -> _Judged | Refused | BodyWanted:
    """What the policy says to a request, and to what a rule makes of it."""
    decision = policy.decide_request(request)
    if decision.needs_body and reads_body:
        return BODY_WANTED
    if not decision.allowed:
        asks = "" if decision.reason is Reason.BODY_NOT_ALLOWED else _asked(request)
        return Refused(decision.reason, f"{decision.detail}{asks}", decision, digest)
    if decision.rewrite is None:
        judged = _Judged(request, decision)
        return BODY_WANTED if reads_body and decision.swap and wants_body(decision) else judged
    followed = policy.follow(request, decision)
    sent = followed.decision
    if sent.needs_body and reads_body:
        return BODY_WANTED
    if not sent.allowed:
        return Refused(sent.reason, _from(decision, sent.detail), sent, digest, followed.request)
    judged = _Judged(followed.request, sent, _of_both(decision, sent, followed.request))
    return BODY_WANTED if reads_body and sent.swap and wants_body(sent) else judged


def _more(rendered: Rendered, request: Request) -> str:
    """What else there is to say of a request that goes on, with a space before it."""
    if not rendered.unbound:
        return "" if request.body is None else _asked(request)
    names = ", ".join(map(_quoted, rendered.unbound))
    return f" Sent without a secret that is not bound to this host: {names}.{_asked(request)}"


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


def _asked(request: Request) -> str:
    """What the body asks for, as one more sentence for the record."""
    said = "" if request.body is None else told(request.body)
    return f" The body asks for: {said}." if said else ""


async def _candidates(
    resolver: NameService, request: Request, peer: Address | None, servers: Servers
) -> tuple[Address, ...] | str:
    """The addresses to judge, or why there are none."""
    if request.host.address is not None:
        return (request.host.address,)
    if peer is not None:
        return (peer,)
    answer = resolver.known(request.host.text, servers) or await resolver.resolve(request.host.text, servers)
    return answer.addresses or f"`{request.host.text}`: {answer.error}"
