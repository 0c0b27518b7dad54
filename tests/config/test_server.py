"""`egress.yaml`, flags and the environment: which wins, what each says when it is wrong."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path

import pytest

from egress.config import (
    AuditConfig,
    Durability,
    EnvSource,
    Limits,
    MitmStart,
    PolicySource,
    ServerConfig,
    ServerOverrides,
    default_key_source,
    default_state_dir,
    load_server_config,
)
from egress.errors import ConfigError, StateError
from egress.gate.fetching import take_key
from egress.policy import Lane, Scope

HOME = {"HOME": "/home/dev", "EGRESS_STATE_DIR": "/state"}


def load(
    tmp_path: Path, text: str, overrides: ServerOverrides | None = None, env: dict[str, str] | None = None
) -> ServerConfig:
    """A configuration from the text of its file."""
    path = tmp_path / "egress.yaml"
    path.write_text(text)
    return load_server_config(path, overrides or ServerOverrides(), HOME if env is None else env)


def test_nothing_said_gives_the_defaults() -> None:
    """No file, no flag: loopback, state folder, all limits in force."""
    config = load_server_config(None, ServerOverrides(), HOME)
    assert config.listen == ("127.0.0.1", 3128)
    assert config.audit == AuditConfig(Path("/state/audit.db"))
    assert config.ca_dir == Path("/state/ca")
    assert config.limits == Limits()
    assert (config.policies, config.resolve, config.upstream.ca, config.file) == ((), {}, (), None)
    assert (config.workers, config.mitm, config.lane, config.upstream.via) == (1, MitmStart.LAZY, None, False)


FULL = """
listen: 0.0.0.0:0
state_dir: state
audit: {path: log/audit.db, flush_interval: 0.5, queue: 500, query_values: true, durability: strict, denial_rows: 9}
ca_dir: /ca
upstream: {ca: [roots.pem, /more.pem], via: true}
workers: 4
mitm: warm
lane: http
resolve: {db.corp.example: 10.1.2.3, api.corp.example: [10.1.2.4, "2001:db8::1"]}
policy: [coding-agent, mine.yaml]
scopes: {org: org.yaml, team: [a.yaml, b.yaml]}
limits: {connections: 10, head_seconds: 1, idle_seconds: 30.5, judged_body: 5000,
  tunnel_seconds: 3600, tunnel_bytes: 5000000000}
secrets: {github: {env: GITHUB_TOKEN, hosts: [api.github.com]}}
"""


def test_every_key_of_the_file_counts(tmp_path: Path) -> None:
    """Paths are taken from the file's folder."""
    config = load(tmp_path, FULL, env={"HOME": "/home/dev"})
    assert config.listen == ("0.0.0.0", 0)
    assert config.state_dir == tmp_path / "state"
    assert config.audit == AuditConfig(
        tmp_path / "log/audit.db",
        flush_interval=0.5,
        queue=500,
        query_values=True,
        durability=Durability.STRICT,
        denial_rows=9,
    )
    assert config.ca_dir == Path("/ca")
    assert config.upstream.ca == (tmp_path / "roots.pem", Path("/more.pem"))
    assert config.resolve == {
        "db.corp.example": (ip_address("10.1.2.3"),),
        "api.corp.example": (ip_address("10.1.2.4"), ip_address("2001:db8::1")),
    }
    assert [source.scope for source in config.policies] == [
        Scope.SANDBOX,
        Scope.SANDBOX,
        Scope.ORG,
        Scope.TEAM,
        Scope.TEAM,
    ]
    assert config.policies[1] == PolicySource(Scope.SANDBOX, tmp_path / "mine.yaml")
    assert config.limits == Limits(
        connections=10,
        connections_per_client=2,
        head_seconds=1,
        idle_seconds=30.5,
        tunnel_seconds=3600,
        tunnel_bytes=5_000_000_000,
        judged_body=5_000,
    )
    assert (config.workers, config.mitm, config.lane, config.upstream.via) == (4, MitmStart.WARM, Lane.HTTP, True)
    assert config.secrets["github"].source == EnvSource("GITHUB_TOKEN")
    assert config.file == tmp_path / "egress.yaml"


@pytest.mark.parametrize(
    ("text", "room"),
    [
        ("limits: {head_seconds: 1}", 1024),
        ("limits: {connections: 400}", 100),
        ("limits: {connections: 2}", 1),
        ("limits: {connections: 400, connections_per_client: 400}", 400),
        ("limits: {connections_per_client: 7}", 7),
    ],
)
def test_one_client_gets_a_quarter_of_the_connections_unless_told(text: str, room: int, tmp_path: Path) -> None:
    """A client that opens all it can leaves room for the others, and always has room for one."""
    assert load(tmp_path, text + "\n").limits.connections_per_client == room


@pytest.mark.parametrize("name", ["tunnel_seconds", "tunnel_bytes"])
def test_a_tunnel_may_be_said_to_be_unlimited(name: str, tmp_path: Path) -> None:
    """It is what holds where nothing is said; tunnels that nothing moves on still end."""
    limits = load(tmp_path, f"limits: {{{name}: unlimited}}\n").limits
    assert limits == Limits()
    assert getattr(limits, name) is None


