"""Sandboxes that are registered at run time: added, removed, expired, and kept for the next start."""

from __future__ import annotations

import base64
import json
import os
import stat
import time
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest

from egress.config import PolicySource, SandboxDefinition, UnixListener, clock, hash_token, load_policy
from egress.credentials import CredentialStore
from egress.errors import ConfigError, StateError
from egress.gate.enrol import enrolled
from egress.gate.generation import Generation
from egress.gate.roster import ClientPlace, Roster
from egress.policy import Host, Protocol, Request, Sandbox, Scope
from egress.server import registrations as registrations_module
from egress.server.events import Events
from egress.server.generations import read_generation, write_generation
from egress.server.registrations import LONGEST_TTL, MOST_REGISTERED, Registrations
from egress.server.registry import NAME, read_registry, write_registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMMON = """
version: 1
rules:
  - allow: a.test
  - allow: "${sandbox.label.team}.buckets.test"
"""
SESSION = "version: 1\ndefault: deny\nrules:\n  - {allow: [a.test, evil.test], methods: [GET]}\n"


@dataclass
class Boss:
    """A supervisor without processes."""

    generation: Generation
    events: Events = field(default_factory=Events)
    stopping: bool = False
    judges: tuple[()] = ()
    notes: list[tuple[str, str]] = field(default_factory=list)

    def note(self, kind: str, detail: str) -> None:
        """Keep it."""
        self.notes.append((kind, detail))

    def until(self, holds: Callable[[], bool], _seconds: float | None) -> bool:
        """Nothing happens meanwhile."""
        return holds()


@dataclass
class Reading:
    """The reloads, as far as a registration asks them."""

    boss: Boss
    again: int = 0

    def read_again(self) -> None:
        """Count it."""
        self.again += 1

    def changed(self, generation: Generation) -> None:
        """What is in force is what the supervisor has."""
        assert generation is self.boss.generation


@dataclass
class Office:
    """Registrations with their supervisor and state folder."""

    state: Path
    boss: Boss
    reading: Reading
    registrations: Registrations

    def ask(self, command: str, **more: object) -> dict[str, Any]:
        """The answer to a request."""
        told: list[dict[str, Any]] = []
        self.registrations.ask({"command": command, **more}, told.append, "uid 7")  # type: ignore[arg-type]
        assert not told, "answered within the supervisor's turn"
        self.registrations.act()
        (answer,) = told
        return answer

    @property
    def names(self) -> list[str]:
        """Who is in force."""
        roster = self.boss.generation.roster
        return [] if roster is None else [member.definition.name for member in roster.members]


@pytest.fixture(autouse=True)
def own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test makes of the time is no other's: the clock never goes back."""
    monkeypatch.setattr(clock, "_latest", [0.0])


@pytest.fixture
def generation(tmp_path: Path) -> Generation:
    """Of the common file, without sandboxes."""
    path = tmp_path / "common.yaml"
    path.write_text(COMMON)
    loaded = load_policy([PolicySource(Scope.SANDBOX, path)])
    credentials = CredentialStore(loaded.secrets, env={})
    return Generation(1, loaded.of("default"), credentials, common=loaded.policy.scopes)


@pytest.fixture
def office(tmp_path: Path, generation: Generation) -> Office:
    """Nobody is registered yet."""
    boss = Boss(generation)
    reading = Reading(boss)
    return Office(tmp_path, boss, reading, Registrations(tmp_path, boss, reading, None))  # type: ignore[arg-type]


def allows(generation: Generation, sandbox: str, host: str, method: str = "GET") -> bool:
    """Whether a sandbox's policy allows a request."""
    policy = generation.policy_of(sandbox)
    assert policy is not None
    return policy.decide_request(Request(sandbox, Protocol.HTTPS, Host(host), 443, method, "/")).allowed


def test_one_that_is_added_is_in_force_written_down_and_noted(office: Office) -> None:
    """With a random token that only the answer has."""
    answer = office.ask("sandbox-add", name="ci-7", sources=["10.0.0.0/8"], labels={"team": "data"}, ttl=60)
    token = answer["token"]
    assert (answer["done"], answer["name"], len(token)) == (True, "ci-7", 64)
    assert office.names == ["ci-7"]
    (own,) = office.boss.generation.registered or ()
    assert own.token == hash_token(token.encode())
    assert own.sources == (ip_network("10.0.0.0/8"),)
    kept = (office.state / NAME).read_text()
    assert token not in kept
    assert stat.S_IMODE((office.state / NAME).stat().st_mode) == 0o600
    assert read_registry(office.state) == (own,)
    (kind, detail), *_ = office.boss.notes
    assert (kind, detail.split(",")[0]) == ("sandbox-add", "ci-7")
    assert token not in repr(office.boss.notes) + repr(own)
    assert office.reading.again == 1
    assert allows(office.boss.generation, "ci-7", "data.buckets.test")
    assert not allows(office.boss.generation, "ci-7", "other.buckets.test")


