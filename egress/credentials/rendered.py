"""What a rule's injections come to for one request: headers with secrets in them, on their way to one host."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egress.credentials.secret import Secret
    from egress.credentials.signature import Signature


@dataclass(frozen=True, slots=True)
class Rendered:
    """Headers to set, each with its whole value, and the names of the secrets in them (for the audit).

    `withheld` are headers whose secrets (`unbound`) are not bound to the destination, or that a signature sets: the
    client's own value of them goes nowhere either, since the rule has put the proxy in charge of the header.
    `signature` is put on last, over what goes up. `target` (in origin-form) and `body` (its bytes as Latin-1) are what
    goes up in place of the request's own, where a secret was put into them.
    """

    headers: tuple[tuple[str, Secret], ...] = ()
    names: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    unbound: tuple[str, ...] = ()
    signature: Signature | None = field(default=None, repr=False)
    target: Secret | None = None
    body: Secret | None = None
