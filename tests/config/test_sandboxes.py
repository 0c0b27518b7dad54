"""Sandboxes in the server's configuration: what is read, what is refused and how, and the files of each."""

from __future__ import annotations

import hashlib
import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from egress.config import (
    PolicySource,
    SandboxDefinition,
    ServerOverrides,
    UnixListener,
    hash_token,
    load_policies,
    load_policy,
    load_server_config,
    policy_of,
    socket_mode,
)
from egress.errors import ConfigError
from egress.gate.build import load_generation
from egress.gate.roster import ClientPlace
from egress.policy import Host, Protocol, Request, Sandbox, Scope, Verdict

if TYPE_CHECKING:
    from egress.config import ServerConfig
    from egress.gate.generation import Generation

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "sandboxes.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
TOKEN = "0123456789abcdef" * 4
HASH = "sha256:" + hashlib.sha256(TOKEN.encode()).hexdigest()


def load(tmp_path: Path, text: str, env: dict[str, str] | None = None, **flags: str) -> ServerConfig:
    """The configuration of this text."""
    path = tmp_path / "egress.yaml"
    path.write_text(text)
    return load_server_config(path, ServerOverrides(**flags), env or {})  # type: ignore[arg-type]


def test_a_sandbox_is_read_whole(tmp_path: Path) -> None:
    """Sources, listener, token, labels, and files from the configuration's folder."""
    config = load(
        tmp_path,
        f"""
listen: [127.0.0.1:3128, "[::1]:3128"]
sandboxes:
  a:
    source: [10.0.0.0/8, 192.0.2.1]
    listener: "[::1]:3128"
    token: {HASH}
    labels: {{team: data, stage: "1"}}
    policy: [./a.yaml]
    scopes: {{team: [./t.yaml], session: [./s.yaml]}}
  b: {{token_env: TOKEN}}
""",
        {"TOKEN": TOKEN},
    )
    assert config.listens == (("127.0.0.1", 3128), ("::1", 3128))
    first, second = config.sandboxes
    assert first == SandboxDefinition(
        Sandbox("a", (("team", "data"), ("stage", "1"))),
        (ip_network("10.0.0.0/8"), ip_network("192.0.2.1")),
        ("::1", 3128),
        hash_token(TOKEN.encode()),
        (
            PolicySource(Scope.SANDBOX, tmp_path / "a.yaml"),
            PolicySource(Scope.TEAM, tmp_path / "t.yaml"),
            PolicySource(Scope.SESSION, tmp_path / "s.yaml"),
        ),
    )
    assert second.token == first.token


WRONG = [
    ("a: {labels: {team: x}}", "sandboxes.a: nothing tells this sandbox's clients from others, give it a `source`"),
    ("A: {source: 10.0.0.1}", "sandboxes.A: `A` is not a name for a sandbox, write 1 to 63"),
    ("a.b: {source: 10.0.0.1}", "`a.b` is not a name for a sandbox"),
    ("default: {source: 10.0.0.1}", "`default` is what clients are called that are no sandbox of their own"),
    ("unknown: {source: 10.0.0.1}", "`unknown` is what clients are called that are no sandbox of their own"),
    ("a: {source: 10.0.0.1/8}", "sandboxes.a.source: `10.0.0.1/8` has bits set outside its range"),
    ("a: {source: 0.0.0.0/0}", "sandboxes.a.source: `0.0.0.0/0` covers every address"),
    ("a: {source: host.test}", "sandboxes.a.source: `host.test` is not an address or a CIDR range"),
    ("a: {source: []}", "sandboxes.a.source: this list is empty"),
    ("a: {listener: 127.0.0.9:1}", "sandboxes.a.listener: the proxy does not listen there, so nobody would be"),
    (f"a: {{token: {TOKEN}}}", "sandboxes.a.token: this is not the hash of a token"),
    ("a: {token: md5:x}", "sandboxes.a.token: this is not the hash of a token"),
    (f"a: {{token: {HASH}, token_env: TOKEN}}", "both `token` and `token_env` are given, keep one of them"),
    ("a: {token_env: NONE}", "sandboxes.a.token_env: the variable `NONE` is not set, give it 32 or more"),
    ("a: {token_env: SHORT}", "sandboxes.a.token_env: the variable's value is no token"),
    ("a: {source: 10.0.0.1, labels: {team: a.b}}", "sandboxes.a.labels.team: `a.b` is not a value for a label"),
    ('a: {source: 10.0.0.1, labels: {team: "*"}}', "sandboxes.a.labels.team: `*` is not a value for a label"),
    ("a: {source: 10.0.0.1, labels: {Team: a}}", "sandboxes.a.labels.Team: `Team` is not a key for a label"),
    ("a: {source: 10.0.0.1, labels: {team: 1}}", "sandboxes.a.labels.team: should be text, not a number"),
    ("a: {source: 10.0.0.1, scopes: {org: [x]}}", "sandboxes.a.scopes.org"),
    ("a: {source: 10.0.0.1, user: 7}", "sandboxes.a.user: unknown key"),
    (
        "a: {uid: 7}",
        "sandboxes.a.uid: the proxy listens on no unix socket, so nobody would be this sandbox, add `unix:",
    ),
    ("a: {source: 10.0.0.1, policy: [nothing]}", "sandboxes.a.policy[0]: `nothing`: no shipped policy has this name"),
    (
        "a: {source: 10.0.0.1}\n  b: {source: [10.0.0.2, 10.0.0.1]}",
        "sandboxes.b: `10.0.0.1/32` is that of the sandbox",
    ),
    (
        "a: {listener: 127.0.0.1:3128}\n  b: {listener: 127.0.0.1:3128}",
        "sandboxes.b: its listener is that of the sandbox",
    ),
]


