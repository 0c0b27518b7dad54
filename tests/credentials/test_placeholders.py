"""Placeholders: the same for the same key, like what they stand for, and never there by chance."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.config import EnvSource, Placeholder, SecretDefinition
from egress.config.placeholder_forms import FORMS
from egress.credentials import CredentialStore, needs_key, placeholder_key, placeholder_of, placeholders_of
from egress.errors import StateError
from egress.policy import Target, Verdict, parse_target

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes(range(32))
HEADER_VALUE = re.compile(r"[!-~]+")


def defined(name: str = "model", host: str = "api.example.com", **said: str) -> SecretDefinition:
    """A secret with a placeholder."""
    target = parse_target(host, verdict=Verdict.ALLOW)
    assert isinstance(target, Target)
    return SecretDefinition(name, EnvSource("X"), (target,), placeholder=Placeholder(**said))


LOOKS = [
    ({"variable": "ANTHROPIC_API_KEY"}, "api.example.com", r"sk-ant-api03-egress[0-9A-Za-z]{87}AA"),
    ({"variable": "OPENAI_API_KEY"}, "api.example.com", r"sk-proj-egress[0-9A-Za-z]{42}"),
    ({}, "api.github.com", r"ghp_egress[0-9A-Za-z]{30}"),
    ({"like": "github_pat"}, "api.github.com", r"github_pat_egress[0-9A-Za-z]{16}_[0-9A-Za-z]{59}"),
    ({}, "gitlab.com", r"glpat-egress[0-9A-Za-z]{14}"),
    ({}, "slack.com", r"xoxb-egress[0-9A-Za-z]{44}"),
    ({"variable": "GEMINI_API_KEY"}, "api.example.com", r"AIzaegress[0-9A-Za-z]{29}"),
    ({"like": "hf"}, "api.example.com", r"hf_egress[0-9A-Za-z]{28}"),
    ({"like": "npm"}, "api.example.com", r"npm_egress[0-9A-Za-z]{30}"),
    ({}, "api.example.com", r"egress[0-9A-Za-z]{34}"),
    ({"variable": "OPENAI_API_KEY", "like": "ghp"}, "gitlab.com", r"ghp_egress[0-9A-Za-z]{30}"),
    ({"value": "just-what-is-written-here"}, "api.github.com", r"just-what-is-written-here"),
]


@pytest.mark.parametrize(("said", "host", "looks"), LOOKS)
def test_a_placeholder_looks_like_its_credential(said: dict[str, str], host: str, looks: str) -> None:
    """By what it is said to be like, else by its variable, else by its host."""
    assert re.fullmatch(looks, placeholder_of(defined(host=host, **said), KEY))


def test_a_jwt_reads_as_one() -> None:
    """Header and claims are JSON, and it is nobody's for very long yet."""
    head, claims, signature = placeholder_of(defined(like="jwt"), KEY).split(".")
    assert head.startswith("eyJ")
    read = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert read["iss"] == "egress"
    assert read["exp"] > 4_000_000_000
    assert len(signature) == 43


@pytest.mark.parametrize("like", sorted(FORMS))
def test_every_form_has_enough_randomness(like: str) -> None:
    """80 bits at least differ between two keys, whatever is the same in all of the form."""
    one, other = placeholder_of(defined(like=like), KEY), placeholder_of(defined(like=like), KEY[::-1])
    assert len(one) == len(other)
    assert sum(a != b for a, b in zip(one, other, strict=True)) >= 10
    assert HEADER_VALUE.fullmatch(one)


@given(st.text(st.sampled_from("abcXYZ019-_"), min_size=1, max_size=20), st.binary(min_size=32, max_size=32))
def test_a_placeholder_is_the_same_for_the_same_key_and_another_for_any_other(name: str, key: bytes) -> None:
    """Processes agree without speaking to each other; secrets and state folders have their own."""
    one = placeholder_of(defined(name), key)
    assert one == placeholder_of(defined(name), key)
    assert one != placeholder_of(defined(name + "x"), key)
    assert one != placeholder_of(defined(name), bytes(byte ^ 1 for byte in key))


def test_only_secrets_that_say_so_have_one() -> None:
    """A key is needed only for those that are made up."""
    target = parse_target("a.test", verdict=Verdict.ALLOW)
    assert isinstance(target, Target)
    bare = SecretDefinition("bare", EnvSource("X"), (target,))
    written = defined("written", value="a-text-of-16-or-more")
    assert placeholders_of({"bare": bare, "written": written}, b"") == {"written": "a-text-of-16-or-more"}
    assert not needs_key({"bare": bare, "written": written})
    assert needs_key({"made": defined("made")})


def test_the_key_of_a_folder_is_made_once_by_whoever_comes_first(tmp_path: Path) -> None:
    """Several processes at once read the same, which only this user can."""
    code = (
        "import sys, pathlib\n"
        "from egress.credentials import placeholder_key\n"
        "print(placeholder_key(pathlib.Path(sys.argv[1])).hex())"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "state")], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    found = {process.communicate()[0] for process in started}
    assert found == {placeholder_key(tmp_path / "state").hex().encode() + b"\n"}
    assert (tmp_path / "state" / "placeholder.key").stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize("fault", ["open to others", "short", "a link"])
def test_a_key_that_cannot_be_trusted_is_an_error(tmp_path: Path, fault: str) -> None:
    """Never another key in its place: what the sandbox holds would stand for nothing."""
    state = tmp_path / "state"
    placeholder_key(state)
    path = state / "placeholder.key"
    if fault == "open to others":
        path.chmod(0o644)
    elif fault == "short":
        path.write_bytes(b"x")
    else:
        path.rename(state / "elsewhere")
        path.symlink_to(state / "elsewhere")
    with pytest.raises(StateError):
        placeholder_key(state)


COLLISIONS = [
    ({"one": "same-text-0123456789", "two": "same-text-0123456789"}, {"one", "two"}),
    ({"one": "same-text-0123456789", "two": "a-same-text-0123456789-b"}, {"one"}),
    ({"one": "the-value-of-two-012"}, {"one"}),
    ({"one": "one-text-0123456789", "two": "two-text-0123456789"}, set()),
]


@pytest.mark.parametrize(("placeholders", "told"), COLLISIONS)
def test_a_placeholder_that_stands_elsewhere_is_told(placeholders: dict[str, str], told: set[str]) -> None:
    """In another placeholder or in a value; the message holds no part of either."""
    definitions = {name: SecretDefinition(name, EnvSource(name.upper()), ()) for name in ("one", "two")}
    env = {"ONE": "value-of-one", "TWO": "is the-value-of-two-012 indeed"}
    problems = CredentialStore(definitions, env=env, placeholders=placeholders).collisions()
    assert {problem.message.split("`")[1] for problem in problems} == told
    assert not any(text in str(problem) for problem in problems for text in (*placeholders.values(), *env.values()))


def test_another_process_has_the_same_placeholders() -> None:
    """They are handed on with the values."""
    store = CredentialStore({"one": defined("one")}, env={"X": "v"}, placeholders={"one": "text-0123456789abc"})
    assert CredentialStore.handed_on(store.hand_on()).placeholder("one") == "text-0123456789abc"
    assert store.placeholder("two") is None
