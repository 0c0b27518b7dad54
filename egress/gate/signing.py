"""The step of the gate that readies a signature: once for every lane, after the headers that a rule injects.

1. a secret that may not go there signs nothing, and the client's own signature goes nowhere either
2. what cannot be signed anew is refused
3. a body that is signed is read first, whole
4. the signature is put on where the head is written, last (`outbound.upstream_head`)
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from egress.credentials.aws_keys import read_keys
from egress.credentials.hmac_scheme import HmacPlan
from egress.credentials.rendered import scrubbed_values
from egress.credentials.secret import Secret
from egress.credentials.sigv4_plan import NoSignature, plan_sigv4
from egress.gate.judged_body import BODY_WANTED
from egress.policy import HmacScheme, Reason, Refusal, SigV4, signed_headers

if TYPE_CHECKING:
    from egress.credentials import CredentialStore, Rendered
    from egress.credentials.signature import Plan
    from egress.gate.body import Buffer
    from egress.gate.judged_body import BodyWanted
    from egress.policy import Request, Signing

_TOO_LARGE = Refusal(Reason.LIMIT_BODY, "The rule signs the body, and it is larger than what is held to be signed.")


def ready_signature(
    credentials: CredentialStore,
    signing: Signing,
    request: Request,
    rendered: Rendered,
    body: Buffer | None,
    *,
    verified_tls: bool,
    reads_body: bool,
) -> Rendered | Refusal | BodyWanted:
    """What is rendered for `request`, as it goes up, with the signature that it waits for.

    `body` is all of it, None where it was not read; `reads_body`: who asks can read it first.
    """
    secret = credentials.value_for(signing.secret, request, verified_tls=verified_tls)
    if isinstance(secret, Refusal):
        return secret
    withheld = (*rendered.withheld, *signed_headers(signing))
    if secret is None:
        unbound = tuple(dict.fromkeys((*rendered.unbound, signing.secret)))
        unsigned = NoSignature() if isinstance(signing, SigV4) else None
        return replace(rendered, withheld=withheld, unbound=unbound, signature=unsigned)
    plan = _planned(signing, request)
    if isinstance(plan, Refusal):
        return plan
    if plan.reads_body and body is None:
        return BODY_WANTED if reads_body else _TOO_LARGE
    try:
        signature = plan.with_value(secret.reveal(), body)
    except ValueError as error:
        detail = f"the secret `{signing.secret}` signs nothing: {error}"
        return Refusal(Reason.CREDENTIAL_UNAVAILABLE, detail)
    names = tuple(dict.fromkeys((*rendered.names, signing.secret)))
    scrubbed = (*rendered.scrubbed, *scrubbed_values(_sent(signing, secret), ()))
    return replace(rendered, names=names, withheld=withheld, signature=signature, scrubbed=scrubbed)


def _sent(signing: Signing, secret: Secret) -> tuple[Secret, ...]:
    """What of the secret goes up: AWS's session token. Keys do not, so that nobody can send them back."""
    token = read_keys(secret.reveal()).token if isinstance(signing, SigV4) else None
    return () if token is None else (Secret(signing.secret, token.reveal()),)


def _planned(signing: Signing, request: Request) -> Plan | Refusal:
    match signing:
        case SigV4():
            return plan_sigv4(signing, request)
        case HmacScheme():
            return HmacPlan(signing)
        case _:
            assert_never(signing)