@pytest.mark.parametrize(("text", "told"), WRONG, ids=[told[:60] for _, told in WRONG])
def test_what_leaves_open_who_a_client_is_is_refused(tmp_path: Path, text: str, told: str) -> None:
    """With its line and what to write; a token or hash is never repeated."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"sandboxes:\n  {text}\n", {"SHORT": "x" * 31})
    problems = "\n".join(str(problem) for problem in caught.value.problems)
    assert told in problems
    assert "egress.yaml:" in problems
    assert TOKEN not in problems


def test_what_a_token_tells_apart_may_share_a_source(tmp_path: Path) -> None:
    """And a source may be another's with another listener."""
    text = f"""
listen: [127.0.0.1:1, 127.0.0.2:1]
sandboxes:
  a: {{source: 10.0.0.1}}
  b: {{source: 10.0.0.1, token: {HASH}}}
  c: {{source: 10.0.0.1, listener: 127.0.0.2:1}}
"""
    assert len(load(tmp_path, text).sandboxes) == 3


def test_the_flag_replaces_every_address(tmp_path: Path) -> None:
    """A sandbox that was told by one of them is then an error, not somebody else."""
    text = "listen: [127.0.0.1:1, 127.0.0.2:1]\n"
    assert load(tmp_path, text, listen="127.0.0.3:1").listens == (("127.0.0.3", 1),)
    with pytest.raises(ConfigError, match="does not listen there"):
        load(tmp_path, text + "sandboxes:\n  a: {listener: 127.0.0.2:1}\n", listen="127.0.0.3:1")
    with pytest.raises(ConfigError, match="twice"):
        load(tmp_path, "listen: [127.0.0.1:1, 127.0.0.1:1]\n")
    with pytest.raises(ConfigError, match="listen nowhere"):
        load(tmp_path, "listen: []\n")


def generation(tmp_path: Path, text: str, **files: str) -> Generation:
    """What the proxy would begin with."""
    for name, content in files.items():
        (tmp_path / f"{name}.yaml").write_text(content)
    return load_generation(load(tmp_path, text), {})


def allows(made: Generation, sandbox: str, host: str, path: str = "/") -> bool:
    """Whether a sandbox's policy allows a request."""
    policy = made.policy_of(sandbox)
    assert policy is not None
    return policy.decide_request(Request(sandbox, Protocol.HTTPS, Host(host), 443, "GET", path)).allowed


ALLOW = "version: 1\nrules:\n  - allow: {}.test\n"


