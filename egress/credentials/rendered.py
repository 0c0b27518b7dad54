"""What a rule's injections come to for one request: headers with secrets in them, on their way to one host."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.credentials.secret import Secret
from egress.credentials.spellings import SHORTEST

if TYPE_CHECKING:
    from collections.abc import Iterable

    from egress.credentials.signature import Signature


@dataclass(frozen=True, slots=True)
class Rendered:
    """Headers to set, each with its whole value, and the names of the secrets in them (for the audit).

    `withheld` are headers whose secrets (`unbound`) are not bound to the destination, or that a signature sets: the
    client's own value of them goes nowhere either, since the rule has put the proxy in charge of the header.
    `scrubbed` are the values that must not come back in the answer; none, and the answer is left alone. `signature` is
    put on last, over what goes up. `target` (in origin-form) and `body` (its bytes as Latin-1) are what goes up in
    place of the request's own, where a secret was put into them.
    """

    headers: tuple[tuple[str, Secret], ...] = ()
    names: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    unbound: tuple[str, ...] = ()
    scrubbed: tuple[Secret, ...] = ()
    signature: Signature | None = field(default=None, repr=False)
    target: Secret | None = None
    body: Secret | None = None


def scrubbed_values(secrets: Iterable[Secret], headers: Iterable[tuple[str, Secret]]) -> tuple[Secret, ...]:
    """What to look for in the answer to a request with these secrets, and these headers made of them.

    Of a header in the scheme Basic (RFC 7617) that is what it says, `user:password`, and the password too: a server may
    send back what it has decoded.
    """
    values = [*secrets, *(decoded for _, header in headers for decoded in _decoded(header))]
    return tuple(dict.fromkeys(value for value in values if len(value.reveal()) >= SHORTEST))


def _decoded(header: Secret) -> tuple[Secret, ...]:
    scheme, _, coded = header.reveal().partition(" ")
    if scheme.lower() != "basic":
        return ()
    try:
        said = base64.b64decode(coded.strip() + "==").decode("ascii")
    except ValueError:
        return ()
    return Secret(header.name, said), Secret(header.name, said.partition(":")[2])
