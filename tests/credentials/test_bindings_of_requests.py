"""A secret bound to methods and paths goes with those requests alone; Basic is encoded as RFC 7617 says."""

from __future__ import annotations

import base64

import pytest

from egress.config import EnvSource, SecretDefinition
from egress.credentials import CredentialStore, Rendered
from egress.policy import Host, Injection, Protocol, Reason, Refusal, Request, SecretRef, Target, Verdict, parse_target

BEARER = (Injection("Authorization", ("Bearer ", SecretRef("key"))),)


def store(methods: frozenset[str] | None, paths: tuple[str, ...] | None) -> CredentialStore:
    """One secret with that binding."""
    target = parse_target("a.test", verdict=Verdict.ALLOW)
    assert isinstance(target, Target)
    definition = SecretDefinition("key", EnvSource("KEY"), (target,), methods, paths)
    return CredentialStore({"key": definition}, env={"KEY": "canary-value"})


def goes(of: CredentialStore, method: str | None, path: str | None) -> bool:
    """Whether the value goes with such a request."""
    request = Request("box", Protocol.HTTPS, Host("a.test"), 443, method, path)
    found = of.render(BEARER, request, verified_tls=True)
    assert isinstance(found, Rendered)
    assert found.withheld == (() if found.headers else ("Authorization",))
    return bool(found.headers)


REQUESTS = [
    ("POST", "/v1/x", True),
    ("GET", "/v1/x", False),
    ("POST", "/v1/x/y", False),
    ("POST", "/v1/", False),
    ("POST", "/V1/x", False),
    ("POST", "/v1/%78", False),
    ("POST", "/v1/../v1/x", False),
    ("POST", "/v1//x", False),
    ("POST", "/v1/x;y", False),
    ("post", "/v1/x", False),
    (None, None, False),
]


@pytest.mark.parametrize(("method", "path", "bound"), REQUESTS)
def test_a_request_outside_the_binding_gets_no_value(method: str | None, path: str | None, bound: bool) -> None:  # noqa: FBT001 - a table's column
    """Also right after one that got it, under the same rule: the binding is asked for each."""
    of = store(frozenset({"POST"}), ("/v1/*",))
    assert goes(of, "POST", "/v1/a")
    assert goes(of, method, path) is bound
    assert goes(of, "POST", "/v1/a")


def test_a_binding_to_one_of_them_leaves_the_other_free() -> None:
    """Methods alone, paths alone."""
    assert goes(store(frozenset({"GET"}), None), "GET", "/any/../thing")
    assert goes(store(None, ("/x",)), "DELETE", "/x")


def basic(user: tuple[str | SecretRef, ...], value: str = "va:lue") -> Rendered | Refusal:
    """Basic with the secret as its password."""
    target = parse_target("a.test", verdict=Verdict.ALLOW)
    assert isinstance(target, Target)
    of = CredentialStore({"key": SecretDefinition("key", EnvSource("KEY"), (target,))}, env={"KEY": value})
    injection = Injection("Authorization", (SecretRef("key"),), user)
    return of.render((injection,), Request("box", Protocol.HTTPS, Host("a.test"), 443, "GET", "/"), verified_tls=True)


@pytest.mark.parametrize("user", [("git",), ("a b",), ()])
def test_basic_is_user_and_password_in_base64(user: tuple[str, ...]) -> None:
    """The password may hold a colon."""
    found = basic(user)
    assert isinstance(found, Rendered)
    ((_, value),) = found.headers
    assert base64.b64decode(value.reveal().removeprefix("Basic ")).decode() == f"{''.join(user)}:va:lue"
    assert found.names == ("key",)


def test_a_user_with_a_colon_is_refused() -> None:
    """The server would take a part of it for the password."""
    found = basic((SecretRef("key"),))
    assert isinstance(found, Refusal)
    assert found.reason is Reason.INTERNAL_ERROR
    assert "va:lue" not in found.detail
    assert isinstance(basic((SecretRef("key"),), "plain"), Rendered)
