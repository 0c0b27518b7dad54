"""What a signature is planned from: the client's own, the rule, the host's name; and the keys in a secret's value."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.credentials.aws_hosts import scope_of_host
from egress.credentials.aws_keys import read_keys
from egress.credentials.sigv4 import Scope
from egress.credentials.sigv4_plan import Sigv4Plan, plan_sigv4
from egress.policy import Host, Protocol, Reason, Refusal, Request, SigV4

HOSTS = [
    ("sqs.eu-west-1.amazonaws.com", Scope("eu-west-1", "sqs")),
    ("bucket.s3.us-gov-west-1.amazonaws.com", Scope("us-gov-west-1", "s3")),
    ("a.b.s3.dualstack.eu-central-1.amazonaws.com", Scope("eu-central-1", "s3")),
    ("id.execute-api.ap-southeast-2.amazonaws.com", Scope("ap-southeast-2", "execute-api")),
    ("dynamodb.cn-north-1.amazonaws.com.cn", Scope("cn-north-1", "dynamodb")),
    ("bedrock-runtime.us-east-1.amazonaws.com", Scope("us-east-1", "bedrock")),
    ("id.lambda-url.eu-west-1.on.aws", Scope("eu-west-1", "lambda")),
    ("bucket.s3.amazonaws.com", Scope("us-east-1", "s3")),
    ("sts.amazonaws.com", Scope("us-east-1", "sts")),
    ("eu-west-1.amazonaws.com", None),
    ("amazonaws.com", None),
    ("s3.eu-west-1.amazonaws.com.evil.example", None),
    ("s3.corp.example", None),
    ("notamazonaws.com", None),
]


@pytest.mark.parametrize(("host", "scope"), HOSTS)
def test_an_endpoint_tells_its_scope(host: str, scope: Scope | None) -> None:
    """Service and region by their place in the name; a name that is not AWS's tells nothing."""
    assert scope_of_host(host) == scope


SIGNED = "AWS4-HMAC-SHA256 Credential=AKIA/20200101/eu-west-1/sqs/aws4_request, SignedHeaders=host;x-own, Signature=0"
REQUEST = Request("agent", Protocol.HTTPS, Host("sqs.us-east-1.amazonaws.com"), 443, "POST", "/")
PRECEDENCE = [
    # the rule's region and service, the client's signature -> what is signed
    (None, None, "", Scope("us-east-1", "sqs")),
    (None, None, SIGNED, Scope("eu-west-1", "sqs")),
    ("eu-north-1", None, SIGNED, Scope("eu-north-1", "sqs")),
    (None, "s3", SIGNED, Scope("eu-west-1", "s3")),
    ("eu-north-1", "s3", "", Scope("eu-north-1", "s3")),
]


@pytest.mark.parametrize(("region", "service", "value", "scope"), PRECEDENCE)
def test_the_rule_goes_before_the_client_and_the_client_before_the_host(
    region: str | None, service: str | None, value: str, scope: Scope
) -> None:
    """Each of the two by itself."""
    request = replace(REQUEST, headers=(("Authorization", value),) if value else ())
    plan = plan_sigv4(SigV4("aws", region, service), request)
    assert isinstance(plan, Sigv4Plan)
    assert plan.scope == scope


EXPIRES = [("", 300), ("&X-Amz-Expires=60", 60), ("&X-Amz-Expires=604800", 300), ("&x-amz-expires=10", 10)]


@pytest.mark.parametrize(("more", "seconds"), EXPIRES)
def test_a_presigned_query_is_short_lived(more: str, seconds: int) -> None:
    """As the client asks, and never long: the URL may come back in an answer."""
    credential = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA/20200101/eu-west-1/s3/aws4_request"
    plan = plan_sigv4(SigV4("aws"), replace(REQUEST, query=f"{credential}{more}"))
    assert isinstance(plan, Sigv4Plan)
    assert (plan.expires, plan.payload, plan.tells_payload) == (seconds, "UNSIGNED-PAYLOAD", False)


@given(
    st.text(st.characters(max_codepoint=255), max_size=80), st.text(st.characters(min_codepoint=33, max_codepoint=126))
)
def test_any_client_is_planned_or_refused(value: str, query: str) -> None:
    """Whatever stands in its signature: never an exception, and the refusal quotes nothing of it."""
    for text in (value, f"AWS4-HMAC-SHA256 {value}", f"AWS4-HMAC-SHA256 Credential={value}, SignedHeaders={value}"):
        request = replace(REQUEST, headers=(("Authorization", text),), query=f"X-Amz-Signature={query}")
        for asked in (request, replace(request, headers=()), replace(request, query=None)):
            plan = plan_sigv4(SigV4("aws"), asked)
            assert isinstance(plan, Sigv4Plan) or plan.reason is Reason.REQUEST_NOT_SIGNABLE


KEYS = [
    ("AKIA0000:sec/ret+", "AKIA0000", "sec/ret+", None),
    ("ASIA0000:secret:tok:en==", "ASIA0000", "secret", "tok:en=="),
    ('{"Version": 1, "AccessKeyId": "AKIA0000", "SecretAccessKey": "s"}', "AKIA0000", "s", None),
    ('{"AccessKeyId": "A_12", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": "x"}', "A_12", "s", "t"),
    ('{"Version": 1, "AccessKeyId": "AKIA0000", "SecretAccessKey": "s", "SessionToken": null}', "AKIA0000", "s", None),
]


@pytest.mark.parametrize(("value", "key_id", "key", "token"), KEYS)
def test_keys_are_read_in_both_forms(value: str, key_id: str, key: str, token: str | None) -> None:
    """A token may hold colons; the secret key cannot."""
    keys = read_keys(value)
    assert (keys.access_key_id, keys.secret_access_key.reveal()) == (key_id, key)
    assert (None if keys.token is None else keys.token.reveal()) == token


NO_KEYS = [
    *("", "AKIA0000", ":secret", "AKIA0000:", "AKIA0000:se cret", "AK/IA:secret", "AKIA0000:s:", "[]", "{}", '{"a"'),
    '{"Version": 2, "AccessKeyId": "AKIA0000", "SecretAccessKey": "canary"}',
    '{"AccessKeyId": 1, "SecretAccessKey": "canary"}',
    '{"AccessKeyId": "AKIA0000", "SecretAccessKey": ["canary"]}',
    '{"AccessKeyId": "AKIA0000", "SecretAccessKey": "canary", "SessionToken": "a\\nb"}',
    '{"AccessKeyId": "AKIA0000\\r\\nX: 1", "SecretAccessKey": "canary"}',
]


@pytest.mark.parametrize("value", NO_KEYS)
def test_what_is_no_keys_is_refused_without_being_told(value: str) -> None:
    """Nothing that could begin a header, and no part of the value in the message."""
    with pytest.raises(ValueError, match="it") as caught:
        read_keys(value)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_refusal_is_a_sentence() -> None:
    """For people: it begins with a capital letter and ends with a period."""
    refused = plan_sigv4(SigV4("aws"), replace(REQUEST, host=Host("s3.corp.example")))
    assert isinstance(refused, Refusal)
    assert refused.detail[0].isupper()
    assert refused.detail.endswith(".")
