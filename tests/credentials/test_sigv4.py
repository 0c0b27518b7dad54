"""Signature Version 4 against AWS's published vectors and examples, and the laws that any signer keeps."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.credentials import sigv4
from egress.credentials.secret import Secret
from egress.credentials.sigv4 import Keys, Message, Scope

SUITE = json.loads((Path(__file__).parent / "sigv4_vectors" / "v4.json").read_text())
# Those whose paths are as their services take them: S3's are not normalised.
CASES = [pytest.param(case, id=name) for name, case in SUITE.items()]
NOT_SIGNED = {b"authorization", b"x-amz-date", b"x-amz-security-token", b"x-amz-content-sha256"}


def read(case: dict[str, Any], canonical: str, expected: str) -> tuple[Message, Keys, Scope, float]:
    """A vector's request, without what a signature adds, and with what it is signed."""
    context = case["context"]
    head, _, _ = case["request"].partition("\n\n")
    line, *rows = head.replace("\n ", "\x00").split("\n")
    method, _, rest = line.partition(" ")
    path, _, query = rest.removesuffix(" HTTP/1.1").partition("?")
    fields = []
    for row in filter(None, rows):
        name, _, value = row.partition(":")
        fields.append((name.encode(), value.replace("\x00", "\n ").encode()))
    host = dict(fields)[b"Host"]
    message = Message(method, host, path, query or None, fields, canonical.rsplit("\n", 1)[1])
    token = (
        context["credentials"].get("token")
        if f"oken{':' if 'Authorization' in expected else '='}" in expected
        else None
    )
    keys = Keys(
        context["credentials"]["access_key_id"],
        Secret("aws", context["credentials"]["secret_access_key"]),
        # The token may be put beside the signature instead of under it; then it is no part of what is signed.
        None if token is None or context.get("omit_session_token") else Secret("aws", token),
    )
    scope = Scope(context["region"], context["service"])
    return message, keys, scope, datetime.fromisoformat(context["timestamp"]).timestamp()


