"""The clouds' tools by their recipes: the documented requests of az, aws and gcloud, and servers that check them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from rig.proxy import port_of
from rig.recipes import policies, sandbox
from rig.services import Answer, Services, behind
from rig.signatures import Came, signed_by

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.origins import Origins
    from rig.proxy import Proxy
    from rig.services import Asked

JSON = {"Content-Type": "application/json; charset=utf-8"}
TENANT = "99999999-8888-7777-6666-555555555555"
SUBSCRIPTION = "/subscriptions/11111111-2222-3333-4444-555555555555"
ARM, LOGIN = "management.azure.com", "login.microsoftonline.com"
FETCHED, SIGNED_IN = policies("azure.md")
(AWS,) = policies("aws.md")
(GOOGLE,) = policies("gcloud.md")
VALUE = "a-token-or-secret-0123456789-real~value"
ISSUED = "eyJ0eXAiOiJKV1QifQ.an-access-token-for-an-hour.sig"


def said(**words: object) -> Answer:
    """An answer in JSON."""
    return Answer(200, json.dumps(words).encode(), JSON)


def test_a_token_that_the_proxy_fetched_is_put_on_arm_requests(
    start: Callable[..., Proxy], origin: Origins, tmp_path: Path
) -> None:
    """As `az rest --skip-authorization-header` sends them, and over whatever a client brings."""
    port = port_of(origin)
    services = Services({ARM: behind(lambda _: said(value=[]), f"Bearer {VALUE}", challenge="Bearer")})
    inside = sandbox(start, tmp_path / "home", FETCHED, port, {"arm": VALUE})
    url = f"https://{ARM}:{port}{SUBSCRIPTION}/resourceGroups?api-version=2021-04-01"
    with origin.behaving(services.behave), inside.http() as client:
        assert client.get(url).status_code == 200
        assert client.get(url.upper().replace("HTTPS", "https")).status_code == 200
        assert client.get(url, headers={"Authorization": "Bearer own"}).status_code == 200
        assert client.post(url).status_code == 403
        assert client.get(f"https://{ARM}:{port}/subscriptions/other/resourceGroups").status_code == 403
    assert inside.refused == ["method-not-allowed", "path-not-allowed"]


def entra(asked: Asked) -> Answer:
    """The endpoints that MSAL asks for a service principal."""
    if asked.path.endswith("/discovery/instance"):
        return said(tenant_discovery_endpoint="https://unused", metadata=[])
    if asked.path.endswith("/openid-configuration"):
        return said(token_endpoint=f"https://{LOGIN}/{TENANT}/oauth2/v2.0/token")
    form = {name: values[0] for name, values in parse_qs(asked.body.decode(), strict_parsing=True).items()}
    if form["client_secret"] != VALUE:
        return Answer(401, b'{"error": "invalid_client"}', JSON)
    return said(token_type="Bearer", expires_in=3599, access_token=ISSUED)


def test_a_service_principal_signs_in_with_a_placeholder(
    start: Callable[..., Proxy], origin: Origins, tmp_path: Path
) -> None:
    """As `az login --service-principal` and azure-identity do; the token that comes back is the client's own."""
    port = port_of(origin)
    services = Services({LOGIN: entra, ARM: behind(lambda _: said(value=[]), f"Bearer {ISSUED}", challenge="Bearer")})
    inside = sandbox(start, tmp_path / "home", SIGNED_IN, port, {"principal": VALUE})
    root = f"https://{LOGIN}:{port}"
    form = {"client_id": "app", "grant_type": "client_credentials", "scope": "https://management.azure.com/.default"}
    form |= {"client_info": "1", "client_secret": inside.held["AZURE_CLIENT_SECRET"]}
    with origin.behaving(services.behave), inside.http() as client:
        discovery = {"api-version": "1.1", "authorization_endpoint": f"{root}/{TENANT}/oauth2/v2.0/authorize"}
        assert client.get(f"{root}/common/discovery/instance", params=discovery).status_code == 200
        assert client.get(f"{root}/{TENANT}/v2.0/.well-known/openid-configuration").status_code == 200
        token = client.post(f"{root}/{TENANT}/oauth2/v2.0/token", data=form).json()["access_token"]
        bearer = {"Authorization": f"Bearer {token}"}
        arm = f"https://{ARM}:{port}"
        assert client.get(f"{arm}/subscriptions?api-version=2022-12-01", headers=bearer).status_code == 200
        assert client.get(f"{arm}{SUBSCRIPTION}/resourceGroups", headers=bearer).status_code == 200
        # The secret of the sandbox's own, or the placeholder for another tenant.
        stolen = client.post(f"{root}/{TENANT}/oauth2/v2.0/token", data={**form, "client_secret": "own"})
        assert stolen.status_code == 403
        assert client.post(f"{root}/another/oauth2/v2.0/token", data=form).status_code == 403
    assert inside.refused == ["placeholder-required", "path-not-allowed"]
    assert VALUE not in repr(inside.proxy.ledger.events)


