"""AWS: keys that were given, and those of a role."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from credentials.clouds.aws import KEY, KEY_ID, NAMESPACE, ROLE, Sts, error, sign
from credentials.clouds.server import Reply

from egress.config.secret_sources import AwsSource, EnvSource
from egress.credentials.providers import aws

if TYPE_CHECKING:
    from credentials.clouds.world import World

    from egress.credentials.providers.interface import Fetched, Means

GIVEN = AwsSource(KEY_ID, EnvSource("AWS_KEY"))
ROLED = replace(GIVEN, role_arn=ROLE)
OWN_SIGNING = importlib.util.find_spec("egress.credentials.sigv4") is not None


async def fetch(name: str, source: AwsSource, means: Means) -> Fetched:
    """The provider, with the tests' own signing where the product has none."""
    return await aws.fetch(name, source, means, sign=None if OWN_SIGNING else sign)


@pytest.fixture
def sts(world: World) -> Sts:
    """STS in us-east-1."""
    world.env["AWS_KEY"] = KEY
    return world.add(Sts(world.now), "sts.us-east-1.amazonaws.com")


def test_keys_that_were_given_are_what_a_credential_process_prints(world: World, sts: Sts) -> None:
    """On one line; nobody is asked for them."""
    fetched = world.fetch(fetch, GIVEN)
    content: dict[str, Any] = {"Version": 1, "AccessKeyId": KEY_ID, "SecretAccessKey": KEY}
    assert (json.loads(fetched.value.reveal()), fetched.expires) == (content, None)
    world.env["AWS_TOKEN"] = "session//given=="
    fetched = world.fetch(fetch, replace(GIVEN, session_token=EnvSource("AWS_TOKEN")))
    assert json.loads(fetched.value.reveal()) == content | {"SessionToken": "session//given=="}
    assert sts.asked == []


def test_a_role_is_assumed_with_a_signed_request(world: World, sts: Sts) -> None:
    """The keys of the role end when STS says."""
    fetched = world.fetch(fetch, ROLED)
    assert fetched.expires == 10_000_000_000
    assert json.loads(fetched.value.reveal()) == {
        "Version": 1,
        "AccessKeyId": "ASIAIOSFODNN7EXAMPLE",
        "SecretAccessKey": "temporary/key+&=",
        "SessionToken": "session//token==",
        "Expiration": "2286-11-20T17:46:40Z",
    }
    form = sts.asked[0].form
    assert (form["RoleSessionName"], form["DurationSeconds"]) == ("egress", "3600")
    assert not {"ExternalId", "Policy"} & set(form)


def test_what_narrows_a_session_is_sent(world: World, sts: Sts) -> None:
    """External id, session policy, name and time."""
    sts.external_id = "partner:42"
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    source = replace(
        ROLED, external_id="partner:42", session_policy=policy, session_name="agent-7", duration_seconds=900
    )
    world.fetch(fetch, source)
    form = sts.asked[0].form
    assert (form["Policy"], form["RoleSessionName"], form["DurationSeconds"]) == (policy, "agent-7", "900")
    assert "check `external_id`" in world.refused(fetch, replace(source, external_id="partner:43"))


def test_temporary_keys_assume_a_role_with_their_token(world: World, sts: Sts) -> None:
    """The token is signed with the rest."""
    sts.token = world.env["AWS_TOKEN"] = "session//given=="
    source = replace(ROLED, session_token=EnvSource("AWS_TOKEN"))
    assert world.fetch(fetch, source).expires is not None
    assert "(InvalidClientTokenId)" in world.refused(fetch, ROLED)


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-central-1", "sts.eu-central-1.amazonaws.com"),
        ("cn-north-1", "sts.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", "sts.us-gov-west-1.amazonaws.com"),
    ],
)
def test_a_region_has_its_own_endpoint(world: World, sts: Sts, region: str, host: str) -> None:
    """And its name is part of the signature."""
    regional = world.add(Sts(world.now, region), host)
    assert world.fetch(fetch, replace(ROLED, region=region)).expires is not None
    assert (len(regional.asked), sts.asked) == (1, [])


def test_an_endpoint_of_ones_own_is_asked_over_tls(world: World, sts: Sts) -> None:
    """A VPC's endpoint, say."""
    own = world.add(Sts(world.now), "vpce-1.sts.example")
    source = replace(ROLED, endpoint="https://vpce-1.sts.example/")
    assert world.fetch(fetch, source).expires is not None
    assert "without TLS" in world.refused(fetch, replace(source, endpoint="http://vpce-1.sts.example/"))
    assert (len(own.asked), sts.asked) == (1, [])