def as_sent(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that does not normalise paths, as the `unnormalized` vectors have it, encodes them all the same."""
    if not case["context"]["normalize"]:
        monkeypatch.setattr(sigv4, "normal_path", lambda path: path)


@pytest.mark.parametrize("case", CASES)
def test_a_header_signature_is_the_published_one(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Scope, list of names and signature, byte for byte."""
    as_sent(case, monkeypatch)
    expected = case["header-signed-request"]
    message, keys, scope, now = read(case, case["header-canonical-request"], expected)
    names = {name.lower() for name, _ in message.fields}
    added = sigv4.signed_in_header(
        message,
        keys,
        scope,
        now,
        names,
        tells_payload="X-Amz-Content-Sha256" in expected or "x-amz-content-sha256" in expected,
    )
    assert f"\nAuthorization:{dict(added)[b'Authorization'].decode()}\n" in expected


@pytest.mark.parametrize("case", CASES)
def test_a_query_signature_is_the_published_one(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same parameters with the same values; their order on the wire is nobody's concern."""
    as_sent(case, monkeypatch)
    expected = case["query-signed-request"]
    message, keys, scope, now = read(case, case["query-canonical-request"], expected)
    names = {name.lower() for name, _ in message.fields}
    query = sigv4.signed_in_query(message, keys, scope, now, names, expires=case["context"]["expiration_in_seconds"])
    published = expected.split("\n", 1)[0].removesuffix(" HTTP/1.1").partition("?")[2].split("&")
    token = "X-Amz-Security-Token="
    omitted = case["context"].get("omit_session_token")
    wanted = {sigv4.parameter(part) for part in published if not (omitted and part.startswith(token))}
    assert {sigv4.parameter(part) for part in query.split("&")} == wanted


S3_KEYS = Keys("AKIAIOSFODNN7EXAMPLE", Secret("aws", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"))
S3 = Scope("us-east-1", "s3")
S3_HOST = b"examplebucket.s3.amazonaws.com"
S3_NOW = datetime.fromisoformat("2013-05-24T00:00:00Z").timestamp()
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
WELCOME = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
# The examples of S3's documentation: method, path, query, fields, payload -> signature.
S3_EXAMPLES = [
    (
        *("GET", "/test.txt", None, [(b"Range", b"bytes=0-9")], EMPTY),
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    (
        *("PUT", "/test$file.text", None),
        [(b"Date", b"Fri, 24 May 2013 00:00:00 GMT"), (b"x-amz-storage-class", b"REDUCED_REDUNDANCY")],
        WELCOME,
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    ("GET", "/", "lifecycle", [], EMPTY, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
    ("GET", "/", "max-keys=2&prefix=J", [], EMPTY, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
]


@pytest.mark.parametrize(("method", "path", "query", "fields", "payload", "signature"), S3_EXAMPLES)
def test_the_examples_of_s3_are_signed_as_documented(
    *, method: str, path: str, query: str | None, fields: list[tuple[bytes, bytes]], payload: str, signature: str
) -> None:
    """A range, a key with a character that is encoded once, a parameter without a value, two parameters."""
    message = Message(method, S3_HOST, path, query, fields, payload)
    names = {name.lower() for name, _ in fields}
    added = dict(sigv4.signed_in_header(message, S3_KEYS, S3, S3_NOW, names, tells_payload=True))
    assert added[b"Authorization"].decode().endswith(f"Signature={signature}")
    encoded = Message(method, S3_HOST, path.replace("$", "%24"), query, fields, payload)
    assert dict(sigv4.signed_in_header(encoded, S3_KEYS, S3, S3_NOW, names, tells_payload=True)) == added


def test_the_presigned_example_of_s3_is_signed_as_documented() -> None:
    """The payload is not signed, and the host is all that is."""
    message = Message("GET", S3_HOST, "/test.txt", None, [], sigv4.UNSIGNED_PAYLOAD)
    query = sigv4.signed_in_query(message, S3_KEYS, S3, S3_NOW, (), expires=86400)
    assert query.endswith("aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")
    assert "X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request" in query


PATHS = [
    # as sent, as S3 signs it, as the others do
    ("/", "/", "/"),
    ("/a%20b", "/a%20b", "/a%2520b"),
    ("/a+b", "/a%2Bb", "/a%2Bb"),
    ("/a%2Fb", "/a/b", "/a%252Fb"),
    ("//a/./b//", "//a/./b//", "/a/b/"),
    ("/a/../b", "/a/../b", "/b"),
    ("/%7euser", "/~user", "/%257euser"),
    ("/x%e1%88%b4", "/x%E1%88%B4", "/x%25e1%2588%25b4"),
]


@pytest.mark.parametrize(("path", "once", "twice"), PATHS)
def test_a_path_is_encoded_as_its_service_reads_it(path: str, once: str, twice: str) -> None:
    """S3 encodes what the path says, the others what was sent."""
    assert sigv4.canonical_path(path, "s3") == once
    assert sigv4.canonical_path(path, "sqs") == twice


QUERIES = [
    (None, ""),
    ("", ""),
    ("b=2&a=1", "a=1&b=2"),
    ("a=2&a=1&a=1", "a=1&a=1&a=2"),
    ("a", "a="),
    ("a=b=c", "a=b%3Dc"),
    ("a=x+y&b=x%2By", "a=x%20y&b=x%2By"),
    ("a=%7e%2a*", "a=~%2A%2A"),
    ("A=1&a=1", "A=1&a=1"),
    ("&&a=1&", "a=1"),
    ("a-b=1&a=2", "a=2&a-b=1"),
]


@pytest.mark.parametrize(("query", "canonical"), QUERIES)
def test_a_query_is_encoded_and_sorted(query: str | None, canonical: str) -> None:
    """By name, then by value; doubles stay; what is encoded in two ways is written in one."""
    assert sigv4.canonical_query(query) == canonical


names = st.sampled_from(["X-Amz-Target", "Content-Type", "X-Own"])
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)


@given(st.lists(st.tuples(names, values), max_size=6, unique_by=lambda pair: pair[0]), st.randoms())
def test_order_and_case_of_headers_change_nothing(pairs: list[tuple[str, str]], chance: Any) -> None:
    """A request that says the same is signed the same, twice over."""
    fields = [(name.encode(), value.encode()) for name, value in pairs]
    mixed = [(name.swapcase(), b"  " + value.replace(b" ", b"  ") + b" ") for name, value in fields]
    chance.shuffle(mixed)
    covered = {b"x-amz-target", b"content-type", b"x-own"}

    def signed(some: list[tuple[bytes, bytes]]) -> object:
        message = Message("POST", b"sqs.us-east-1.amazonaws.com", "/", "b=1&a=2", some, EMPTY)
        return sigv4.signed_in_header(message, S3_KEYS, S3, 1.0, covered, tells_payload=False)

    assert signed(fields) == signed(mixed) == signed(fields)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
def test_a_query_without_its_signature_has_none(query: str) -> None:
    """However the names are spelt; what else it says stays as it was sent, in order."""
    signed = f"{query}&x-amz-signature=1&X-Amz-Credential=2&X%2DAmz%2dSecurity-Token=3&a=b"
    kept = sigv4.without_signature(signed) or ""
    assert kept.endswith("a=b")
    assert not [part for part in kept.split("&") if sigv4.parameter(part)[0].lower() in sigv4.SIGNATURE_PARAMETERS]
    assert sigv4.without_signature(kept) == kept


def test_nothing_of_the_secret_key_is_written() -> None:
    """The id of the key and the token go up, of the key itself its signature alone."""
    keys = Keys("AKID", Secret("aws", "very-secret-key"), Secret("aws", "the-token"))
    message = Message("GET", b"h", "/", None, [], EMPTY)
    header = sigv4.signed_in_header(message, keys, S3, 0.0, (), tells_payload=True)
    query = sigv4.signed_in_query(message, keys, S3, 0.0, (), expires=60)
    assert "very-secret-key" not in repr(header) + query + repr(keys)
    assert "the-token" in repr(header)
    assert "the-token" in query
    assert "the-token" not in repr(keys)