def test_a_user_is_asked_for_besides_the_token_and_kept(office: Office) -> None:
    """In force, in the list that a restart reads, and for no reader that knows nothing of users."""
    office.registrations = Registrations(
        office.state,
        office.boss,  # type: ignore[arg-type]
        office.reading,  # type: ignore[arg-type]
        None,
        [("127.0.0.1", 3128), UnixListener("/run/p.sock")],
    )
    refused = office.ask("sandbox-add", name="both", uids=[7], sources=["10.0.0.1"])
    assert "a client of a unix socket has no address" in refused["problems"][0]
    token = office.ask("sandbox-add", name="build", uids=[7, 8, 7])["token"]
    roster = office.boss.generation.roster
    assert roster is not None
    credentials = [b"Basic " + base64.b64encode(f"build:{token}".encode())]
    places = [ClientPlace("x", UnixListener("/run/p.sock"), uid) for uid in (7, 8, 9, None)]
    assert [roster.identify(place, credentials) for place in places] == ["build", "build", None, None]
    assert [roster.at(place) for place in places] == [None] * 4
    (own,) = read_registry(office.state) or ()
    assert own.uids == (7, 8)
    assert json.loads((office.state / NAME).read_text())["format"] == 2
    office.ask("sandbox-rm", name="build")
    assert json.loads((office.state / NAME).read_text())["format"] == 1


def test_tokens_are_all_different(office: Office) -> None:
    """Nobody guesses the next."""
    assert len({office.ask("sandbox-add", name=f"s{number}")["token"] for number in range(20)}) == 20


def test_a_session_narrows_and_never_widens(office: Office) -> None:
    """What it allows and the common files do not stays denied."""
    office.ask("sandbox-add", name="free")
    office.ask("sandbox-add", name="held", policy=SESSION)
    made = office.boss.generation
    assert [allows(made, "free", "a.test", method) for method in ("GET", "POST")] == [True, True]
    assert [allows(made, "held", "a.test", method) for method in ("GET", "POST")] == [True, False]
    assert not allows(made, "held", "evil.test")


def test_who_was_there_keeps_the_same_policy_and_number_grows(office: Office) -> None:
    """Adding one compiles one."""
    office.ask("sandbox-add", name="one", policy=SESSION)
    before = office.boss.generation
    office.ask("sandbox-add", name="two", policy=SESSION)
    after = office.boss.generation
    assert after.policy_of("one") is before.policy_of("one")
    assert after.number == before.number + 1
    assert after.digest != before.digest
    assert after.files_digest == before.files_digest


