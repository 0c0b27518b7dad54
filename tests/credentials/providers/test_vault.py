"""HashiCorp Vault: what is asked, how logins live, and what is wrong with an answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from credentials.clouds.server import Reply
from credentials.clouds.vault import Secret, Token, Vault, errors
from credentials.clouds.world import written

from egress.config.secret_sources import EnvSource, VaultAppRole, VaultKubernetes, VaultSource, VaultToken
from egress.credentials.providers.vault import fetch

if TYPE_CHECKING:
    from pathlib import Path

    from credentials.clouds.world import World

    from egress.credentials.providers.interface import Fetched

ADDRESS = "https://vault.example"
BY_TOKEN = VaultSource(ADDRESS, "team/api", VaultToken(EnvSource("VAULT_TOKEN")))
BY_ROLE = replace(BY_TOKEN, auth=VaultAppRole("role-1", EnvSource("SECRET_ID")))


@pytest.fixture
def vault(world: World) -> Vault:
    """A Vault with one secret, one token and one AppRole."""
    service = world.add(Vault(world.now), "vault.example")
    service.secrets["secret/data/team/api"] = Secret({"value": "s3cret", "other": "0ther"})
    service.tokens["hvs.token-given"] = Token(None)
    service.roles["approle"] = {"role_id": "role-1", "secret_id": "secret-id-1"}
    world.env |= {"VAULT_TOKEN": "hvs.token-given", "SECRET_ID": "secret-id-1"}
    return service


def places(vault: Vault) -> list[str]:
    """What was asked, in short."""
    return [f"{asked.method} {asked.path.removeprefix('/v1/')}" for asked in vault.asked]


def test_a_field_of_the_newest_version_is_read_with_a_token(world: World, vault: Vault) -> None:
    """The token is looked up once, to know its end; a token without one is used from then on."""
    assert world.fetch(fetch, BY_TOKEN).value.reveal() == "s3cret"
    assert world.fetch(fetch, replace(BY_TOKEN, field="other")).value.reveal() == "0ther"
    read = "GET secret/data/team/api"
    assert places(vault) == ["GET auth/token/lookup-self", read, read]


def test_mount_path_and_namespace_are_those_of_the_source(world: World, vault: Vault) -> None:
    """A mount may have several segments, a path characters that a URL has not."""
    vault.namespace = "org/team"
    vault.secrets["kv/apps/data/a b?c"] = Secret({"value": "x"})
    source = replace(BY_TOKEN, address=f"{ADDRESS}/", mount="kv/apps", path="a b?c", namespace="org/team")
    assert world.fetch(fetch, source).value.reveal() == "x"
    assert vault.asked[-1].target == "/v1/kv/apps/data/a%20b%3Fc"


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", "../sys/seal", "a/../b", "a/./b", "a.", "a\n", "."])
def test_a_path_that_would_ask_for_something_else_is_refused(world: World, vault: Vault, path: str) -> None:
    """Dot segments and empty ones never reach Vault."""
    assert "such a path" in world.refused(fetch, replace(BY_TOKEN, path=path))
    assert "GET secret/data/team/api" not in places(vault)


def test_one_login_of_an_approle_serves_until_its_lease_ends(world: World, vault: Vault) -> None:
    """A secret id may be good for one login only, so the second fetch signs in with the token of the first."""
    vault.lease = {"lease_duration": 600, "renewable": False}
    for _ in range(3):
        world.fetch(fetch, BY_ROLE)
    assert vault.logins == 1
    world.time += 599
    world.fetch(fetch, BY_ROLE)
    assert vault.logins == 1
    world.time += 1
    world.fetch(fetch, BY_ROLE)
    assert vault.logins == 2
    # Nobody tried the token that is over.
    assert places(vault)[-2:] == ["POST auth/approle/login", "GET secret/data/team/api"]
    assert places(vault)[-3] == "GET secret/data/team/api"
    assert vault.asked[-3].headers["x-vault-token"] == "hvs.login-1"
    assert len(vault.asked) == 7


def test_a_login_is_renewed_in_the_second_half_of_its_lease(world: World, vault: Vault) -> None:
    """Fetches come often enough for that, and no new login is needed for days."""
    vault.lease = {"lease_duration": 400, "renewable": True}
    for _ in range(20):
        fetched = world.fetch(fetch, BY_ROLE)
        assert fetched.refresh_seconds is not None
        assert 0 < fetched.refresh_seconds <= 300
        world.time += fetched.refresh_seconds
        vault.tokens["hvs.login-1"].period = 400
    assert vault.logins == 1
    assert vault.tokens["hvs.login-1"].renewals > 5


def test_a_token_that_was_given_is_renewed_too(world: World, vault: Vault) -> None:
    """Periodic tokens live as long as somebody renews them."""
    token = vault.tokens["hvs.token-given"] = Token(world.time + 1000, period=1000)
    world.fetch(fetch, BY_TOKEN)
    world.time += 501
    world.fetch(fetch, BY_TOKEN)
    assert token.renewals == 1


def test_a_token_whose_file_changed_is_the_next_one_used(world: World, vault: Vault, tmp_path: Path) -> None:
    """Vault Agent replaces the token in its sink."""
    vault.tokens["hvs.second"] = Token(None)
    source = replace(BY_TOKEN, auth=VaultToken(written(tmp_path, "token", "hvs.token-given\n")))
    world.fetch(fetch, source)
    written(tmp_path, "token", "hvs.second\n")
    world.fetch(fetch, source)
    assert vault.asked[-1].headers["x-vault-token"] == "hvs.second"


def test_a_token_that_may_not_look_itself_up_still_reads(world: World, vault: Vault) -> None:
    """Without the default policy Vault refuses the question about the token, not the secret."""
    vault.faults.append(errors(403, "permission denied"))
    assert world.fetch(fetch, BY_TOKEN).value.reveal() == "s3cret"


@pytest.mark.parametrize("status", [400, 500, 503])
def test_a_login_that_cannot_be_renewed_is_used_to_its_end(world: World, vault: Vault, status: int) -> None:
    """Its maximum is reached, or Vault is busy: no reason to stop before."""
    world.fetch(fetch, BY_ROLE)
    world.time += 1900
    vault.faults.append(errors(status, "lease is not renewable"))
    assert world.fetch(fetch, BY_ROLE).value.reveal() == "s3cret"
    assert vault.logins == 1


def test_a_login_that_was_revoked_is_followed_by_one_new_login(world: World, vault: Vault) -> None:
    """Vault says the same of a token that is over and of a path that is forbidden, so it is asked which it is."""
    world.fetch(fetch, BY_ROLE)
    vault.tokens.clear()
    assert world.fetch(fetch, BY_ROLE).value.reveal() == "s3cret"
    assert vault.logins == 2


def test_a_path_that_is_forbidden_costs_no_login(world: World, vault: Vault) -> None:
    """Nor does a Vault that fails: a secret id may be good for a few logins only."""
    world.fetch(fetch, BY_ROLE)
    for status in (403, 404, 500, 503):
        vault.faults.append(errors(status, "CANARY"))
        assert f"answered {status}" in world.refused(fetch, BY_ROLE)
    assert world.fetch(fetch, BY_ROLE).value.reveal() == "s3cret"
    assert vault.logins == 1


def test_secrets_that_are_fetched_at_once_sign_in_once(world: World, vault: Vault) -> None:
    """At the start of the proxy all are; and a cancelled fetch holds up none of the others."""

    async def together() -> list[Fetched]:
        first = asyncio.ensure_future(fetch("api", BY_ROLE, world))
        await asyncio.sleep(0)
        first.cancel()
        sources = [replace(BY_ROLE, field=field) for field in ("value", "other", "value")]
        return await asyncio.gather(*[fetch("api", source, world) for source in sources])

    assert [fetched.value.reveal() for fetched in asyncio.run(together())] == ["s3cret", "0ther", "s3cret"]
    assert vault.logins <= 2
    vault.logins = 0
    asyncio.run(together())
    assert vault.logins == 0


def test_a_pod_signs_in_with_its_service_account_token(world: World, vault: Vault, tmp_path: Path) -> None:
    """The file is read at each login, since the kubelet rotates it."""
    vault.roles["k8s"] = {"role": "dev", "jwt": "eyJ.first.x"}
    vault.lease = {"lease_duration": 60, "renewable": False}
    token = written(tmp_path, "token", "eyJ.first.x")
    source = replace(BY_TOKEN, auth=VaultKubernetes("dev", token.path, mount="k8s"))
    assert world.fetch(fetch, source).value.reveal() == "s3cret"
    vault.roles["k8s"] = {"role": "dev", "jwt": "eyJ.second.x"}
    written(tmp_path, "token", "eyJ.second.x")
    world.time += 61
    assert world.fetch(fetch, source).value.reveal() == "s3cret"


def test_logins_are_shared_by_who_signs_in_alike_and_by_nobody_else(world: World, vault: Vault) -> None:
    """Two secrets of one role are one login; another namespace is another."""
    world.fetch(fetch, BY_ROLE)
    world.fetch(fetch, replace(BY_ROLE, field="other"))
    assert vault.logins == 1
    vault.namespace = "org"
    world.fetch(fetch, replace(BY_ROLE, namespace="org"))
    assert vault.logins == 2


def test_a_value_ends_when_its_version_is_deleted(world: World, vault: Vault) -> None:
    """`delete_version_after` says so in the version's metadata, with nine digits after the point."""
    vault.secrets["secret/data/team/api"].metadata = {"deletion_time": "2286-11-20T17:46:40.123456789Z"}
    assert world.fetch(fetch, BY_TOKEN).expires == 10_000_000_000
    vault.secrets["secret/data/team/api"].metadata = {"deletion_time": "2018-03-22T02:24:06.945319214Z"}
    assert "has expired" in world.refused(fetch, BY_TOKEN)


