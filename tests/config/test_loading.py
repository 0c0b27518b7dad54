"""What a good policy file becomes: rules, scopes, secrets, warnings, digest."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from egress.config import EnvSource, FileSource, LoadedPolicy, PolicySource, SecretDefinition, load_policy
from egress.errors import ConfigError
from egress.policy import (
    HostTarget,
    Injection,
    PortRange,
    Protocol,
    Rule,
    Scope,
    SecretRef,
    Target,
    TlsMode,
    Verdict,
    parse_target,
)


def load(tmp_path: Path, text: str, *, scope: Scope = Scope.SANDBOX, name: str = "policy.yaml") -> LoadedPolicy:
    """Load one policy from its text."""
    return load_policy([write(tmp_path, text, scope=scope, name=name)])


def write(tmp_path: Path, text: str, *, scope: Scope = Scope.SANDBOX, name: str = "policy.yaml") -> PolicySource:
    """A policy file in the test's folder."""
    path = tmp_path / name
    path.write_text(text)
    return PolicySource(scope, path)


def rules(loaded: LoadedPolicy) -> tuple[Rule, ...]:
    """The rules of the first scope."""
    return loaded.policy.scopes[0].rules


def problems(sources: list[PolicySource], **kwargs: object) -> list[str]:
    """What loading says is wrong, without the folder."""
    with pytest.raises(ConfigError) as caught:
        load_policy(sources, **kwargs)  # type: ignore[arg-type]
    return [
        f"{Path(problem.file).name}:{problem.line}: {problem.where}: {problem.message}"
        for problem in caught.value.problems
    ]


def host(text: str) -> Target:
    """A target that must parse."""
    target = parse_target(text)
    assert isinstance(target, Target)
    return target


FULL = """\
version: 1
default: ask
tls: auto
secrets:
  key: {env: KEY, hosts: [.example.com]}
  token: {file: token.txt, hosts: ["api.example.com:8443"]}
rules:
  - name: model API
    allow: [api.example.com, "*.example.com"]
    ports: [443, 8000-8010]
    methods: [POST]
    paths: [/v1/*, "/v2/**"]
    protocol: [https, wss]
    tls: inspect
    http2: true
    inject: {x-api-key: "a ${key} $$b"}
    remove: [Authorization]
    addresses: [10.0.0.0/8, 192.168.1.1]

  - deny: "**"
    methods: read-only
  - ask: example.org:22
"""


def test_every_key_of_a_rule_reaches_the_core(tmp_path: Path) -> None:
    """A file with all keys gives rules with all values, in order, each with its line."""
    loaded = load(tmp_path, FULL)
    first, second, third = rules(loaded)
    assert first == Rule(
        verdict=Verdict.ALLOW,
        targets=(
            Target(HostTarget("api.example.com", exact=True, below=False)),
            Target(HostTarget("example.com", exact=False, below=True)),
        ),
        file=str(tmp_path / "policy.yaml"),
        line=8,
        name="model API",
        ports=(PortRange(443, 443), PortRange(8000, 8010)),
        methods=frozenset({"POST"}),
        paths=("/v1/*", "/v2/**"),
        protocols=frozenset({Protocol.HTTPS, Protocol.WSS}),
        tls=TlsMode.INSPECT,
        inject=(Injection("x-api-key", ("a ", SecretRef("key"), " $b")),),
        remove=("Authorization",),
        addresses=(ip_network("10.0.0.0/8"), ip_network("192.168.1.1")),
        http2=True,
    )
    assert (second.verdict, second.line, second.methods) == (Verdict.DENY, 20, frozenset({"GET", "HEAD", "OPTIONS"}))
    assert (third.verdict, third.targets[0].port) == (Verdict.ASK, 22)
    scope = loaded.policy.scopes[0]
    assert (scope.scope, scope.default, scope.tls) == (Scope.SANDBOX, Verdict.ASK, TlsMode.AUTO)