WRONG = [
    ({"name": "Bad_"}, "not a name"),
    ({"name": "default"}, "what clients are called"),
    ({"name": "unknown"}, "what clients are called"),
    ({"name": 7}, "not a name"),
    ({}, "not a name"),
    ({"name": "a", "sources": ["nowhere"]}, "not an address"),
    ({"name": "a", "labels": {"team": "a.b"}}, "not a value for a label"),
    ({"name": "a", "labels": {"Team": "a"}}, "not a key for a label"),
    ({"name": "a", "labels": {"team": 1}}, "not a value for a label"),
    ({"name": "a", "uids": [7]}, "the proxy listens on no unix socket"),
    ({"name": "a", "uids": ["7"]}, "should be a user's number, not `7`"),
    ({"name": "a", "uids": [65534]}, "65534 is what the kernel calls every user"),
    ({"name": "a", "uids": [-1]}, "`-1` is no user's number"),
    ({"name": "a", "ttl": 0}, "30 days"),
    ({"name": "a", "ttl": LONGEST_TTL + 1}, "30 days"),
    ({"name": "a", "ttl": True}, "30 days"),
    ({"name": "a", "ttl": "1h"}, "30 days"),
    ({"name": "a", "policy": 1, "x": 1}, "no such request"),
    ({"name": "a", "policy": ["x"]}, "no such request"),
    ({"name": "a", "token": "mine"}, "no such request"),
    ({"name": "a", "policy": "version: 1\nmode: report\n"}, "can only narrow"),
    ({"name": "a", "policy": "version: 1\nresolvers: 10.0.0.53\n"}, "has no `resolvers`"),
    ({"name": "a", "policy": "version: 1\ninclude: [github]\n"}, "has no `include`"),
    ({"name": "a", "policy": "version: 1\nsecrets: {a: {env: HOME, hosts: [a.test]}}\n"}, "has no `secrets`"),
    ({"name": "a", "policy": "version: 1\nrules:\n  - allow: {file: /etc/passwd}\n"}, "has no `file`"),
    ({"name": "a", "policy": "version: 1\nrules:\n  - {allow: a.test, inject: {x-a: b}}\n"}, "has no `inject`"),
    ({"name": "a", "policy": "version: 1\nrules:\n  - {allow: a.test, sign: {sigv4: b}}\n"}, "has no `sign`"),
    ({"name": "a", "policy": "version: 1\nrules: 7\n"}, "should be a list"),
    ({"name": "a", "policy": "version: 1\nrules:\n  - {deny: '${sandbox.label.x}.corp.test'}\n"}, "has no label `x`"),
    ({"name": "a", "policy": "rules: [\n"}, "session of a"),
    ({"name": "a", "policy": "version: 1\n" + "#" * 40_000}, "larger than"),
]


@pytest.mark.parametrize(("asked", "told"), WRONG, ids=[told for _, told in WRONG])
def test_what_cannot_be_added_is_told_and_changes_nothing(office: Office, asked: dict[str, object], told: str) -> None:
    """Not the generation, not the registry, and nobody who reads files is disturbed."""
    before = office.boss.generation
    answer = office.ask("sandbox-add", **asked)
    assert answer["done"] is False
    assert told in "\n".join(answer["problems"])
    assert office.boss.generation is before
    assert not (office.state / NAME).exists()
    assert (office.boss.notes, office.reading.again) == ([], 0)


def test_a_name_is_taken_once(office: Office) -> None:
    """A second one would have the first one's connections."""
    assert office.ask("sandbox-add", name="a")["done"]
    again = office.ask("sandbox-add", name="a")
    assert "already" in again["problems"][0]


