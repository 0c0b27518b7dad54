"""Azure: an access token for a resource, or a secret from a Key Vault, as the identity that the proxy has there.

1. managed   the endpoint that App Service, Functions and Container Apps announce in the environment, else the machine's
             instance metadata service
2. workload  a federated token from a file, exchanged at Microsoft Entra; what the source leaves out is taken from the
             variables that the workload identity webhook sets
3. vault     a token goes to a host of its own cloud's Key Vaults only
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from egress.config.secret_sources import FileSource
from egress.credentials.providers.asking import Asking
from egress.credentials.providers.interface import Fetched
from egress.credentials.providers.token_endpoint import access_token, ask_for_token, oauth_refusal, still_valid
from egress.credentials.sources import checked
from egress.errors import CredentialError

if TYPE_CHECKING:
    from egress.config.secret_sources import AzureIdentity, AzureSource, EnvSource
    from egress.credentials.providers.interface import Means

_OK = 200
_METADATA = "http://169.254.169.254/metadata/identity/oauth2/token"
_METADATA_VERSION = "2018-02-01"
_APP_SERVICE_VERSION = "2019-08-01"
_VAULT_VERSION = "7.4"
_PUBLIC_CLOUD = "https://login.microsoftonline.com"
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# Each cloud's Key Vaults, and the resource that their tokens are for.
_VAULTS = {
    ".vault.azure.net": "https://vault.azure.net",
    ".vault.azure.cn": "https://vault.azure.cn",
    ".vault.usgovcloudapi.net": "https://vault.usgovcloudapi.net",
}
# A new version of a secret is seen after this time at the latest.
_KEEP_SECONDS = 300.0
_METADATA_HINTS = {
    400: "check `resource` and `client_id`, and that the machine has that identity",
    403: "the endpoint's header was refused; restart the app",
    404: "the metadata service is being updated; it is asked again later",
    410: "the metadata service is being updated, for 70 seconds at most; it is asked again later",
}
_VAULT_HINTS = {
    401: "the vault does not take the token; check that identity and vault are of the same tenant",
    403: "grant the identity `secrets/get` or the role Key Vault Secrets User, and look at the vault's firewall",
    404: "check the secret's name and version",
}


async def fetch(name: str, source: AzureSource, means: Means) -> Fetched:
    """The token or the secret, now."""
    if source.vault is None:
        if source.resource is None:
            raise CredentialError(f"secret `{name}`: Azure is asked for nothing", hint="write `resource` or `vault`")
        return await _token(name, source.identity, source.resource, means)
    address = _vault(name, source)
    token = await _token(name, source.identity, _resource(name, address), means)
    return await _secret(name, address, token, means)


async def _token(name: str, identity: AzureIdentity, resource: str, means: Means) -> Fetched:
    if identity.kind == "managed":
        return await _managed(name, identity, resource, means)
    if identity.kind == "workload":
        return await _workload(name, identity, resource, means)
    raise CredentialError(f"secret `{name}`: no such kind of identity", hint="write `managed` or `workload`")


async def _managed(name: str, identity: AzureIdentity, resource: str, means: Means) -> Fetched:
    endpoint, header = _found(means, identity.endpoint_variable), _found(means, identity.header_variable)
    asking = Asking(name, "the managed identity endpoint")
    if endpoint is None:
        url, version, headers = _METADATA, _METADATA_VERSION, {"Metadata": "true"}
    elif header is None:
        # Azure Arc answers only to who can read its root-owned files.
        raise asking.error("is that of Azure Arc, which is not supported", "use a workload identity, or `command`")
    else:
        url, version, headers = (
            endpoint,
            _APP_SERVICE_VERSION,
            {"X-IDENTITY-HEADER": checked(name, header, "the header").reveal()},
        )
    query = {"api-version": version, "resource": resource}
    if identity.client_id is not None:
        query["client_id"] = identity.client_id
    asked_at = means.now()
    answer = await means.call("GET", f"{url}?{urlencode(query)}", headers=headers)
    if answer.status in _METADATA_HINTS:
        raise asking.refusal(answer, _METADATA_HINTS)
    if answer.status != _OK:
        raise oauth_refusal(asking, answer)
    fields = asking.fields(answer)
    if "resource" in fields and fields.text("resource").rstrip("/") != resource.rstrip("/"):
        raise asking.error("gave a token for another resource", "check `resource`")
    token = access_token(fields, asked_at)
    if "expires_on" not in fields:
        return token
    # The service keeps tokens: its `expires_in` may count from when it got this one.
    return replace(token, expires=still_valid(asking, fields.moment("expires_on"), asked_at))


async def _workload(name: str, identity: AzureIdentity, resource: str, means: Means) -> Fetched:
    asking = Asking(name, "Microsoft Entra")
    tenant = identity.tenant_id or _needed(asking, means, "tenant_id", identity.tenant_variable)
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", tenant) is None:
        raise asking.error("knows no such tenant", "write its id or its domain as `tenant_id`")
    file = identity.token_file or Path(_needed(asking, means, "token_file", identity.token_file_variable))
    authority = identity.authority or _found(means, identity.authority_variable) or _PUBLIC_CLOUD
    form = {
        "grant_type": "client_credentials",
        "client_id": identity.client_id or _needed(asking, means, "client_id", identity.client_variable),
        # A resource that ends in a slash keeps it: the audience of the token is compared to the letter.
        "scope": f"{resource}/.default",
        "client_assertion_type": _ASSERTION,
        "client_assertion": means.leaf(FileSource(file)).reveal(),
    }
    url = f"{authority.rstrip('/')}/{tenant}/oauth2/v2.0/token"
    return (await ask_for_token(asking, means, url, form))[1]


async def _secret(name: str, url: str, token: Fetched, means: Means) -> Fetched:
    asking = Asking(name, "the Key Vault")
    answer = await means.call("GET", url, headers={"Authorization": f"Bearer {token.value.reveal()}"})
    if answer.status != _OK:
        raise asking.refusal(answer, _VAULT_HINTS)
    fields = asking.fields(answer)
    attributes = fields.object("attributes")
    now = means.now()
    if attributes.content.get("enabled") is False or ("nbf" in attributes and attributes.moment("nbf") > now):
        raise asking.error("has this secret, but disabled or not yet valid", "enable it, or name another version")
    expires = attributes.moment("exp") if "exp" in attributes else None
    return Fetched(
        asking.value(fields.text("value")),
        expires=still_valid(asking, expires, now),
        refresh_seconds=_KEEP_SECONDS,
    )


def _vault(name: str, source: AzureSource) -> str:
    asking = Asking(name, "the Key Vault")
    vault = urlsplit(source.vault or "")
    if vault.scheme != "https" or not vault.hostname or vault.path.strip("/") or vault.query or "@" in vault.netloc:
        raise asking.error("has no such address", "write `vault: https://NAME.vault.azure.net`")
    secret, version = source.secret or "", source.version or ""
    if re.fullmatch(r"[0-9A-Za-z-]{1,127}", secret) is None or re.fullmatch(r"[0-9A-Za-z]{0,64}", version) is None:
        raise asking.error("can have no secret of this name or version", "check `secret` and `version`")
    return f"https://{vault.netloc}/secrets/{secret}/{version}?api-version={_VAULT_VERSION}"


def _resource(name: str, address: str) -> str:
    host = urlsplit(address).hostname or ""
    for suffix, resource in _VAULTS.items():
        if host.endswith(suffix):
            return resource
    raise CredentialError(f"secret `{name}`: `{host}` is no host of a Key Vault", hint="check `vault`")


def _needed(asking: Asking, means: Means, field: str, variable: EnvSource) -> str:
    value = _found(means, variable)
    if value is None:
        raise asking.error(f"cannot be asked without `{field}`", f"write it, or set {variable.variable}")
    return value


def _found(means: Means, variable: EnvSource) -> str | None:
    try:
        return means.leaf(variable).reveal()
    except CredentialError:
        return None
