"""Installation tokens of a GitHub App."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from credentials.clouds.github import GitHub, error
from credentials.clouds.server import Reply
from credentials.clouds.tokens import KEY, OTHER_KEY, pem
from credentials.clouds.world import written
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from egress.config.secret_sources import EnvSource, GithubAppSource
from egress.credentials.providers.github_app import fetch

if TYPE_CHECKING:
    from pathlib import Path

    from credentials.clouds.world import World


@pytest.fixture
def github(world: World) -> GitHub:
    """GitHub, with the app's installation."""
    return world.add(GitHub(world.now), "api.github.com")


@pytest.fixture
def source(tmp_path: Path) -> GithubAppSource:
    """All that the installation may, by the key in the file that GitHub hands out."""
    return GithubAppSource("12345", "77", written(tmp_path, "app.pem", pem(KEY)))


def test_a_token_of_the_installation(world: World, github: GitHub, source: GithubAppSource) -> None:
    """With no wish, nothing is sent but who asks; the time is the answer's."""
    fetched = world.fetch(fetch, source)
    assert (fetched.value.reveal(), fetched.expires) == ("ghs_12345_eyJ.long.token", 10_000_000_000)
    assert github.asked[0].body == b""


def test_repositories_and_permissions_are_narrowed(world: World, github: GitHub, source: GithubAppSource) -> None:
    """GitHub takes the names of repositories without their owner; a source may write it all the same."""
    narrow = replace(source, repositories=("acme/api", "web"), permissions=(("contents", "read"),))
    assert world.fetch(fetch, narrow).value.reveal() == "ghs_12345_eyJ.long.token"
    assert github.asked[0].json == {"repositories": ["api", "web"], "permissions": {"contents": "read"}}


WIDER: list[tuple[dict[str, Any], str]] = [
    ({"repository_selection": "all"}, "more repositories"),
    ({"repositories": [{"name": "ops", "full_name": "acme/ops"}]}, "more repositories"),
    ({"repositories": [{"name": "api", "full_name": "other/api"}]}, "more repositories"),
    ({"repositories": None}, "without a list"),
    ({"repositories": ["api"]}, "without a list"),
    ({"permissions": {"contents": "write"}}, "more permissions"),
    ({"permissions": {"contents": "maintain"}}, "more permissions"),
    ({"permissions": {"contents": "read", "secrets": "read"}}, "more permissions"),
    ({"permissions": {"metadata": "write"}}, "more permissions"),
    ({"permissions": None}, "without `permissions`"),
]


@pytest.mark.parametrize(("change", "said"), WIDER, ids=[f"{change}" for change, _ in WIDER])
def test_a_token_for_more_than_was_asked_is_refused(
    world: World, github: GitHub, source: GithubAppSource, change: dict[str, Any], said: str
) -> None:
    """It would work, and nobody would notice what else it opens."""
    github.change = change
    narrow = replace(source, repositories=("acme/api",), permissions=(("contents", "read"),))
    assert said in world.refused(fetch, narrow)


def test_a_key_may_be_one_line_of_the_environment(world: World, github: GitHub, source: GithubAppSource) -> None:
    """With escapes for its line breaks, as deployments write it."""
    world.env["KEY"] = pem(KEY, PrivateFormat.PKCS8).replace("\n", "\\n")
    assert world.fetch(fetch, replace(source, private_key=EnvSource("KEY"))).value.reveal().startswith("ghs_")
    assert len(github.asked) == 1


def keys_that_do_not_sign() -> dict[str, str]:
    """Keys of another kind, too weak, locked, or none."""
    locked = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode()
    curve = ec.generate_private_key(ec.SECP256R1())
    return {
        "another kind": pem(curve, PrivateFormat.PKCS8),  # type: ignore[arg-type]
        "weak": pem(rsa.generate_private_key(65_537, 1024)),  # noqa: S505 - the point of it
        "locked": locked,
        "no key": "CANARY",
        "public": "-----BEGIN PUBLIC KEY-----\nCANARY\n-----END PUBLIC KEY-----\n",
    }


def test_a_key_that_cannot_sign_is_told_before_anybody_is_asked(
    world: World, github: GitHub, source: GithubAppSource, tmp_path: Path
) -> None:
    """The message quotes no part of it."""
    for name, text in keys_that_do_not_sign().items():
        wrong = replace(source, private_key=written(tmp_path, "wrong.pem", text))
        assert "RSA key of 2048 bits" in world.refused(fetch, wrong), name
    assert github.asked == []


def test_the_key_of_another_app_and_a_clock_that_is_wrong(world: World, github: GitHub, tmp_path: Path) -> None:
    """GitHub says 401 to both; so do we, with what to look at."""
    wrong = GithubAppSource("12345", "77", written(tmp_path, "other.pem", pem(OTHER_KEY)))
    assert "this machine's clock" in world.refused(fetch, wrong)
    right = replace(wrong, private_key=written(tmp_path, "app.pem", pem(KEY)))
    github.clock = lambda: world.time + 3600
    assert "this machine's clock" in world.refused(fetch, right)


ERRORS = [
    (error(403), "suspended"),
    (error(404), "check `installation_id`"),
    (error(422), "does not have these"),
    (error(429), "asked too often"),
    (error(500), "the fault is its own"),
    (Reply(200, {"token": "CANARY"}), "answered 200"),
    (Reply(201, {"token": "CANARY"}), "no moment"),
    (Reply(201, {"token": "CANARY", "expires_at": "2016-07-11T22:14:10Z"}), "has expired"),
    (Reply(201, {"token": "CANARY", "expires_at": "2016-13-41T22:14:10Z"}), "does not exist"),
    (Reply(301, b"", {"Location": "https://elsewhere.example/"}), "answered 301"),
]


@pytest.mark.parametrize(("reply", "said"), ERRORS, ids=[said for _, said in ERRORS])
def test_the_documented_errors(world: World, github: GitHub, source: GithubAppSource, reply: Reply, said: str) -> None:
    """Each says what to do."""
    github.faults.append(reply)
    assert said in world.refused(fetch, source)


def test_what_the_installation_does_not_have_is_refused_by_github(
    world: World, github: GitHub, source: GithubAppSource
) -> None:
    """Repositories and permissions alike."""
    assert "does not have these" in world.refused(fetch, replace(source, repositories=("secret",)))
    assert "does not have these" in world.refused(fetch, replace(source, permissions=(("contents", "admin"),)))
    assert len(github.asked) == 2


@pytest.mark.parametrize("installation", ["", "acme", "77/../78", "77?x"])
def test_an_installation_is_a_number(world: World, github: GitHub, source: GithubAppSource, installation: str) -> None:
    """It becomes part of the path."""
    assert "no such installation" in world.refused(fetch, replace(source, installation_id=installation))
    assert github.asked == []


def test_another_github_is_asked_at_its_own_address(world: World, source: GithubAppSource) -> None:
    """GitHub Enterprise Server has its API below a path."""

    class Enterprise(GitHub):
        def answer(self, asked: Any) -> Reply:
            assert asked.path.startswith("/api/v3/app/")
            return super().answer(replace(asked, target=asked.target.removeprefix("/api/v3")))

    world.add(Enterprise(world.now), "github.corp.example")
    own = replace(source, api="https://github.corp.example/api/v3/")
    assert world.fetch(fetch, own).value.reveal().startswith("ghs_")
    assert "without TLS" in world.refused(fetch, replace(source, api="http://github.corp.example/api/v3"))