def test_there_are_so_many_and_no_more(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """INVARIANT bounded."""
    assert MOST_REGISTERED <= 1_000
    monkeypatch.setattr(registrations_module, "MOST_REGISTERED", 1)
    assert office.ask("sandbox-add", name="a")["done"]
    assert not office.ask("sandbox-add", name="b")["done"]


def test_one_that_is_removed_is_gone_and_nobody_becomes_the_default(office: Office) -> None:
    """Also in the registry, which stays: clients are told apart from the first sandbox on."""
    office.ask("sandbox-add", name="a")
    assert office.ask("sandbox-rm", name="a") == {"done": True, "name": "a", "cut": 0}
    assert office.boss.generation.roster is not None
    assert office.boss.generation.policy_of("default") is None
    assert read_registry(office.state) == ()
    assert office.boss.notes[-1] == ("sandbox-rm", "a; by uid 7; 0 connections cut")
    assert not office.ask("sandbox-rm", name="a")["done"]


def test_one_of_the_configuration_cannot_be_removed_or_replaced(office: Office) -> None:
    """It is the operator's, and stays until the next start."""
    office.ask("sandbox-add", name="a")
    roster = office.boss.generation.roster
    assert roster is not None
    fixed = replace(roster.members[0], definition=SandboxDefinition(Sandbox("fixed"), (ip_network("10.0.0.1"),)))
    office.boss.generation = replace(office.boss.generation, roster=Roster([*roster.members, fixed]))
    assert not office.ask("sandbox-rm", name="fixed")["done"]
    assert not office.ask("sandbox-add", name="fixed")["done"]
    assert office.ask("sandbox-rm", name="a")["done"]
    assert office.names == ["fixed"]


def test_what_has_expired_is_removed_by_itself(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next turn of the supervisor, which a timer brings."""
    office.ask("sandbox-add", name="short", ttl=5)
    office.ask("sandbox-add", name="long", ttl=500)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10)
    office.registrations.act()
    assert office.names == ["long"]
    assert ("sandbox-expire", "short; 0 connections cut") in office.boss.notes
    assert [own.name for own in read_registry(office.state) or ()] == ["long"]


def test_the_supervisor_is_woken_for_an_expiry(office: Office) -> None:
    """Not only when something else happens."""
    office.ask("sandbox-add", name="short", ttl=0.2)
    deadline = time.monotonic() + 10
    while office.names and time.monotonic() < deadline:
        office.boss.events.act(deadline)
        office.registrations.act()
    assert office.names == []


def test_one_is_not_added_if_it_cannot_be_written_down(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one is removed all the same."""
    office.ask("sandbox-add", name="a")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(registrations_module, "write_registry", full)
    assert "No space left" in office.ask("sandbox-add", name="b")["problems"][0]
    assert office.names == ["a"]
    assert office.ask("sandbox-rm", name="a")["done"]
    assert office.names == []


def test_a_change_is_handed_to_the_processes_without_what_they_have(office: Office) -> None:
    """They end up with the same sandboxes and digest, and keep the very policies that they had."""
    office.ask("sandbox-add", name="one", policy=SESSION)
    base = office.boss.generation
    after = enrolled(
        base, [*(base.registered or ()), SandboxDefinition(Sandbox("two"), registered=True, session=SESSION)]
    )
    read = read_generation(write_generation(after, base), base)
    assert (read.number, read.digest, read.common) == (after.number, after.digest, after.common)
    assert read.policy is base.policy
    assert read.policy_of("one") is base.policy_of("one")
    assert allows(read, "two", "a.test")
    assert not allows(read, "two", "a.test", "POST")
    with pytest.raises(ValueError, match=str(base.number)):
        read_generation(write_generation(after, base), after)
    whole = read_generation(write_generation(after))
    assert (whole.digest, sorted(member.definition.name for member in whole.roster.members)) == (  # type: ignore[union-attr]
        after.digest,
        ["one", "two"],
    )


DAMAGED = [
    "",
    "{}",
    '{"format": 3, "sandboxes": []}',
    '{"format": 2, "sandboxes": [{"name": "a", "labels": {}, "sources": [], "uids": [65534], "session": "", '
    '"expires": null, "token": "' + "0" * 64 + '"}]}',
    '{"format": 1, "sandboxes": [{"name": "default"}]}',
    '{"format": 1, "sandboxes": 7}',
    "[" * 100_000,
]


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_registry_stops_the_start(tmp_path: Path, text: str) -> None:
    """Without it a client that must be nobody could be everybody."""
    path = tmp_path / NAME
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(StateError):
        read_registry(tmp_path)


def test_a_registry_that_others_could_have_written_stops_the_start(tmp_path: Path) -> None:
    """By its mode, or by a link in its place."""
    assert read_registry(tmp_path) is None
    write_registry(tmp_path, [])
    assert read_registry(tmp_path) == ()
    (tmp_path / NAME).chmod(0o644)
    with pytest.raises(StateError):
        read_registry(tmp_path)
    os.rename(tmp_path / NAME, tmp_path / "elsewhere")  # noqa: PTH104
    (tmp_path / "elsewhere").chmod(0o600)
    (tmp_path / NAME).symlink_to("elsewhere")
    with pytest.raises(StateError):
        read_registry(tmp_path)


def test_a_registry_with_a_short_hash_is_damaged(tmp_path: Path) -> None:
    """No token may be empty."""
    own = SandboxDefinition(Sandbox("a"), token=hash_token(b"x"), registered=True)
    write_registry(tmp_path, [own])
    values = json.loads((tmp_path / NAME).read_text())
    values["sandboxes"][0]["token"] = ""
    (tmp_path / NAME).write_text(json.dumps(values))
    with pytest.raises(StateError):
        read_registry(tmp_path)


def test_one_whose_denial_cannot_be_filled_in_is_refused(generation: Generation, tmp_path: Path) -> None:
    """A common deny with a label that the sandbox lacks."""
    path = tmp_path / "deny.yaml"
    path.write_text('version: 1\nrules:\n  - deny: "${sandbox.label.team}.corp.test"\n')
    loaded = load_policy([PolicySource(Scope.SANDBOX, path)])
    base = replace(generation, policy=loaded.policy, common=loaded.policy.scopes)
    with pytest.raises(ConfigError, match="has no label `team`"):
        enrolled(base, [SandboxDefinition(Sandbox("a"), registered=True)])
    made = enrolled(base, [SandboxDefinition(Sandbox("a", (("team", "x"),)), registered=True)])
    assert made.policy_of("a") is not None
