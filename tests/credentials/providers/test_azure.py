"""Azure: managed and workload identities, and Key Vault."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from credentials.clouds.azure import AppService, Entra, KeyVault, Metadata
from credentials.clouds.server import Reply
from credentials.clouds.tokens import refusal
from credentials.clouds.world import written

from egress.config.secret_sources import AzureIdentity, AzureSource
from egress.credentials.providers.azure import fetch

if TYPE_CHECKING:
    from pathlib import Path

    from credentials.clouds.world import World

RESOURCE = "https://cognitiveservices.azure.com"
MANAGED = AzureSource(AzureIdentity(), resource=RESOURCE)
VAULT = AzureSource(AzureIdentity(), vault="https://myvault.vault.azure.net", secret="api")


@pytest.fixture
def metadata(world: World) -> Metadata:
    """A machine's metadata service."""
    return world.add(Metadata(world.now), "169.254.169.254", secure=False)


@pytest.fixture
def keyvault(world: World, metadata: Metadata) -> KeyVault:
    """A Key Vault with one secret."""
    del metadata
    vault = world.add(KeyVault(), "myvault.vault.azure.net")
    vault.secrets["api/"] = {"value": "s3cret"}
    return vault


def test_a_machine_gets_a_token_from_its_metadata_service(world: World, metadata: Metadata) -> None:
    """The time is that at which the token ends, since the service keeps tokens."""
    fetched = world.fetch(fetch, MANAGED)
    assert (fetched.value.reveal(), fetched.expires) == (f"eyJ.{RESOURCE}", int(world.time) + 86_000)
    assert "client_id" not in metadata.asked[0].query


def test_a_user_assigned_identity_is_asked_for_by_its_client_id(world: World, metadata: Metadata) -> None:
    """Another one than the machine has is refused, in words of ours."""
    source = replace(MANAGED, identity=AzureIdentity(client_id="client-1"))
    assert world.fetch(fetch, source).value.reveal() == f"eyJ.{RESOURCE}"
    assert metadata.asked[0].query["client_id"] == "client-1"
    assert "the machine has that identity" in world.refused(
        fetch, replace(MANAGED, identity=AzureIdentity(client_id="client-2"))
    )


def test_an_app_gets_a_token_from_the_endpoint_in_its_environment(world: World, metadata: Metadata) -> None:
    """IDENTITY_ENDPOINT and IDENTITY_HEADER stand before the metadata service, which is not there then."""
    service = world.add(AppService(world.now), "127.0.0.1", secure=False)
    world.env |= {"IDENTITY_ENDPOINT": "http://localhost/msi/token", "IDENTITY_HEADER": "header-secret"}
    assert world.fetch(fetch, MANAGED).value.reveal() == f"eyJ.{RESOURCE}"
    world.env["IDENTITY_HEADER"] = "another-header"
    assert "restart the app" in world.refused(fetch, MANAGED)
    assert (len(service.asked), metadata.asked) == (2, [])


def test_the_header_of_an_identity_endpoint_leaves_the_machine_over_tls_only(world: World) -> None:
    """Whoever sets the variable does not get the header over plain http."""
    world.add(AppService(world.now), "collector.example", secure=False)
    world.env |= {"IDENTITY_ENDPOINT": "http://collector.example/msi/token", "IDENTITY_HEADER": "header-secret"}
    assert "plain http" in world.refused(fetch, MANAGED)


def test_azure_arc_is_told_apart(world: World, metadata: Metadata) -> None:
    """Its endpoint is announced without a header."""
    world.env["IDENTITY_ENDPOINT"] = "http://localhost:40342/metadata/identity/oauth2/token"
    assert "Azure Arc" in world.refused(fetch, MANAGED)
    assert metadata.asked == []


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"resource": "https://management.azure.com/"}, "for another resource"),
    ({"expires_on": "1"}, "has expired"),
    ({"expires_on": "06/20/2019 02:57:58 +00:00"}, "no moment"),
    ({"token_type": "pop"}, "Bearer"),
    ({"access_token": None}, "without `access_token`"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES, ids=[said for _, said in CHANGES])
def test_a_token_that_is_not_what_was_asked_for_is_refused(
    world: World, metadata: Metadata, change: dict[str, Any], said: str
) -> None:
    """Another audience, another time, another kind."""
    metadata.change = change
    assert said in world.refused(fetch, MANAGED)