def test_secrets_become_definitions(tmp_path: Path) -> None:
    """A source and a binding each; a file's path is taken from the policy's folder."""
    loaded = load(tmp_path, FULL)
    assert loaded.secrets == {
        "key": SecretDefinition("key", EnvSource("KEY"), (host(".example.com"),)),
        "token": SecretDefinition("token", FileSource(tmp_path / "token.txt"), (host("api.example.com:8443"),)),
    }


@pytest.mark.parametrize("text", ["version: 1\n", "version: 1\nrules:\n", "version: 1\nrules: []\n"])
def test_policy_without_rules_loads_and_denies_all(tmp_path: Path, text: str) -> None:
    """An empty policy is no error and allows nothing: it states no default."""
    loaded = load(tmp_path, text)
    assert rules(loaded) == ()
    assert loaded.policy.scopes[0].default is None


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ("ports: 443", "ports", (PortRange(443, 443),)),
        ('ports: "443"', "ports", (PortRange(443, 443),)),
        ("methods: GET", "methods", frozenset({"GET"})),
        ("paths: /v1", "paths", ("/v1",)),
        ("protocol: https", "protocols", frozenset({Protocol.HTTPS})),
        ("remove: Cookie", "remove", ("Cookie",)),
        ("addresses: 10.0.0.0/8", "addresses", (ip_network("10.0.0.0/8"),)),
    ],
)
def test_one_value_stands_for_a_list_of_it(tmp_path: Path, given: str, field: str, value: object) -> None:
    """Where a list is expected, a single value does."""
    loaded = load(tmp_path, f"version: 1\nrules:\n  - allow: api.example.com\n    {given}\n")
    assert getattr(rules(loaded)[0], field) == value


def test_aliases_stand_for_what_they_name(tmp_path: Path) -> None:
    """YAML's own aliases work, as long as they stay small."""
    loaded = load(tmp_path, "version: 1\nrules:\n  - allow: &hosts [a.example.com, b.example.com]\n  - deny: *hosts\n")
    assert rules(loaded)[0].targets == rules(loaded)[1].targets


def test_list_file_gives_targets_without_comments(tmp_path: Path) -> None:
    """One target a line; comments, blank lines and Windows line ends are nothing."""
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "hosts.txt").write_bytes(
        b"# hosts\r\na.example.com\r\n\n  *.example.org  # all below\n[2001:db8::1]:8443"
    )
    loaded = load(tmp_path, "version: 1\nrules:\n  - allow: {file: lists/hosts.txt}\n")
    assert rules(loaded)[0].targets == (host("a.example.com"), host("*.example.org"), host("[2001:db8::1]:8443"))
    assert loaded.files == (tmp_path / "policy.yaml", tmp_path / "lists" / "hosts.txt")


def test_list_file_of_100000_hosts_loads(tmp_path: Path) -> None:
    """Lists of any ordinary size are read."""
    (tmp_path / "hosts.txt").write_text("".join(f"h{n}.example.com\n" for n in range(100_000)))
    loaded = load(tmp_path, "version: 1\nrules:\n  - deny: {file: hosts.txt}\n")
    assert len(rules(loaded)[0].targets) == 100_000


def test_list_file_with_nothing_but_errors_stops_at_some(tmp_path: Path) -> None:
    """A wrong file named by mistake does not give a million lines of errors."""
    (tmp_path / "hosts.txt").write_text("not a host\n" * 10_000)
    said = problems([write(tmp_path, "version: 1\nrules:\n  - deny: {file: hosts.txt}\n")])
    assert len(said) == 51
    assert said[-1].endswith("more problems follow")


WARNINGS = {
    'rules:\n  - allow: "**"\n': "rules[0].allow[0]",
    "default: allow\n": "default",
    "rules:\n  - {name: x, allow: a.example.com}\n  - {name: x, allow: b.example.com}\n": "rules[1].name",
    "rules:\n  - allow: 10.0.0.0/8\n    addresses: [10.0.0.0/8]\n": "rules[0].addresses",
    "tls: tunnel\nrules:\n  - deny: a.example.com\n    methods: [POST]\n": "rules[0].methods",
    (
        "secrets:\n  k: {env: K, hosts: [a.example.com]}\n"
        'rules:\n  - allow: [a.example.com, b.example.com]\n    inject: {x-k: "${k}"}\n'
    ): "rules[0].inject.x-k",
    "secrets:\n  k: {env: K, hosts: [a.example.com]}\nrules:\n  - allow: .example.com\n    inject: {x-k: '${k}'}\n": (
        "rules[0].inject.x-k"
    ),
}


