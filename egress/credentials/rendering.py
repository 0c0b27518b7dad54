"""Makes a rule's headers out of the values of secrets. A header is rendered whole or not at all. Pure."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from egress.credentials.headers import settable
from egress.credentials.rendered import Rendered, scrubbed_values
from egress.credentials.sources import checked
from egress.errors import CredentialError
from egress.policy import Reason, Refusal, SecretRef

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.credentials.secret import Secret
    from egress.policy import Injection


def names_of(injections: tuple[Injection, ...]) -> tuple[str, ...]:
    """The secrets that they need, in order and once each."""
    return tuple(dict.fromkeys(name for injection in injections for name in injection.secrets))


def rendered_with(injections: tuple[Injection, ...], values: Mapping[str, Secret]) -> Rendered | Refusal:
    """The headers that can be made with `values`; those that need another secret are withheld, and it is `unbound`."""
    wanted = names_of(injections)
    headers: list[tuple[str, Secret]] = []
    withheld: list[str] = []
    for injection in injections:
        if not values.keys() >= set(injection.secrets):
            withheld.append(injection.header)
            continue
        whole = _whole(injection, values)
        if whole is None:
            return Refusal(Reason.INTERNAL_ERROR, "the rule sets a header that no rule may set, or not like this")
        headers.append((injection.header, whole))
    used = {name for injection in injections if injection.header not in withheld for name in injection.secrets}
    names = tuple(name for name in wanted if name in used)
    unbound = tuple(name for name in wanted if name not in values)
    scrubbed = scrubbed_values([values[name] for name in names], headers) if names else ()
    return Rendered(tuple(headers), names, tuple(withheld), unbound, scrubbed)


def _whole(injection: Injection, values: Mapping[str, Secret]) -> Secret | None:
    """The header's whole value under the names of its secrets; None if it cannot stand in a header."""
    if not settable(injection.header):
        return None
    text = _filled(injection.parts, values)
    if injection.user is not None:
        user = _filled(injection.user, values)
        if ":" in user:
            return None
        text = f"Basic {base64.b64encode(f'{user}:{text}'.encode()).decode()}"
    try:
        return checked("+".join(injection.secrets) or injection.header, text, "header")
    except CredentialError:
        return None


def _filled(parts: tuple[str | SecretRef, ...], values: Mapping[str, Secret]) -> str:
    return "".join(values[part.name].reveal() if isinstance(part, SecretRef) else part for part in parts)