@pytest.mark.parametrize("region", ["", "us-east-1.collector.example/", "us_east_1", "US-EAST-1", "a/b-1"])
def test_a_region_is_part_of_a_host_name(world: World, sts: Sts, region: str) -> None:
    """It leads to AWS, whatever is written."""
    assert "no such region" in world.refused(fetch, replace(ROLED, region=region))
    assert (sts.asked, world.dialled) == ([], [])


@pytest.mark.parametrize("key_id", ["", "AKIA", 'AKIA"IOSFODNN7EXAM', "AKIA IOSFODNN7 EXAMPLE", "a" * 129])
def test_an_access_key_id_looks_like_one(world: World, sts: Sts, key_id: str) -> None:
    """It goes into a header and into JSON."""
    assert "no such access key" in world.refused(fetch, replace(ROLED, access_key_id=key_id))
    assert sts.asked == []


def test_a_key_that_is_wrong_and_a_clock_that_is(world: World, sts: Sts) -> None:
    """STS says the same of both."""
    world.env["AWS_KEY"] = "another-secret-key"
    assert "(SignatureDoesNotMatch)" in world.refused(fetch, ROLED)
    world.env["AWS_KEY"] = KEY
    sts.clock = lambda: world.time + 3600
    assert "this machine's clock" in world.refused(fetch, ROLED)


ERRORS = [
    (error("AccessDenied"), "sts:AssumeRole"),
    (error("ExpiredToken"), "give new keys"),
    (error("RegionDisabledException"), "switch STS on"),
    (error("MalformedPolicyDocument", 400), "check `session_policy`"),
    (error("PackedPolicyTooLarge", 400), "shorten"),
    (error("Throttling", 400), "asked too often"),
    (error("CANARY"), "answered 403;"),
    (Reply(500, b"CANARY"), "the fault is its own"),
    (Reply(503, b"<html>CANARY</html>"), "the fault is its own"),
    (Reply(200, b"CANARY"), "not the XML"),
    (Reply(200, b"<a/>"), "without keys"),
]


@pytest.mark.parametrize(("reply", "said"), ERRORS, ids=[said for _, said in ERRORS])
def test_the_documented_errors(world: World, sts: Sts, reply: Reply, said: str) -> None:
    """Codes are repeated if AWS documents them; messages are not."""
    sts.faults.append(reply)
    assert said in world.refused(fetch, ROLED)


def entity(declaration: str) -> bytes:
    """An answer whose key is `&x;`, declared like this."""
    keys = "<AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId><SecretAccessKey>&x;</SecretAccessKey>"
    more = "<SessionToken>t</SessionToken><Expiration>2286-11-20T17:46:40Z</Expiration>"
    result = f"<AssumeRoleResult><Credentials>{keys}{more}</Credentials></AssumeRoleResult>"
    return f'{declaration}<AssumeRoleResponse xmlns="{NAMESPACE}">{result}</AssumeRoleResponse>'.encode()


HOSTILE = {
    "an entity": entity('<!DOCTYPE a [<!ENTITY x "CANARY">]>'),
    "a file": entity('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
    "an entity in UTF-16": entity('<!DOCTYPE a [<!ENTITY x "CANARY">]>').decode().encode("utf-16"),
    "an entity in UTF-7": b"<?xml version='1.0' encoding='UTF-7'?>" + entity("+ADwAIQ-DOCTYPE a+AD4-"),
    "an entity without a declaration": entity(""),
    "deep": b"<a>" * 100_000,
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_xml_that_declares_anything_is_not_parsed(world: World, sts: Sts, body: bytes) -> None:
    """Entities grow without bound, and can name files."""
    sts.faults.append(Reply(200, body))
    assert "not the XML" in world.refused(fetch, ROLED)


@pytest.mark.parametrize(
    ("expiration", "said"),
    [("2016-07-11T22:14:10Z", "has expired"), ("soon", "cannot be read"), ("2286-13-20T17:46:40Z", "does not exist")],
)
def test_a_time_that_is_over_or_none(world: World, sts: Sts, expiration: str, said: str) -> None:
    """Keys without an end are not a role's."""
    sts.expiration = expiration
    assert said in world.refused(fetch, ROLED)
