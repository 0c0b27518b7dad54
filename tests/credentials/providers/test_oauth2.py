"""The OAuth 2.0 grants for clients without a user."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from credentials.clouds.server import Reply
from credentials.clouds.tokens import TokenEndpoint, refusal

from egress.config.secret_sources import EnvSource, OAuth2Source
from egress.credentials.providers.oauth2 import fetch

if TYPE_CHECKING:
    from credentials.clouds.world import World

# Each character that form-encoding and Basic could take for something else.
CLIENT, SECRET = "team:app +1", "s3cret:/+ %&=ü"
SOURCE = OAuth2Source("https://login.example/oauth/token", CLIENT, EnvSource("SECRET"))
REFRESH = replace(SOURCE, refresh_token=EnvSource("REFRESH"))


@pytest.fixture
def endpoint(world: World) -> TokenEndpoint:
    """An authorization server that knows the client."""
    world.env |= {"SECRET": SECRET, "REFRESH": "refresh-1"}
    return world.add(TokenEndpoint(CLIENT, SECRET), "login.example")


def test_a_client_signs_in_by_basic_with_both_halves_form_encoded(world: World, endpoint: TokenEndpoint) -> None:
    """RFC 6749, section 2.3.1: a colon in the id does not move the seam. The id is not sent twice."""
    fetched = world.fetch(fetch, SOURCE)
    assert (fetched.value.reveal(), fetched.expires, fetched.renewed) == ("access-1", world.time + 3600, None)
    assert endpoint.asked[0].form == {"grant_type": "client_credentials"}


def test_a_client_signs_in_by_form_fields_if_the_source_says_so(world: World, endpoint: TokenEndpoint) -> None:
    """And by nothing else then."""
    endpoint.body_auth = True
    assert world.fetch(fetch, replace(SOURCE, body_auth=True)).value.reveal() == "access-1"


def test_scopes_and_further_fields_are_sent(world: World, endpoint: TokenEndpoint) -> None:
    """Scopes are one field, with spaces between them."""
    endpoint.scopes = {"read", "write"}
    world.fetch(fetch, replace(SOURCE, scopes=("read", "write"), extra=(("audience", "https://api.example/"),)))
    assert endpoint.asked[0].form["scope"] == "read write"
    assert endpoint.asked[0].form["audience"] == "https://api.example/"


@pytest.mark.parametrize("field", ["grant_type", "client_id", "client_secret", "refresh_token", "scope"])
def test_a_further_field_replaces_none_of_ours(world: World, endpoint: TokenEndpoint, field: str) -> None:
    """Two fields of a name are read differently by different servers."""
    assert "twice" in world.refused(fetch, replace(SOURCE, extra=((field, "x"),)))
    assert endpoint.asked == []


def test_a_refresh_token_that_is_replaced_is_handed_back(world: World, endpoint: TokenEndpoint) -> None:
    """The one that was used is void: who keeps it has lost the way in."""
    fetched = world.fetch(fetch, REFRESH)
    assert fetched.renewed is not None
    assert (fetched.value.reveal(), fetched.renewed.reveal()) == ("access-1", "refresh-2")
    assert "invalid_grant" in world.refused(fetch, REFRESH)
    world.env["REFRESH"] = fetched.renewed.reveal()
    assert world.fetch(fetch, REFRESH).value.reveal() == "access-1"
    assert endpoint.asked[-1].form["refresh_token"] == "refresh-2"


def test_a_refresh_token_that_is_not_replaced_stays(world: World, endpoint: TokenEndpoint) -> None:
    """No new one, none to keep."""
    endpoint.rotates = False
    assert world.fetch(fetch, REFRESH).renewed is None


def test_a_public_client_says_who_it_is(world: World, endpoint: TokenEndpoint) -> None:
    """RFC 6749, section 3.2.1; it gets nothing but by a refresh token."""
    endpoint.secret = None
    public = replace(REFRESH, client_secret=None)
    assert world.fetch(fetch, public).value.reveal() == "access-1"
    assert "`client_secret` or `refresh_token`" in world.refused(fetch, replace(public, refresh_token=None))


ANSWERS: list[tuple[dict[str, Any], str]] = [
    ({"token_type": "mac"}, "not of the type Bearer"),
    ({"token_type": None}, "without `token_type`"),
    ({"access_token": ""}, "without `access_token`"),
    ({"access_token": 7}, "without `access_token`"),
    ({"access_token": "a\nb"}, "line break"),
    ({"access_token": " a"}, "space"),
    ({"expires_in": 0}, "has expired"),
    ({"expires_in": -1}, "no number of seconds"),
    ({"expires_in": "soon"}, "no number of seconds"),
    ({"expires_in": True}, "no number of seconds"),
    ({"expires_in": 1e300}, "no number of seconds"),
    ({"expires_in": float("nan")}, "no number of seconds"),
]


@pytest.mark.parametrize(("change", "said"), ANSWERS, ids=[f"{change}" for change, _ in ANSWERS])
def test_an_answer_is_what_the_specification_says_or_an_error(
    world: World, endpoint: TokenEndpoint, change: dict[str, Any], said: str
) -> None:
    """A doubtful token is not used, and a doubtful time not guessed."""
    endpoint.given |= change
    assert said in world.refused(fetch, SOURCE)


@pytest.mark.parametrize(
    ("change", "expires"),
    [({"expires_in": "60"}, 60.0), ({"expires_in": None}, None), ({"token_type": "bearer"}, 3600.0)],
)
def test_what_services_write_differently_is_read(
    world: World, endpoint: TokenEndpoint, change: dict[str, Any], expires: float | None
) -> None:
    """Digits in a text, no time at all, and Bearer in any case."""
    endpoint.given |= change
    assert world.fetch(fetch, SOURCE).expires == (None if expires is None else world.time + expires)


CODES = [
    (refusal("invalid_client", 401), "answered 401 (invalid_client)"),
    (refusal("invalid_grant"), "answered 400 (invalid_grant)"),
    (refusal("unauthorized_client"), "(unauthorized_client)"),
    (refusal("CANARY"), "answered 400;"),
    (Reply(400, {"error": ["CANARY"]}), "answered 400;"),
    (Reply(429, b"CANARY"), "asked too often"),
    (Reply(503, b"<html>CANARY"), "the fault is its own"),
    (Reply(200, b"CANARY"), "not a JSON object"),
    (Reply(200, [1]), "not a JSON object"),
    (Reply(302, b"", {"Location": "https://elsewhere.example/"}), "answered 302"),
]


@pytest.mark.parametrize(("reply", "said"), CODES, ids=[f"{reply.status} {said}" for reply, said in CODES])
def test_only_codes_that_the_specification_lists_are_repeated(
    world: World, endpoint: TokenEndpoint, reply: Reply, said: str
) -> None:
    """Everything else of an error may echo what was sent."""
    endpoint.faults.append(reply)
    assert said in world.refused(fetch, SOURCE)


def test_a_secret_that_is_wrong_and_a_leaf_that_is_missing(world: World, endpoint: TokenEndpoint) -> None:
    """The first is the service's to say, the second keeps the service from being asked."""
    world.env["SECRET"] = "another-secret"
    assert "check the client's id and its secret" in world.refused(fetch, SOURCE)
    del world.env["SECRET"]
    world.refused(fetch, SOURCE)
    assert len(endpoint.asked) == 1


@pytest.mark.parametrize("url", ["http://login.example/oauth/token", "ftp://login.example/", "login.example"])
def test_a_secret_goes_over_tls_only(world: World, endpoint: TokenEndpoint, url: str) -> None:
    """Not even a name that could be this machine's is taken without."""
    assert "without TLS" in world.refused(fetch, replace(SOURCE, token_url=url))
    assert endpoint.asked == []
