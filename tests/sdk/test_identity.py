"""The SDKs of three clouds sign in unchanged, get placeholders, and reach a service that sees the real credentials."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from harness.origins import answer_ok
from rig.identities import ARM, AWS_SECRET, EMAIL, PROJECT, VALUES, VAULT, placeholder
from rig.modes import HOST, Mode
from rig.signatures import read, signed_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins, Stream
    from rig.modes import Site

    type Run = Callable[..., Any]

pytestmark = pytest.mark.e2e
DIRECTLY_OR_NOT = pytest.mark.parametrize("through", [False, True], ids=["directly", "through the proxy"])


def authorization(origin: Origins) -> list[bytes]:
    """What the service was sent."""
    return [
        value for record in origin.connections for sent in record.requests for value in sent.values(b"authorization")
    ]


@DIRECTLY_OR_NOT
@pytest.mark.parametrize("kind", ["managed", "default"])
def test_azure_by_the_endpoint_of_app_service(
    site: Site, origin: Origins, run: Run, exported: dict[str, str], kind: str, *, through: bool
) -> None:
    """ManagedIdentityCredential and DefaultAzureCredential, by what the environment says."""
    url = f"https://{HOST}:{site.port}/arm/x"
    with origin.behaving(answer_ok):
        told = run("azure", kind, f"{ARM}/.default", url, through=through, **exported)
    assert (told["status"], told["body"]) == (200, "ok allowed")
    assert told["token"] == placeholder(site.proxy, "arm")
    assert told["expires_on"] > time.time() + 60
    assert authorization(origin) == [f"Bearer {VALUES['ARM']}".encode()]


def test_azure_by_the_metadata_service(site: Site, origin: Origins, run: Run) -> None:
    """169.254.169.254, asked through the proxy."""
    with origin.behaving(answer_ok):
        told = run("azure", "managed", f"{VAULT}/.default", f"https://{HOST}:{site.port}/vault/x", through=True)
    assert told["token"] == placeholder(site.proxy, "vault")
    assert authorization(origin) == [f"Bearer {VALUES['VAULT']}".encode()]
    assert "169.254.169.254" in {row.host for row in site.proxy.ledger.decisions}


@DIRECTLY_OR_NOT
def test_azure_takes_a_resource_without_a_secret_for_one_it_may_not_have(
    run: Run, exported: dict[str, str], *, through: bool
) -> None:
    """The SDK raises what it raises there, and repeats why."""
    scope = "https://graph.microsoft.com/.default"
    told = run("azure", "managed", scope, "https://never.test", through=through, **exported)
    assert "no secret for this resource" in told["error"]


def test_aws_by_the_endpoint_of_containers(site: Site, origin: Origins, run: Run, exported: dict[str, str]) -> None:
    """boto3 puts an object and gets it back; the service finds each signed by the real keys, and no other in it."""
    with origin.behaving(keep_objects):
        told = run("aws", f"https://{HOST}:{site.port}", **exported)
    assert told["got"] == "the object"
    assert told["secret"] == placeholder(site.proxy, "keys")
    claims = [signed_by(read(one, Mode.TLS1), AWS_SECRET) for one in one_by_one(origin)]
    assert {(claim["key"], claim["service"], claim["region"]) for claim in claims} == {("ASIAREAL", "s3", "eu-west-1")}
    assert len(claims) == 2
    received = b"".join(bytes(record.received) for record in origin.connections)
    for absent in (told["key"], told["secret"], told["token"], AWS_SECRET):
        assert absent.encode() not in received
    assert {row.secrets for row in site.proxy.ledger.decisions if row.host == HOST} == {("keys",)}


@DIRECTLY_OR_NOT
def test_google_by_the_metadata_server(
    site: Site, origin: Origins, run: Run, exported: dict[str, str], *, through: bool
) -> None:
    """google.auth.default() finds the machine's account and project, and its sessions reach the service."""
    with origin.behaving(answer_ok):
        told = run("google", f"https://{HOST}:{site.port}/cloud/x", through=through, **exported)
    assert told["kind"] == "google.auth.compute_engine.credentials"
    assert (told["email"], told["project"]) == (EMAIL, PROJECT)
    assert told["token"] == placeholder(site.proxy, "cloud")
    assert told["status"] == 200
    assert authorization(origin) == [f"Bearer {VALUES['CLOUD']}".encode()]


def test_every_question_is_a_row(site: Site, origin: Origins, run: Run, exported: dict[str, str]) -> None:
    """What was given to an SDK can be read in the audit, and no value of a secret stands there."""
    with origin.behaving(answer_ok):
        run("google", f"https://{HOST}:{site.port}/cloud/x", **exported)
    given = [row for row in site.proxy.ledger.decisions if row.reason == "identity-placeholder"]
    assert any((row.path or "").endswith("/token") for row in given)
    assert all((row.verdict, row.address, row.sandbox) == ("allow", None, "default") for row in given)
    assert all(value not in repr(site.proxy.ledger.events) for value in VALUES.values())


def keep_objects(stream: Stream) -> None:
    """Take one object, and give it back."""
    while head := stream.request():
        if head.values(b"expect"):
            stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        stream.body(head)
        body = b"the object" if head.line.startswith(b"GET ") else b""
        stream.send(b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: %d\r\n\r\n' % len(body) + body)


def one_by_one(origin: Origins) -> list[Any]:
    """A connection for each request, as the reader of signatures takes them."""
    return [replace(record, requests=[sent]) for record in origin.connections for sent in record.requests]
