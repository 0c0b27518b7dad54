"""A signature by template is made of what goes up, and of nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest
from pydantic import TypeAdapter

from egress.config.sign_model import SignModel, signature_text
from egress.credentials.hmac_scheme import HmacPlan
from egress.credentials.signature import Outgoing
from egress.policy import HmacScheme

SENT = Outgoing(
    "PUT",
    b"api.example.com:8443",
    "/a%20b",
    "x=1&y",
    [(b"Host", b"api.example.com:8443"), (b"X-Own", b"1"), (b"x-own", b"2"), (b"X-Odd", b"\xe9")],
    1_700_000_000.75,
    "00ff",
)
BODY = b"\x00body"


def scheme(message: str, **more: Any) -> HmacScheme:
    """The scheme that a policy file says."""
    said = {"hmac": {"secret": "s", "message": message, "header": "X-Signature", **more}}
    value = TypeAdapter(SignModel).validate_python(said).value()
    assert isinstance(value, HmacScheme)
    return value


MESSAGES = [
    ("${method}", b"PUT"),
    ("${host}|${path}|${query}", b"api.example.com:8443|/a%20b|x=1&y"),
    ("${body}", BODY),
    ("${body_sha256}", hashlib.sha256(BODY).hexdigest().encode()),
    ("${timestamp} ${timestamp_ms}", b"1700000000 1700000000750"),
    ("${timestamp_rfc3339}\n${nonce}", b"2023-11-14T22:13:20Z\n00ff"),
    ("${header:x-own},${header:host},${header:none}.${header:x-odd}", b"1, 2,api.example.com:8443,.\xe9"),
    ("$${path}$$${path}", b"${path}$/a%20b"),
]


@pytest.mark.parametrize(("template", "message"), MESSAGES)
def test_a_message_is_what_its_template_says(template: str, message: bytes) -> None:
    """Each variable by its bytes, and literal text as it is."""
    said = scheme(template + "${method}")
    query, fields = HmacPlan(said).with_value("key", BODY).put_on(SENT)
    expected = hmac.digest(b"key", message + b"PUT", "sha256").hex().encode()
    assert (query, fields) == (SENT.query, [*SENT.fields, (b"X-Signature", expected)])
    assert signature_text(said.message) == template + "${method}"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "sha1"])
def test_each_algorithm_and_encoding_is_the_standard_one(algorithm: str) -> None:
    """As the standard library makes them."""
    said = scheme("${path}", algorithm=algorithm, encoding="base64", value="v=${signature}", also={"X-N": "${nonce}"})
    _, fields = HmacPlan(said).with_value("key", None).put_on(SENT)
    expected = base64.b64encode(hmac.digest(b"key", b"/a%20b", algorithm))
    assert fields[-2:] == [(b"X-Signature", b"v=" + expected), (b"X-N", b"00ff")]


KEYS = [("text", "a2V5", b"a2V5"), ("base64", "a2V5", b"key"), ("hex", "6b6579", b"key")]


@pytest.mark.parametrize(("form", "value", "key"), KEYS)
def test_a_key_is_read_in_its_form(form: str, value: str, key: bytes) -> None:
    """The text itself, or the bytes that it encodes."""
    _, fields = HmacPlan(scheme("${path}", key=form)).with_value(value, None).put_on(SENT)
    assert fields[-1][1] == hmac.digest(key, b"/a%20b", "sha256").hex().encode()


@pytest.mark.parametrize("form", ["base64", "hex"])
def test_a_key_in_another_form_is_refused_without_being_told(form: str) -> None:
    """The message names the form alone."""
    with pytest.raises(ValueError, match=f"it is no {form}") as caught:
        HmacPlan(scheme("${path}", key=form)).with_value("canary!", None)
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_only_a_message_with_the_body_waits_for_it() -> None:
    """What does not sign the body streams."""
    assert not HmacPlan(scheme("${path}")).reads_body
    assert HmacPlan(scheme("${body}")).reads_body
    assert HmacPlan(scheme("${body_sha256}")).reads_body


def test_neither_key_nor_body_is_shown() -> None:
    """A signature that stands in a log or a traceback tells nothing."""
    shown = repr(HmacPlan(scheme("${body}")).with_value("the-key-itself", b"the body"))
    assert "the-key-itself" not in shown
    assert "the body" not in shown
