"""The headers in which clients send credentials of their own: what `strip_own` keeps from going on.

By name alone, since a credential looks like anything. `Proxy-Authorization` is for the proxy and never goes on anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from egress.policy.values import Rule

OWN_CREDENTIALS: Final = (
    "Authorization",
    "Cookie",
    "X-Api-Key",
    "Api-Key",
    "ApiKey",
    "X-Auth-Token",
    "X-Auth-Key",
    "X-Access-Token",
    "X-Token",
    "X-Goog-Api-Key",
    "X-Amz-Security-Token",
    "Private-Token",
    "Job-Token",
    "Deploy-Token",
    "Circle-Token",
    "X-Vault-Token",
    "X-Consul-Token",
    "X-Functions-Key",
    "Ocp-Apim-Subscription-Key",
    "X-Subscription-Token",
    "X-Figma-Token",
    "X-Shopify-Access-Token",
    "X-JFrog-Art-Api",
    "X-NuGet-ApiKey",
    "Xi-Api-Key",
    "DD-Api-Key",
    "DD-Application-Key",
    "Fastly-Key",
)


def removed(rule: Rule) -> tuple[str, ...]:
    """The headers of the client's that the rule removes, without those that it sets."""
    if not rule.strip_own:
        return rule.remove
    return tuple({name.lower(): name for name in (*OWN_CREDENTIALS, *rule.remove)}.values())
