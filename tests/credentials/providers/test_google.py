"""Google Cloud: service account keys, workload identity federation, and the metadata server."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from credentials.clouds.google import ACCOUNT, AUDIENCE, CLOUD_PLATFORM, Credentials, Exchange, Metadata, OAuth
from credentials.clouds.server import Fixed, Reply
from credentials.clouds.tokens import KEY, OTHER_KEY, pem, refusal
from credentials.clouds.world import written
from cryptography.hazmat.primitives.serialization import PrivateFormat

from egress.config.secret_sources import EnvSource, GoogleSource
from egress.credentials.providers.google import fetch

if TYPE_CHECKING:
    from pathlib import Path

    from credentials.clouds.world import World

READ = "https://www.googleapis.com/auth/devstorage.read_only"
ACCOUNT_KEY = {
    "type": "service_account",
    "project_id": "project-1",
    "private_key_id": "key-1",
    "private_key": pem(KEY, PrivateFormat.PKCS8),
    "client_email": ACCOUNT,
    "token_uri": "https://oauth2.googleapis.com/token",
}
FEDERATED = {
    "type": "external_account",
    "audience": AUDIENCE,
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.googleapis.com/v1/token",
}
IMPERSONATION = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"


@pytest.fixture
def oauth(world: World) -> OAuth:
    """The token endpoint for service accounts."""
    return world.add(OAuth(world.now), "oauth2.googleapis.com")


def keyed(folder: Path, **change: Any) -> GoogleSource:
    """A source with a service account's key, as the console hands it out but for `change`."""
    return GoogleSource(key=written(folder, "key.json", json.dumps(ACCOUNT_KEY | change, indent=2)))


def test_a_service_accounts_key_signs_for_a_token(world: World, oauth: OAuth, tmp_path: Path) -> None:
    """For the scopes of the source, which are one claim."""
    fetched = world.fetch(fetch, keyed(tmp_path))
    assert (fetched.value.reveal(), fetched.expires) == (f"ya29.{CLOUD_PLATFORM}", world.time + 3599)
    both = replace(keyed(tmp_path), scopes=(READ, CLOUD_PLATFORM))
    assert world.fetch(fetch, both).value.reveal() == f"ya29.{READ} {CLOUD_PLATFORM}"
    assert len(oauth.asked) == 2


def test_a_key_may_be_one_line_of_the_environment(world: World, oauth: OAuth) -> None:
    """JSON needs no line breaks."""
    world.env["KEY"] = json.dumps(ACCOUNT_KEY)
    assert world.fetch(fetch, GoogleSource(key=EnvSource("KEY"))).value.reveal().startswith("ya29.")
    assert len(oauth.asked) == 1


KEYS: list[tuple[dict[str, Any], str]] = [
    ({"type": "authorized_user"}, "another JSON file"),
    ({"token_uri": "http://oauth2.googleapis.com/token"}, "without TLS"),
    ({"token_uri": "http://127.0.0.1:1/token"}, "without TLS"),
    ({"token_uri": "https://collector.example/token"}, "has no address"),
    ({"private_key": "CANARY"}, "RSA key of 2048 bits"),
    ({"private_key": pem(OTHER_KEY)}, "(invalid_grant)"),
    ({"private_key_id": "key-2"}, "(invalid_grant)"),
    ({"client_email": None}, "without `client_email`"),
]