@pytest.mark.parametrize("change", [{"expires_on": None}, {"resource": f"{RESOURCE}/"}, {"resource": None}])
def test_what_endpoints_write_differently_is_read(world: World, metadata: Metadata, change: dict[str, Any]) -> None:
    """A slash more, or the time as a number of seconds from now."""
    metadata.change = change
    assert world.fetch(fetch, MANAGED).value.reveal() == f"eyJ.{RESOURCE}"


FAULTS = [
    (refusal("invalid_resource"), "check `resource`"),
    (refusal("unauthorized_client", 401), "(unauthorized_client)"),
    (Reply(404, b"CANARY"), "is being updated"),
    (Reply(410, b"CANARY"), "70 seconds"),
    (Reply(429, {"error": "too_many_requests"}), "asked too often"),
    (Reply(500, {"error": "unknown", "error_description": "CANARY"}), "the fault is its own"),
    (Reply(200, b"<html>CANARY"), "not a JSON object"),
]


@pytest.mark.parametrize(("reply", "said"), FAULTS, ids=[said for _, said in FAULTS])
def test_the_documented_errors_of_the_metadata_service(
    world: World, metadata: Metadata, reply: Reply, said: str
) -> None:
    """Each says what to do, or that nothing is to be done but wait."""
    metadata.faults.append(reply)
    assert said in world.refused(fetch, MANAGED)


@pytest.fixture
def workload(world: World, tmp_path: Path) -> AzureSource:
    """The source of a workload identity, all of it written down, and the tenant that knows it."""
    world.add(Entra(), "login.microsoftonline.com")
    token = written(tmp_path, "azure-identity-token", "eyJ.federated.x\n")
    identity = AzureIdentity("workload", client_id="client-1", tenant_id="tenant-1", token_file=token.path)
    return AzureSource(identity, resource="https://management.azure.com/")


def test_a_workload_exchanges_its_federated_token(world: World, workload: AzureSource) -> None:
    """The slash at the end of a resource stays, or the token's audience would be another."""
    fetched = world.fetch(fetch, workload)
    assert fetched.value.reveal() == "eyJ.https://management.azure.com/"
    assert fetched.expires == world.time + 3599


def test_what_a_workload_leaves_out_is_in_the_webhooks_variables(world: World, workload: AzureSource) -> None:
    """And what is in neither is named."""
    sovereign = world.add(Entra(), "login.chinacloudapi.cn")
    variables = {
        "AZURE_CLIENT_ID": "client-1",
        "AZURE_TENANT_ID": "tenant-1",
        "AZURE_FEDERATED_TOKEN_FILE": str(workload.identity.token_file),
        "AZURE_AUTHORITY_HOST": "https://login.chinacloudapi.cn/",
    }
    world.env |= variables
    source = replace(workload, identity=AzureIdentity("workload"))
    assert world.fetch(fetch, source).value.reveal() == "eyJ.https://management.azure.com/"
    assert len(sovereign.asked) == 1
    for variable in list(variables)[:3]:
        kept = world.env.pop(variable)
        assert f"set {variable}" in world.refused(fetch, source)
        world.env[variable] = kept


def test_a_federated_token_that_entra_refuses(world: World, workload: AzureSource) -> None:
    """It may be expired, or for another audience or subject."""
    written(workload.identity.token_file.parent, "azure-identity-token", "eyJ.wrong.audience")  # type: ignore[union-attr]
    assert "(invalid_client)" in world.refused(fetch, workload)


@pytest.mark.parametrize("tenant", ["../common", "a/b", "", "tenant?x"])
def test_a_tenant_is_one_segment(world: World, workload: AzureSource, tenant: str) -> None:
    """It becomes part of the path that the assertion is posted to."""
    world.env["AZURE_TENANT_ID"] = tenant
    source = replace(workload, identity=replace(workload.identity, tenant_id=tenant))
    world.refused(fetch, source)
    assert world.dialled == []


def test_a_secret_of_a_key_vault_is_read_with_a_token_for_vaults(world: World, keyvault: KeyVault) -> None:
    """It is looked at again after minutes, since a new version does not announce itself."""
    fetched = world.fetch(fetch, VAULT)
    assert (fetched.value.reveal(), fetched.expires, fetched.refresh_seconds) == ("s3cret", None, 300)
    keyvault.secrets["api/4387e9f3d6e1"] = {"value": "0ld"}
    assert world.fetch(fetch, replace(VAULT, version="4387e9f3d6e1")).value.reveal() == "0ld"