@pytest.mark.parametrize("text", WARNINGS)
def test_what_is_wider_than_it_looks_warns(tmp_path: Path, text: str) -> None:
    """The file is usable, and the doubtful place is named."""
    loaded = load(tmp_path, "version: 1\n" + text)
    assert [warning.where.removesuffix("[0]") for warning in loaded.warnings] == [WARNINGS[text].removesuffix("[0]")]
    assert all(warning.hint for warning in loaded.warnings)


def test_allowed_range_is_fine(tmp_path: Path) -> None:
    """A CIDR in `allow` is ordinary; only one that holds everything is refused."""
    assert load(tmp_path, "version: 1\nrules:\n  - allow: [10.0.0.0/8, 'fd00::/8']\n").warnings == ()
    assert load(tmp_path, "version: 1\nrules:\n  - deny: [0.0.0.0/0, '::/0']\n").warnings == ()


def test_empty_list_file_warns(tmp_path: Path) -> None:
    """A generated list that came out empty is told, since its rule matches nothing."""
    (tmp_path / "hosts.txt").write_text("# none\n")
    loaded = load(tmp_path, "version: 1\nrules:\n  - deny: {file: hosts.txt}\n")
    assert [warning.message for warning in loaded.warnings] == ["the list is empty"]


def test_files_of_one_scope_are_one_list_with_the_strictest_default(tmp_path: Path) -> None:
    """Rules in the order of the files; deny is stricter than ask, ask than allow; inspect than tunnel."""
    first = write(tmp_path, "version: 1\ndefault: allow\ntls: tunnel\nrules: [{allow: a.example.com}]\n", name="a.yaml")
    second = write(tmp_path, "version: 1\ndefault: ask\ntls: inspect\nrules: [{deny: b.example.com}]\n", name="b.yaml")
    third = write(tmp_path, "version: 1\nrules: [{ask: c.example.com}]\n", name="c.yaml")
    (scope,) = load_policy([first, second, third]).policy.scopes
    assert [Path(rule.file).name for rule in scope.rules] == ["a.yaml", "b.yaml", "c.yaml"]
    assert (scope.default, scope.tls) == (Verdict.ASK, TlsMode.INSPECT)


@pytest.mark.parametrize(
    ("stated", "asked"),
    [
        ({}, ()),
        ({Scope.SANDBOX: "10.0.0.3"}, (("10.0.0.3", 53),)),
        ({Scope.SANDBOX: "10.0.0.3", Scope.TEAM: "[10.0.0.2, '[fd00::2]:54']"}, (("10.0.0.2", 53), ("fd00::2", 54))),
        ({Scope.SANDBOX: "10.0.0.3", Scope.ORG: "10.0.0.1:5353"}, (("10.0.0.1", 5353),)),
    ],
)
def test_the_highest_scope_that_names_resolvers_has_the_say(
    tmp_path: Path, stated: dict[Scope, str], asked: tuple[tuple[str, int], ...]
) -> None:
    """Whoever is below cannot have others asked; and a policy's digest tells of them."""
    plain = [write(tmp_path, "version: 1\n", scope=scope, name=f"{scope}.yaml") for scope in Scope]
    before = load_policy(plain).policy
    texts = {scope: f"version: 1\nresolvers: {text}\n" for scope, text in stated.items()}
    files = [write(tmp_path, texts.get(scope, "version: 1\n"), scope=scope, name=f"{scope}.yaml") for scope in Scope]
    policy = load_policy(files).policy
    assert policy.resolvers == asked
    assert (policy.digest == before.digest) is not bool(stated)