@pytest.mark.parametrize(("change", "said"), KEYS, ids=[f"{list(change)} {said}" for change, said in KEYS])
def test_a_key_that_is_not_one_of_a_service_account(
    world: World, oauth: OAuth, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    """A token that it signs is for the audience in the key, so one for elsewhere is worth nothing here."""
    assert said in world.refused(fetch, keyed(tmp_path, **change))
    assert len(oauth.asked) <= 1


def test_a_key_file_that_is_no_json(world: World, tmp_path: Path) -> None:
    """It is not quoted."""
    source = GoogleSource(key=written(tmp_path, "key.json", "CANARY"))
    assert "not the JSON of one" in world.refused(fetch, source)


def test_a_clock_that_is_wrong(world: World, oauth: OAuth, tmp_path: Path) -> None:
    """The service's own time counts."""
    oauth.clock = lambda: world.time - 7200
    assert "(invalid_grant)" in world.refused(fetch, keyed(tmp_path))


@pytest.fixture
def exchange(world: World) -> Exchange:
    """The Security Token Service, and what comes after it."""
    world.add(Credentials(), "iamcredentials.googleapis.com")
    return world.add(Exchange(), "sts.googleapis.com")


def federated(folder: Path, source: Any, **change: Any) -> GoogleSource:
    """A source with a credential configuration whose token comes from `source`."""
    content = FEDERATED | {"credential_source": source} | change
    return GoogleSource(config=written(folder, "config.json", json.dumps(content, indent=2)).path)


def token_file(folder: Path, text: str = "eyJ.subject.x\n") -> dict[str, str]:
    """A `credential_source` that is a file."""
    return {"file": str(written(folder, "token", text).path)}


def test_a_token_from_a_file_is_exchanged(world: World, exchange: Exchange, tmp_path: Path) -> None:
    """For the source's own scopes, where no service account stands behind it."""
    source = replace(federated(tmp_path, token_file(tmp_path)), scopes=(READ,))
    fetched = world.fetch(fetch, source)
    assert (fetched.value.reveal(), fetched.expires) == (f"ya29.federated.{READ}", world.time + 3600)
    assert len(exchange.asked) == 1


def test_the_exchanged_token_becomes_that_of_a_service_account(
    world: World, exchange: Exchange, tmp_path: Path
) -> None:
    """The scopes are those of the second token then."""
    source = federated(
        tmp_path,
        token_file(tmp_path),
        service_account_impersonation_url=IMPERSONATION,
        service_account_impersonation={"token_lifetime_seconds": 1800},
    )
    fetched = world.fetch(fetch, replace(source, scopes=(READ,)))
    assert (fetched.value.reveal(), fetched.expires) == (f"ya29.robot.{READ}", 10_000_000_000)
    assert len(exchange.asked) == 1


def test_a_token_from_a_url_is_exchanged(world: World, exchange: Exchange, tmp_path: Path) -> None:
    """With the headers that the configuration wants, and a token inside of JSON."""
    local = world.add(Fixed(Reply(200, {"value": "eyJ.subject.x"})), "127.0.0.1", secure=False)
    shape = {"type": "json", "subject_token_field_name": "value"}
    place = {"url": "http://127.0.0.1/token", "headers": {"Metadata": "True"}, "format": shape}
    assert world.fetch(fetch, federated(tmp_path, place)).value.reveal().startswith("ya29.federated.")
    assert local.asked[0].headers["metadata"] == "True"
    assert len(exchange.asked) == 1


SOURCES: list[tuple[Any, str]] = [
    ({}, "either `file` or `url`"),
    ({"file": "/a", "url": "https://a.example/"}, "either `file` or `url`"),
    ({"environment_id": "aws1", "url": "https://a.example/"}, "either `file` or `url`"),
    ({"executable": {"command": "/bin/true"}}, "either `file` or `url`"),
    ({"file": "/nowhere/token"}, "no such leaf"),
    ({"url": "http://collector.example/"}, "plain http"),
    ("text", "without `credential_source`"),
]


@pytest.mark.parametrize(("place", "said"), SOURCES, ids=[f"{place}" for place, _ in SOURCES])
def test_a_credential_source_that_is_not_taken(
    world: World, exchange: Exchange, tmp_path: Path, place: Any, said: str
) -> None:
    """No program is run because a file says so; that is what `command` is for."""
    assert said in world.refused(fetch, federated(tmp_path, place))
    assert exchange.asked == []


CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"type": "service_account"}, "workload identity pool"),
    ({"workforce_pool_user_project": "1"}, "workload identity pool"),
    ({"audience": None}, "without `audience`"),
    ({"audience": "//iam.googleapis.com/other"}, "(invalid_target)"),
    ({"token_url": "https://collector.example/v1/token"}, "`token_url`"),
    ({"token_url": "http://sts.googleapis.com/v1/token"}, "`token_url`"),
    ({"token_url": "https://googleapis.com.collector.example/"}, "`token_url`"),
    ({"service_account_impersonation_url": "https://collector.example/"}, "`service_account_impersonation_url`"),
]