@pytest.mark.parametrize("suffix", ["vault.azure.net", "vault.azure.cn", "vault.usgovcloudapi.net"])
def test_each_cloud_has_its_own_audience(world: World, metadata: Metadata, suffix: str) -> None:
    """The vault of a sovereign cloud takes tokens for that cloud's vaults."""
    vault = world.add(KeyVault(f"https://{suffix}"), f"team.{suffix}")
    vault.secrets["api/"] = {"value": "s3cret"}
    assert world.fetch(fetch, replace(VAULT, vault=f"https://team.{suffix}/")).value.reveal() == "s3cret"
    assert metadata.asked[0].query["resource"] == f"https://{suffix}"


VAULTS = [
    ("https://collector.example", "no host of a Key Vault"),
    ("https://evilvault.azure.net", "no host of a Key Vault"),
    ("https://a.vault.azure.net.collector.example", "no host of a Key Vault"),
    ("http://myvault.vault.azure.net", "no such address"),
    ("https://u@myvault.vault.azure.net", "no such address"),
    ("https://myvault.vault.azure.net/secrets/x", "no such address"),
    ("myvault", "no such address"),
]


@pytest.mark.parametrize(("vault", "said"), VAULTS, ids=[vault for vault, _ in VAULTS])
def test_a_token_for_vaults_goes_to_a_vault(world: World, metadata: Metadata, vault: str, said: str) -> None:
    """No token is even asked for where the address is none of a vault."""
    assert said in world.refused(fetch, replace(VAULT, vault=vault))
    assert metadata.asked == []


@pytest.mark.parametrize(
    ("secret", "version"), [("", None), ("a/b", None), ("../x", None), ("a", "../b"), (None, None)]
)
def test_names_of_secrets_and_versions_are_azures(
    world: World, keyvault: KeyVault, secret: str | None, version: str | None
) -> None:
    """They become segments of the path."""
    assert "no secret of this name" in world.refused(fetch, replace(VAULT, secret=secret, version=version))
    assert keyvault.asked == []


ATTRIBUTES: list[tuple[dict[str, Any], str]] = [
    ({"enabled": False}, "disabled"),
    ({"nbf": 10_000_000_000}, "not yet valid"),
    ({"exp": 1_493_938_410}, "has expired"),
]


@pytest.mark.parametrize(("attributes", "said"), ATTRIBUTES, ids=[said for _, said in ATTRIBUTES])
def test_a_secret_is_good_for_its_time(world: World, keyvault: KeyVault, attributes: dict[str, Any], said: str) -> None:
    """What the vault says of a secret's validity holds, even where the vault itself does not enforce it."""
    keyvault.secrets["api/"]["attributes"] = attributes
    assert said in world.refused(fetch, VAULT)


def test_a_secret_ends_when_the_vault_says(world: World, keyvault: KeyVault) -> None:
    """`exp` is the end of its use."""
    keyvault.secrets["api/"]["attributes"] = {"exp": 10_000_000_000, "nbf": 1}
    assert world.fetch(fetch, VAULT).expires == 10_000_000_000


VAULT_FAULTS = [
    (Reply(401, {"error": {"code": "Unauthorized", "message": "CANARY"}}), "same tenant"),
    (Reply(403, {"error": {"code": "Forbidden", "message": "CANARY"}}), "Key Vault Secrets User"),
    (Reply(404, {"error": {"code": "SecretNotFound", "message": "CANARY"}}), "name and version"),
    (Reply(429, {"error": {"code": "Throttled", "message": "CANARY"}}), "asked too often"),
    (Reply(200, {"value": "x"}), "without `attributes`"),
]


@pytest.mark.parametrize(("reply", "said"), VAULT_FAULTS, ids=[said for _, said in VAULT_FAULTS])
def test_the_documented_errors_of_a_key_vault(world: World, keyvault: KeyVault, reply: Reply, said: str) -> None:
    """Each says what to do."""
    keyvault.faults.append(reply)
    assert said in world.refused(fetch, VAULT)


def test_a_source_that_asks_for_nothing_and_an_identity_of_no_kind(world: World) -> None:
    """Both are configuration's mistakes; the provider holds all the same."""
    assert "asked for nothing" in world.refused(fetch, AzureSource(AzureIdentity()))
    assert "kind of identity" in world.refused(fetch, replace(MANAGED, identity=AzureIdentity("system")))