def test_of_several_files_of_a_scope_the_first_names_the_resolvers(tmp_path: Path) -> None:
    """Of those that do."""
    texts = ("version: 1\n", "version: 1\nresolvers: 10.0.0.1\n", "version: 1\nresolvers: 10.0.0.2\n")
    files = [write(tmp_path, text, name=f"{number}.yaml") for number, text in enumerate(texts)]
    assert load_policy(files).policy.resolvers == (("10.0.0.1", 53),)


def test_scopes_stand_highest_first(tmp_path: Path) -> None:
    """Whatever the order of the flags."""
    sources = [write(tmp_path, "version: 1\n", scope=scope, name=f"{scope}.yaml") for scope in reversed(Scope)]
    assert [scope.scope for scope in load_policy(sources).policy.scopes] == list(Scope)


SECRET = "version: 1\nsecrets:\n  k: {env: K, hosts: [a.example.com]}\n"


def test_only_org_or_a_lone_file_defines_secrets(tmp_path: Path) -> None:
    """Else a team's file could name any variable or file of the proxy's and have it sent to a host of its own."""
    lone = write(tmp_path, SECRET, scope=Scope.TEAM, name="team.yaml")
    other = write(tmp_path, "version: 1\n", scope=Scope.ORG, name="org.yaml")
    assert set(load_policy([lone]).secrets) == {"k"}
    assert problems([other, lone]) == [
        "team.yaml:2: secrets: a policy of scope `team` beside others may name secrets, not define them"
    ]
    org = write(tmp_path, SECRET, scope=Scope.ORG, name="org.yaml")
    user = "version: 1\nrules:\n  - allow: a.example.com\n    inject: {x-k: '${k}'}\n"
    assert set(load_policy([org, write(tmp_path, user)]).secrets) == {"k"}


def test_secret_of_the_server_can_be_named_but_not_defined_again(tmp_path: Path) -> None:
    """One name, one definition."""
    server = {"k": SecretDefinition("k", EnvSource("K"), (host("a.example.com"),))}
    user = "version: 1\nrules:\n  - allow: a.example.com\n    inject: {x-k: '${k}'}\n"
    assert load_policy([write(tmp_path, user)], secrets=server).secrets == server
    said = problems([write(tmp_path, SECRET)], secrets=server)
    assert said == ["policy.yaml:3: secrets.k: this secret is defined already, in the server's configuration"]


def test_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    """One run tells everything there is to mend."""
    first = write(tmp_path, "version: 2\n", scope=Scope.ORG, name="a.yaml")
    second = write(tmp_path, "version: 1\nrules: 7\n", name="b.yaml")
    missing = PolicySource(Scope.TEAM, tmp_path / "none.yaml")
    said = problems([first, second, missing])
    assert sorted(text.split(":")[0] for text in said) == ["a.yaml", "b.yaml", "none.yaml"]


def test_digest_follows_what_is_said_not_how(tmp_path: Path) -> None:
    """Comments and layout do not change it; a value, a list entry, the order of rules and the scope do."""
    (tmp_path / "hosts.txt").write_text("a.example.com\n")
    text = "version: 1\nrules:\n  - allow: {file: hosts.txt}\n  - deny: b.example.com\n"
    digest = load(tmp_path, text).policy.digest
    assert len(digest) == 64
    assert int(digest, 16)
    same = "# a comment\nversion: 1\nrules: [{allow: {file: hosts.txt}}, {deny: b.example.com}]\n"
    assert load(tmp_path, same).policy.digest == digest
    others = [
        load(tmp_path, text.replace("b.example", "c.example")).policy.digest,
        load(tmp_path, "version: 1\nrules:\n  - deny: b.example.com\n  - allow: {file: hosts.txt}\n").policy.digest,
        load(tmp_path, text, scope=Scope.ORG).policy.digest,
    ]
    (tmp_path / "hosts.txt").write_text("a.example.com # same\n\n")
    assert load(tmp_path, text).policy.digest == digest
    (tmp_path / "hosts.txt").write_text("z.example.com\n")
    others.append(load(tmp_path, text).policy.digest)
    assert len({digest, *others}) == 5