@pytest.mark.parametrize(("change", "said"), CONFIGS, ids=[f"{change}" for change, _ in CONFIGS])
def test_a_configuration_that_sends_tokens_elsewhere_does_not_work(
    world: World, exchange: Exchange, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    """Such files are passed around; Google asks to check the ones from others."""
    world.add(exchange, "collector.example")
    assert said in world.refused(fetch, federated(tmp_path, token_file(tmp_path), **change))
    assert (world.names["collector.example"], 443) not in world.dialled


def test_a_token_that_the_pool_does_not_trust_and_a_role_that_is_missing(
    world: World, exchange: Exchange, tmp_path: Path
) -> None:
    """Both say what to grant."""
    assert "(invalid_grant)" in world.refused(fetch, federated(tmp_path, token_file(tmp_path, "eyJ.other.x")))
    source = federated(tmp_path, token_file(tmp_path), service_account_impersonation_url=IMPERSONATION)
    denied = Fixed(Reply(403, {"error": {"status": "PERMISSION_DENIED", "message": "CANARY"}}))
    world.add(denied, "iamcredentials.googleapis.com")
    assert "Service Account Token Creator" in world.refused(fetch, source)
    assert len(exchange.asked) == 2


@pytest.fixture
def metadata(world: World) -> Metadata:
    """A machine's metadata server."""
    return world.add(Metadata(), "169.254.169.254", secure=False)


def test_a_machine_gets_a_token_from_its_metadata_server(world: World, metadata: Metadata) -> None:
    """For the scopes of the source, or for the machine's own."""
    fetched = world.fetch(fetch, GoogleSource(scopes=(READ, CLOUD_PLATFORM)))
    assert (fetched.value.reveal(), fetched.expires) == (f"ya29.{READ},{CLOUD_PLATFORM}", world.time + 3000)
    assert world.fetch(fetch, GoogleSource(scopes=())).value.reveal() == "ya29.default"
    assert len(metadata.asked) == 2


ANSWERS = [
    (Reply(200, {"access_token": "CANARY", "expires_in": 1, "token_type": "Bearer"}), "is not Google's"),
    (Reply(404, b"CANARY", {"Metadata-Flavor": "Google"}), "give the machine a service account"),
    (Reply(403, b"CANARY", {"Metadata-Flavor": "Google"}), "access scopes"),
    (Reply(503, b"CANARY", {"Metadata-Flavor": "Google"}), "the fault is its own"),
    (Reply(200, b"CANARY", {"Metadata-Flavor": "Google"}), "not a JSON object"),
]


@pytest.mark.parametrize(("reply", "said"), ANSWERS, ids=[said for _, said in ANSWERS])
def test_an_answer_must_say_that_it_is_googles(world: World, metadata: Metadata, reply: Reply, said: str) -> None:
    """Another cloud's service listens at the same address."""
    metadata.faults.append(reply)
    assert said in world.refused(fetch, GoogleSource())


def test_the_documented_errors_of_the_token_endpoint(world: World, oauth: OAuth, tmp_path: Path) -> None:
    """Codes are repeated, descriptions are not."""
    for reply, said in [
        (refusal("invalid_scope"), "(invalid_scope)"),
        (Reply(500, b"CANARY"), "the fault is its own"),
        (Reply(200, {"id_token": "CANARY"}), "without `token_type`"),
    ]:
        oauth.faults.append(reply)
        assert said in world.refused(fetch, keyed(tmp_path))