def test_files_of_a_sandbox_come_on_top_of_the_common_ones(tmp_path: Path) -> None:
    """Equal sets of files are one policy, in one digest."""
    text = """
policy: [./common.yaml]
sandboxes:
  a: {source: 10.0.0.1}
  b: {source: 10.0.0.2, policy: [./own.yaml]}
  c: {source: 10.0.0.3, policy: [./own.yaml]}
  d: {source: 10.0.0.4, scopes: {team: [./deny.yaml]}}
"""
    files = {"common": ALLOW.format("common"), "own": ALLOW.format("own")}
    made = generation(tmp_path, text, **files, deny="version: 1\nrules:\n  - deny: common.test\n")
    told = {name: (allows(made, name, "common.test"), allows(made, name, "own.test")) for name in "abcd"}
    assert told == {"a": (True, False), "b": (True, True), "c": (True, True), "d": (False, False)}
    assert made.policy_of("b") is made.policy_of("c")
    assert made.policy_of("a") is made.policy
    assert made.policy_of("default") is None
    assert made.roster is not None
    assert made.roster.at(ClientPlace("10.0.0.4")) == "d"
    (tmp_path / "own.yaml").write_text(ALLOW.format("changed"))
    assert load_generation(load(tmp_path, text), {}).digest != made.digest


def test_a_sandbox_may_do_without_common_files(tmp_path: Path) -> None:
    """And then whoever is another has none at all."""
    made = generation(tmp_path, "sandboxes:\n  a: {source: 10.0.0.1, policy: [./own.yaml]}\n", own=ALLOW.format("own"))
    assert allows(made, "a", "own.test")


def test_a_sandboxs_file_defines_no_secret(tmp_path: Path) -> None:
    """It would be one of the proxy's, sent to a host of the sandbox's choice."""
    own = "version: 1\nsecrets: {k: {env: HOME, hosts: [evil.test]}}\n"
    with pytest.raises(ConfigError, match="may name secrets, not define them"):
        generation(tmp_path, "sandboxes:\n  a: {source: 10.0.0.1, policy: [./own.yaml]}\n", own=own)


def test_a_template_that_a_configured_sandbox_cannot_fill_in_is_an_error(tmp_path: Path) -> None:
    """Of an allow as of a denial: it is the operator's mistake."""
    for verb in ("allow", "deny"):
        common = f'version: 1\nrules:\n  - {verb}: "${{sandbox.label.team}}.corp.test"\n'
        text = "policy: [./common.yaml]\nsandboxes:\n  a: {source: 10.0.0.1}\n"
        with pytest.raises(ConfigError, match="the sandbox `a` has no label `team`"):
            generation(tmp_path, text, common=common)
        made = generation(tmp_path, text.replace("10.0.0.1", "10.0.0.1, labels: {team: x}"), common=common)
        assert allows(made, "a", "x.corp.test") is (verb == "allow")


def test_rules_for_some_sandboxes_hold_for_those(tmp_path: Path) -> None:
    """By label, in one file for all; what is equal for two is one policy."""
    common = """
version: 1
rules:
  - {deny: closed.test, sandboxes: [team=data]}
  - {allow: [closed.test, open.test]}
  - {allow: built.test, sandboxes: [c]}
"""
    text = """
policy: [./common.yaml]
sandboxes:
  a: {source: 10.0.0.1, labels: {team: data}}
  b: {source: 10.0.0.2, labels: {team: data}}
  c: {source: 10.0.0.3}
"""
    made = generation(tmp_path, text, common=common)
    told = {name: [allows(made, name, f"{host}.test") for host in ("closed", "open", "built")] for name in "abc"}
    assert told == {"a": [False, True, False], "b": [False, True, False], "c": [True, True, True]}
    assert made.policy_of("a") is made.policy_of("b")


def test_files_that_groups_share_are_read_once(tmp_path: Path) -> None:
    """Their rules are the same objects, however many sandboxes there are."""
    (tmp_path / "common.yaml").write_text(ALLOW.format("common"))
    common = PolicySource(Scope.ORG, tmp_path / "common.yaml")
    groups = []
    for number in range(3):
        path = tmp_path / f"own{number}.yaml"
        path.write_text(ALLOW.format(f"own{number}"))
        groups.append((common, PolicySource(Scope.SANDBOX, path)))
    first, second, third = load_policies(groups)
    assert first.policy.scopes[0] is second.policy.scopes[0] is third.policy.scopes[0]