def test_any_lane_can_be_said_in_the_file(tmp_path: Path) -> None:
    """The words are those of the audit, and `auto` for none."""
    said = {word: load(tmp_path, f"lane: {word}\n").lane for word in ("auto", *Lane)}
    assert said == {"auto": None, "tunnel": Lane.TUNNEL, "http": Lane.HTTP, "mitm": Lane.MITM}


def test_flags_win(tmp_path: Path) -> None:
    """Single values replace; roots and pins add; policies replace those of their own scope."""
    flags = ServerOverrides(
        listen="[::1]:8080",
        workers=2,
        mitm="lazy",
        lane="auto",
        state_dir=Path("/flag"),
        audit=Path("/flag.db"),
        ca_dir=Path("/flag-ca"),
        upstream_ca=(Path("flag.pem"),),
        resolve=("db.corp.example:10.9.9.9", "new.corp.example:10.9.9.8", "new.corp.example:10.9.9.7"),
        policies=("deny-all",),
    )
    config = load(tmp_path, FULL, flags)
    assert config.listen == ("::1", 8080)
    assert (config.workers, config.mitm, config.lane) == (2, MitmStart.LAZY, None)
    assert (config.state_dir, config.audit.path, config.ca_dir) == (Path("/flag"), Path("/flag.db"), Path("/flag-ca"))
    assert config.upstream.ca[-1] == Path("flag.pem")
    assert config.resolve["db.corp.example"] == (ip_address("10.9.9.9"),)
    assert config.resolve["new.corp.example"] == (ip_address("10.9.9.8"), ip_address("10.9.9.7"))
    assert "api.corp.example" in config.resolve
    names = [(source.scope, source.path.name) for source in config.policies]
    assert names == [
        (Scope.ORG, "org.yaml"),
        (Scope.TEAM, "a.yaml"),
        (Scope.TEAM, "b.yaml"),
        (Scope.SANDBOX, "deny-all.yaml"),
    ]


@pytest.mark.parametrize(
    ("env", "user", "folder"),
    [
        ({"EGRESS_STATE_DIR": "/x"}, 0, "/x"),
        ({"EGRESS_STATE_DIR": "", "HOME": "/h"}, 1000, "/h/.local/state/egress"),
        ({}, 0, "/var/lib/egress"),
        ({"XDG_STATE_HOME": "/xdg", "HOME": "/h"}, 1000, "/xdg/egress"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, 1000, "/h/.local/state/egress"),
    ],
)
def test_state_folder_truth_table(env: dict[str, str], user: int, folder: str) -> None:
    """$EGRESS_STATE_DIR, else /var/lib/egress for root, else the XDG state folder."""
    assert default_state_dir(env, user=user) == Path(folder)


def test_a_user_without_a_home_is_told_what_to_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run with any number of a user, and without HOME."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_294_000_001)
    with pytest.raises(StateError, match=r"no home.*--state-dir"):
        default_state_dir({}, user=4_294_000_001)
    with pytest.raises(StateError, match=r"no home.*--secrets-key-file"):
        default_key_source({}, user=4_294_000_001)
    # What needs no home is not asked for one.
    take_key(load_server_config(None, ServerOverrides(state_dir=Path("/state")), {}))


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "- a\n"])
def test_a_file_that_says_nothing_is_told_what_it_could_say(tmp_path: Path, text: str) -> None:
    """A key of this file, and none of a policy's."""
    path = tmp_path / "egress.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"`listen: 127\.0\.0\.1:3128`") as caught:
        load_server_config(path, ServerOverrides(), HOME)
    assert "version" not in str(caught.value)


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    """One variable moves all state, whatever the file says; a flag moves it again."""
    assert load(tmp_path, FULL).state_dir == Path("/state")
    assert load(tmp_path, FULL, ServerOverrides(state_dir=Path("/flag"))).state_dir == Path("/flag")