S3 = "acme-reports.s3.eu-west-1.amazonaws.com"
SQS = "sqs.eu-west-1.amazonaws.com"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
EMPTY = hashlib.sha256(b"").hexdigest()


def by_placeholder(service: str, **fields: str) -> dict[str, str]:
    """The fields of a request that was signed by the page's keys, which open nothing."""
    dated = {"X-Amz-Date": "20200101T000000Z", **{name.replace("_", "-"): value for name, value in fields.items()}}
    names = ";".join(sorted(["host", *map(str.lower, dated)]))
    credential = f"AKIAPLACEHOLDER00000/20200101/eu-west-1/{service}/aws4_request"
    signature = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={'0' * 64}"
    return {**dated, "Authorization": signature}


def checked_by_aws(asked: Asked) -> Answer:
    """A server of AWS's: who signs with other keys gets 403."""
    fields = tuple(asked.fields.items())
    came = Came(asked.method, asked.path, asked.query, asked.fields["host"], fields, asked.body)
    try:
        claim = signed_by(came, SECRET)
    except AssertionError:
        return Answer(403, b"SignatureDoesNotMatch")
    return Answer(200, claim["key"].encode(), {"Content-Type": "application/xml"})


def test_requests_that_placeholder_keys_signed_are_signed_anew(
    start: Callable[..., Proxy], origin: Origins, tmp_path: Path
) -> None:
    """Listing and writing in S3 (its default: a trailer, an unsigned payload), and a message for SQS."""
    port = port_of(origin)
    services = Services({S3: checked_by_aws, SQS: checked_by_aws})
    inside = sandbox(start, tmp_path / "home", AWS, port, {"aws": f"AKIAREAL000000000000:{SECRET}"})
    trailing = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    put = {"X_Amz_Content_Sha256": trailing, "X_Amz_Trailer": "x-amz-checksum-crc32"}
    coded = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"
    message = json.dumps({"QueueUrl": "https://sqs/1/q", "MessageBody": "hi"}).encode()
    target = {"X_Amz_Target": "AmazonSQS.SendMessage"}
    with origin.behaving(services.behave), inside.http() as client:
        answers = [
            client.get(
                f"https://{S3}:{port}/?list-type=2&prefix=daily%2F&encoding-type=url",
                headers=by_placeholder("s3", X_Amz_Content_Sha256=EMPTY),
            ),
            client.put(
                f"https://{S3}:{port}/daily/1.csv",
                content=coded,
                headers={**by_placeholder("s3", **put), "Content-Encoding": "aws-chunked"},
            ),
            client.post(
                f"https://{SQS}:{port}/",
                content=message,
                headers={**by_placeholder("sqs", **target), "Content-Type": "application/x-amz-json-1.0"},
            ),
        ]
        elsewhere = client.get(f"https://{SQS}:{port}/", headers=by_placeholder("sqs"))
    assert [answer.text for answer in answers] == ["AKIAREAL000000000000"] * 3
    assert elsewhere.status_code == 403
    assert inside.refused == ["method-not-allowed"]
    assert all(b"AKIAPLACEHOLDER" not in repr(asked).encode() for asked in services.asked)


def test_a_placeholder_token_of_gcloud_becomes_the_fetched_one(
    start: Callable[..., Proxy], origin: Origins, tmp_path: Path
) -> None:
    """As gcloud sends what CLOUDSDK_AUTH_ACCESS_TOKEN says; for objects' names with slashes too."""
    port = port_of(origin)
    storage, compute = "storage.googleapis.com", "compute.googleapis.com"
    google = behind(lambda _: said(items=[]), f"Bearer {VALUE}", challenge="Bearer")
    services = Services({storage: google, compute: google})
    inside = sandbox(start, tmp_path / "home", GOOGLE, port, {"cloud": VALUE})
    held = {"Authorization": f"Bearer {inside.held['CLOUDSDK_AUTH_ACCESS_TOKEN']}"}
    root = f"https://{storage}:{port}"
    with origin.behaving(services.behave), inside.http() as client:
        assert client.get(f"{root}/storage/v1/b/acme-reports/o?prefix=daily%2F", headers=held).status_code == 200
        assert client.get(f"{root}/download/storage/v1/b/acme/o/a%2Fb.csv?alt=media", headers=held).status_code == 200
        machines = f"https://{compute}:{port}/compute/v1/projects/acme/zones/europe-west1-b/instances"
        assert client.get(machines, headers=held).status_code == 200
        assert client.post(machines, headers=held).status_code == 403
        assert client.get(machines).status_code == 403
    assert {asked.credential for asked in services.asked} == {f"Bearer {VALUE}"}
    assert inside.refused == ["method-not-allowed", "placeholder-required"]