REFUSALS = [
    (errors(400, "CANARY"), "answered 400"),
    (errors(404), "check mount, path and namespace"),
    (errors(412), "answered 412"),
    (errors(429, "CANARY"), "asked too often"),
    (errors(500, "CANARY"), "answered 500"),
    (errors(503, "Vault is sealed"), "unseal Vault"),
    (Reply(200, b"<html>CANARY"), "not a JSON object"),
    (Reply(200, b"[" * 100_000), "not a JSON object"),
    (Reply(200, {"data": {"keys": []}}), "without `data`"),
    (Reply(204), "answered 204"),
    (Reply(307, b"", {"Location": "https://elsewhere.example/CANARY"}), "answered 307"),
]


@pytest.mark.parametrize(("reply", "said"), REFUSALS, ids=[said for _, said in REFUSALS])
def test_an_error_says_what_to_do_and_repeats_nothing(world: World, vault: Vault, reply: Reply, said: str) -> None:
    """The list of errors that Vault sends is not shown: it may hold what was sent to it."""
    world.fetch(fetch, BY_TOKEN)
    vault.faults.append(reply)
    assert said in world.refused(fetch, BY_TOKEN)


def test_the_role_that_is_refused_is_told_from_the_path(world: World, vault: Vault) -> None:
    """A login's 400 speaks of the role."""
    vault.roles.clear()
    assert "check the role" in world.refused(fetch, BY_ROLE)


VALUES = [({"other": "x"}, "no such field"), ({"value": 5}, "without `value`"), ({"value": "a\nb"}, "line break")]


@pytest.mark.parametrize(("data", "said"), VALUES, ids=[said for _, said in VALUES])
def test_a_value_must_be_there_and_fit_a_header(world: World, vault: Vault, data: dict[str, str], said: str) -> None:
    """A number is no token, and a line break would begin a header of its own."""
    vault.secrets["secret/data/team/api"].data = data
    assert said in world.refused(fetch, BY_TOKEN)


def test_a_destroyed_version_is_none(world: World, vault: Vault) -> None:
    """Even if an answer still held data."""
    vault.secrets["secret/data/team/api"].metadata = {"destroyed": True}
    assert "destroyed" in world.refused(fetch, BY_TOKEN)


def test_a_vault_is_asked_over_tls(world: World, vault: Vault) -> None:
    """A token never goes over a network in clear."""
    assert "without TLS" in world.refused(fetch, replace(BY_TOKEN, address="http://vault.example"))
    assert vault.asked == []