WRONG = [
    ("lisen: 127.0.0.1:1", "egress.yaml:1: lisen: unknown key, did you mean `listen`?"),
    ("listen: 3128", "egress.yaml:1: listen: the address to listen on is missing, write `127.0.0.1:3128`"),
    ("listen: example.com:1", "is a name; a listener needs an address"),
    ("listen: 127.0.0.1", "is not an address and port to listen on"),
    ("listen: 127.0.0.1:99999", "is not an address and port to listen on"),
    ("limits: {connections: 0}", "egress.yaml:1: limits.connections: should be greater than or equal to 1, not `0`"),
    ("limits: {connections: many}", "limits.connections: should be a number, not text"),
    ("limits: {head_seconds: true}", "limits.head_seconds: should be a number, not true/false"),
    ("limits: {head_seconds: .inf}", "limits.head_seconds: should be a number, not text"),
    ("limits: {head_second: 1}", "limits.head_second: unknown key, did you mean `head_seconds`?"),
    ("audit: x", "audit: should be a mapping, not text"),
    ("audit: {query_values: 1}", "audit.query_values: should be true or false, not `1`"),
    ("audit: {stream: 7}", "audit.stream: should be a mapping, not a number"),
    ("audit: {stream: stdot}", "audit.stream.to: `stdot` is nowhere that rows can be sent to, write `stdout`, `unix:"),
    ("audit: {stream: unix:log}", "audit.stream.to: `log` is not an absolute path of a socket, write `unix:/dev/log`"),
    ("audit: {stream: {to: 'tcp://127.0.0.1'}}", "audit.stream.to: `127.0.0.1` is not a host and port, write"),
    ("audit: {stream: {facility: local0}}", "audit.stream: `to` is missing, write `to: ...`"),
    (
        "audit: {stream: {to: stdout, facility: local9}}",
        "audit.stream.facility: `local9` is no facility of syslog, write",
    ),
    (
        "audit: {stream: {to: stdout, buffer: 1}}",
        "audit.stream.buffer: should be greater than or equal to 100, not `1`",
    ),
    ("audit: {durability: lax}", "audit.durability: should be 'normal' or 'strict', not `lax`"),
    ("audit: {denial_rows: 0}", "audit.denial_rows: should be greater than or equal to 1, not `0`"),
    ("audit: {flush_interval: 60}", "audit.flush_interval: should be less than or equal to 10, not `60`"),
    ("resolve: {db: x}", "resolve.db: `x` is not an IP address"),
    ("resolve: {a..b: 10.0.0.1}", 'resolve["a..b"]: `a..b` is not a host name'),
    ("resolve: {db: [10]}", "resolve.db[0]: should be text, not a number"),
    ("policy: codin-agent", "policy: `codin-agent`: no shipped policy has this name, did you mean `coding-agent`?"),
    ("scopes: {ogr: x.yaml}", "scopes.ogr:"),
    ("limits: {tunnel_seconds: forever}", "limits.tunnel_seconds: should be a number or `unlimited`, not `forever`"),
    ("limits: {tunnel_bytes: 1.5}", "limits.tunnel_bytes: should be a whole number, not `1.5`"),
    ("limits: {idle_seconds: unlimited}", "limits.idle_seconds: should be a number, not text"),
    (
        "workers: 0",
        "egress.yaml:1: workers: should be a whole number from 1 to 64, not `0`, write one for each processor",
    ),
    ("workers: 65", "workers: should be a whole number from 1 to 64, not `65`"),
    ("workers: two", "workers: should be a whole number from 1 to 64, not `two`"),
    ("workers: true", "workers: should be a whole number from 1 to 64, not true/false"),
    ("workers: [1]", "workers: should be a whole number from 1 to 64, not a list"),
    ("mitm: wram", "mitm: unknown word `wram`, did you mean `warm`?"),
    ("mitm: true", "mitm: should be `lazy` or `warm`, not true/false"),
    ("lane: htt", "lane: unknown word `htt`, did you mean `http`?"),
    ("lane: 7", "lane: should be `auto`, `tunnel`, `http` or `mitm`, not a number"),
    ("lane:", "lane: nothing stands after this key"),
    ("upstream: {via: 1}", "upstream.via: should be true or false, not `1`"),
    ("upstream: {proxy: x}", "upstream.proxy.url: the URL of a proxy begins with `http://`, `https://` or `socks5://`"),
    ("secrets: {github: {env: X}}", "secrets.github: `hosts` is missing"),
    ("ca_dir:", "ca_dir: nothing stands after this key"),
    ("state_dir: 7", "state_dir: should be text, not a number"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_wrong_configuration_says_where_and_what(tmp_path: Path, text: str, said: str) -> None:
    """The same form of message as for a policy."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text + "\n")
    assert said in str(caught.value)


def test_wrong_flags_and_file_are_told_together(tmp_path: Path) -> None:
    """Every problem at once, each with its flag or its line."""
    flags = ServerOverrides(
        listen="nowhere", workers=0, mitm="x", lane="x", resolve=("x",), policies=("nothing", "ogr=x")
    )
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "lisen: 1\n", flags)
    assert [problem.file.rpartition("/")[2] for problem in caught.value.problems] == [
        "egress.yaml", "--listen", "--resolve", "--policy", "--policy", "--workers", "--mitm", "--lane",
    ]  # fmt: skip


def test_missing_configuration_file_is_an_error(tmp_path: Path) -> None:
    """A path that is given and not there is no empty configuration."""
    with pytest.raises(ConfigError, match="no such file"):
        load_server_config(tmp_path / "none.yaml", ServerOverrides(), HOME)


@pytest.mark.parametrize("name", sorted(Limits.__dataclass_fields__))
@pytest.mark.parametrize("value", ["-1", "999999999999999999"])
def test_every_limit_has_bounds(tmp_path: Path, name: str, value: str) -> None:
    """INVARIANT bounded: a limit that could be switched off would be none."""
    with pytest.raises(ConfigError, match=f"limits.{name}: should be"):
        load(tmp_path, f"limits: {{{name}: {value}}}\n")