def test_hundreds_of_sandboxes_with_one_file_load_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what differs is made for each."""
    reads: list[str] = []
    opened = os.open

    def counted(path: object, *more: object, **others: object) -> int:
        reads.append(str(path))
        return opened(path, *more, **others)  # type: ignore[arg-type]

    own = "".join(f"  s{number}: {{source: 10.0.{number // 250}.{number % 250}}}\n" for number in range(300))
    (tmp_path / "common.yaml").write_text('version: 1\nrules:\n  - allow: "${sandbox.name}.corp.test"\n')
    config = load(tmp_path, f"policy: [./common.yaml]\nsandboxes:\n{own}")
    monkeypatch.setattr(os, "open", counted)
    made = load_generation(config, {})
    assert sum(path.endswith("common.yaml") for path in reads) == 1
    assert allows(made, "s299", "s299.corp.test")
    assert not allows(made, "s299", "s298.corp.test")


def test_the_guides_configuration_loads(tmp_path: Path) -> None:
    """With the files that it names."""
    for name in ("org", "tenants", "builder", "team"):
        (tmp_path / f"{name}.yaml").write_text("version: 1\n")
    config = load(tmp_path, EXAMPLES[0], {"AGENT_2_TOKEN": TOKEN})
    made = load_generation(config, {})
    assert made.roster is not None
    assert [own.name for own in config.sandboxes] == ["batch", "builder", "notebook", "agent", "agent-2"]
    for address, name in (("10.8.1.1", "batch"), ("10.8.1.7", "builder"), ("10.8.2.9", "builder"), ("10.9.0.1", None)):
        assert made.roster.at(ClientPlace(address, ("127.0.0.1", 3128))) == name
    assert made.roster.at(ClientPlace("192.0.2.1", ("127.0.0.2", 3128))) == "notebook"


def test_the_guides_users_are_told_on_its_sockets(tmp_path: Path) -> None:
    """Each by its user on the first socket, and whoever may connect to the other; only that one has a mode stated."""
    (tmp_path / "tenants.yaml").write_text(EXAMPLES[1])
    config = load(tmp_path, EXAMPLES[3])
    _, shared, ops = config.listens
    assert isinstance(shared, UnixListener)
    assert isinstance(ops, UnixListener)
    assert [socket_mode(listener, config.sandboxes) for listener in (shared, ops)] == [0o666, 0o660]
    made = load_generation(config, {})
    assert made.roster is not None
    for listener, uid, name in (
        (shared, 1001, "build"),
        (shared, 1003, "data"),
        (shared, 1004, None),
        (ops, 1004, "ops"),
        (ops, 1001, None),
    ):
        assert made.roster.at(ClientPlace(f"unix:uid={uid}", listener, uid)) == name


def test_the_guides_file_serves_many_tenants(tmp_path: Path) -> None:
    """Each gets its own, and nobody another's."""
    (tmp_path / "tenants.yaml").write_text(EXAMPLES[1])
    loaded = load_policy([PolicySource(Scope.SANDBOX, tmp_path / "tenants.yaml")])
    assert not loaded.warnings
    data, build = Sandbox("ci-7", (("team", "data"),)), Sandbox("ci-8", (("team", "build"),))
    asked = [
        (data, "ci-7.buckets.corp.example", "/", True),
        (data, "ci-8.buckets.corp.example", "/", False),
        (data, "files.corp.example", "/teams/data/x", True),
        (data, "files.corp.example", "/teams/build/x", False),
        (data, "registry.corp.example", "/", False),
        (build, "registry.corp.example", "/", True),
        (build, "files.corp.example", "/teams/build/x", True),
    ]
    for sandbox, host, path, allowed in asked:
        policy = policy_of(loaded.policy, sandbox, whole=True)
        decision = policy.decide_request(Request(sandbox.name, Protocol.HTTPS, Host(host), 443, "GET", path))
        assert decision.allowed is allowed, (sandbox, host, path)
        assert decision.verdict in {Verdict.ALLOW, Verdict.DENY}
