"""The store: a value comes out for a request to a host that it is bound to, over verified TLS, and for no other."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.config import EnvSource, FileSource, SecretDefinition
from egress.credentials import CredentialStore, Rendered
from egress.credentials.headers import apply_headers
from egress.policy import (
    AnyTarget,
    Host,
    HostTarget,
    Injection,
    Protocol,
    Reason,
    Refusal,
    Request,
    SecretRef,
    Target,
    parse_host,
    parse_target,
)

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "canary-Zm9vYmFy-4711"
BEARER = Injection("Authorization", ("Bearer ", SecretRef("github")))
PLAIN = Injection("X-Team", ("blue",))


def targets(*texts: str) -> tuple[Target, ...]:
    """Bound hosts as a policy file writes them."""
    found = tuple(parse_target(text) for text in texts)
    assert all(isinstance(target, Target) for target in found)
    return found  # type: ignore[return-value]


def host(text: str) -> Host:
    """A canonical host."""
    found = parse_host(text)
    assert isinstance(found, Host)
    return found


def env_secret(*hosts: str, name: str = "github", variable: str = "TOKEN") -> dict[str, SecretDefinition]:
    """One secret from a variable."""
    return {name: SecretDefinition(name, EnvSource(variable), targets(*(hosts or ("api.example.com",))))}


def file_secret(path: Path) -> dict[str, SecretDefinition]:
    """One secret from a file."""
    return {"github": SecretDefinition("github", FileSource(path), targets("api.example.com"))}


def ask(text: str = "api.example.com", port: int = 443, protocol: Protocol = Protocol.HTTPS) -> Request:
    """A request to that destination."""
    return Request("box", protocol, host(text), port, "GET", "/")


def one(store: CredentialStore, request: Request | None = None, *, verified_tls: bool = True) -> str:
    """The one header's value, the reason of the refusal, or `withheld` where the secret is not bound."""
    result = store.render((BEARER,), request or ask(), verified_tls=verified_tls)
    if isinstance(result, Refusal):
        assert CANARY not in result.detail
        return result.reason.value
    if result.withheld:
        assert (result.withheld, result.unbound) == (("Authorization",), ("github",))
        assert not result.headers
        assert not result.names
        return "withheld"
    assert result.names == ("github",)
    ((name, value),) = result.headers
    assert name == "Authorization"
    return value.reveal()


BINDINGS = [
    ("api.example.com", "api.example.com", 443, True),
    ("api.example.com", "API.Example.com.", 443, True),
    ("api.example.com", "api.example.com", 8443, False),
    ("api.example.com", "api.example.com", 80, False),
    ("api.example.com:8443", "api.example.com", 8443, True),
    ("api.example.com:8443", "api.example.com", 443, False),
    ("api.example.com", "example.com", 443, False),
    ("api.example.com", "a.api.example.com", 443, False),
    ("api.example.com", "xapi.example.com", 443, False),
    ("api.example.com", "api.example.com.evil.test", 443, False),
    ("*.example.com", "a.example.com", 443, True),
    ("*.example.com", "a.b.example.com", 443, True),
    ("*.example.com", "example.com", 443, False),
    ("*.example.com", "evilexample.com", 443, False),
    (".example.com", "example.com", 443, True),
    (".example.com", "evilexample.com", 443, False),
    ("192.0.2.7", "192.0.2.7", 443, True),
    ("192.0.2.7", "::ffff:192.0.2.7", 443, True),
    ("192.0.2.0/24", "192.0.2.9", 443, True),
    ("192.0.2.0/24", "api.example.com", 443, False),
    ("api.example.com", "192.0.2.9", 443, False),
]


@pytest.mark.parametrize(("bound", "to", "port", "allowed"), BINDINGS)
def test_a_secret_goes_to_its_hosts_and_ports_alone(bound: str, to: str, port: int, *, allowed: bool) -> None:
    """A binding names host and port (443 if it names none), and is never wider than it reads."""
    store = CredentialStore(env_secret(bound), env={"TOKEN": CANARY})
    assert one(store, ask(to, port)) == (f"Bearer {CANARY}" if allowed else "withheld")


def test_a_secret_bound_to_everything_goes_nowhere() -> None:
    """Configuration refuses `**`; a definition made in another way gets nothing by it."""
    definition = SecretDefinition("github", EnvSource("TOKEN"), (Target(AnyTarget()),))
    assert one(CredentialStore({"github": definition}, env={"TOKEN": CANARY})) == "withheld"


def test_a_secret_without_hosts_goes_nowhere() -> None:
    """No binding is no permission."""
    definition = SecretDefinition("github", EnvSource("TOKEN"), ())
    assert one(CredentialStore({"github": definition}, env={"TOKEN": CANARY})) == "withheld"


@pytest.mark.parametrize(
    ("protocol", "verified", "expected"),
    [
        (Protocol.HTTPS, True, f"Bearer {CANARY}"),
        (Protocol.WSS, True, f"Bearer {CANARY}"),
        (Protocol.HTTPS, False, "credential-insecure"),
        (Protocol.WSS, False, "credential-insecure"),
        (Protocol.HTTP, True, "credential-insecure"),
        (Protocol.WS, True, "credential-insecure"),
        (Protocol.TCP, True, "credential-insecure"),
    ],
)
def test_secret_confinement_to_verified_tls(protocol: Protocol, expected: str, *, verified: bool) -> None:
    """Over plain text, and over TLS to an unverified peer, no secret is rendered."""
    store = CredentialStore(env_secret(), env={"TOKEN": CANARY})
    assert one(store, ask(protocol=protocol), verified_tls=verified) == expected


def test_plain_text_injections_need_neither_tls_nor_binding() -> None:
    """A header without a secret in it is no secret."""
    store = CredentialStore({}, env={})
    result = store.render((PLAIN,), ask("any.example", 80, Protocol.HTTP), verified_tls=False)
    assert isinstance(result, Rendered)
    assert [(name, value.reveal()) for name, value in result.headers] == [("X-Team", "blue")]
    assert result.names == ()


def test_one_secret_that_may_not_go_holds_back_all() -> None:
    """Nothing is rendered in part: half of a request's headers would be another request."""
    store = CredentialStore(env_secret(), env={"TOKEN": CANARY})
    other = Injection("X-Other", (SecretRef("other"),))
    result = store.render((PLAIN, BEARER, other), ask(), verified_tls=True)
    assert isinstance(result, Refusal)
    assert result.reason is Reason.CREDENTIAL_UNAVAILABLE


def test_several_secrets_stand_in_one_header_and_are_named_once() -> None:
    """Parts are joined in order, with the literal text between them."""
    definitions = env_secret() | env_secret(name="second", variable="OTHER")
    store = CredentialStore(definitions, env={"TOKEN": "alpha", "OTHER": "beta"})
    parts = (SecretRef("github"), ":", SecretRef("second"), ":", SecretRef("github"))
    result = store.render((Injection("X-Both", parts),), ask(), verified_tls=True)
    assert isinstance(result, Rendered)
    assert result.headers[0][1].reveal() == "alpha:beta:alpha"
    assert result.names == ("github", "second")
    assert "alpha" not in repr(result)


BAD_VALUES = [
    ("", "is empty"),
    ("a\nb", "line break"),
    ("a\r\nX-Evil: 1", "line break"),
    ("a\x00b", "line break"),
    ("a\tb", "control character"),
    ("a\x7fb", "control character"),
    ("a\x1b[31m", "control character"),
    ("caf\u00e9", "outside ASCII"),
    ("\u20ac", "outside ASCII"),
    (" a", "space"),
    ("a ", "space"),
    ("\n", "line break"),
]


@pytest.mark.parametrize(("value", "message"), BAD_VALUES)
def test_a_value_that_cannot_stand_in_a_header_is_refused_without_quoting_it(value: str, message: str) -> None:
    """A line break in a value would begin a header of its own; the message names secret and source only."""
    padded = value.replace("a", CANARY)
    store = CredentialStore(env_secret(), env={"TOKEN": padded})
    assert one(store) == "credential-unavailable"
    (problem,) = store.problems()
    assert message in problem.message
    assert "`github`" in problem.message
    assert "`TOKEN`" in problem.message
    assert problem.hint
    assert "canary" not in str(problem) + repr(problem)


def test_a_missing_variable_is_unavailable_and_says_so() -> None:
    """The sandbox learns the secret's name, the log where its value was looked for."""
    store = CredentialStore(env_secret(), env={})
    assert one(store) == "credential-unavailable"
    result = store.render((BEARER,), ask(), verified_tls=True)
    assert isinstance(result, Refusal)
    assert "TOKEN" not in result.detail
    assert [str(problem) for problem in store.problems()] == [
        "credentials: secret `github`: variable `TOKEN` is empty, put the value there"
    ]


@pytest.mark.parametrize(
    "injection",
    [
        Injection("Host", ("evil.test",)),
        Injection("Content-Length", ("0",)),
        Injection("Bad Name", ("x",)),
        Injection("X\r\nY", ("x",)),
        Injection("X-Text", ("a\r\nX-Evil: 1",)),
        Injection("X-Empty", ()),
    ],
)
def test_an_injection_that_would_break_the_message_is_refused(injection: Injection) -> None:
    """Configuration refuses these; a rule made in another way is denied rather than sent half."""
    result = CredentialStore({}, env={}).render((injection,), ask(), verified_tls=True)
    assert isinstance(result, Refusal)
    assert result.reason is Reason.INTERNAL_ERROR


def test_preflight_refuses_before_anything_is_dialled() -> None:
    """It tells all but what only the handshake can tell."""
    store = CredentialStore(env_secret(), env={"TOKEN": CANARY})
    assert store.preflight((BEARER,), ask()) is None
    assert store.preflight((PLAIN,), ask(protocol=Protocol.HTTP)) is None
    for request, reason in [
        (ask(protocol=Protocol.HTTP), Reason.CREDENTIAL_INSECURE),
    ]:
        refusal = store.preflight((BEARER,), request)
        assert refusal is not None
        assert refusal.reason is reason


FILES = [
    (CANARY.encode(), CANARY),
    (CANARY.encode() + b"\n", CANARY),
    (CANARY.encode() + b"\r\n", CANARY),
    (CANARY.encode() + b"\n\n", None),
    (b"\n" + CANARY.encode(), None),
    (b"", None),
    (b"\n", None),
    (b"a\x00b", None),
    (b"\xff\xfe", None),
    ("caf\u00e9".encode(), None),
    (b"x" * 65536, "x" * 65536),
    (b"x" * 65537, None),
]


@pytest.mark.parametrize(("content", "value"), FILES)
def test_a_file_gives_its_content_without_one_final_line_break(
    tmp_path: Path, content: bytes, value: str | None
) -> None:
    """Exactly one is stripped, and what is left must stand in a header; 64 KiB is the limit."""
    path = tmp_path / "token"
    path.write_bytes(content)
    path.chmod(0o600)
    store = CredentialStore(file_secret(path), env={})
    assert one(store) == ("credential-unavailable" if value is None else f"Bearer {value}")
    assert bool(store.problems()) is (value is None)
    assert not store.warnings()


def test_a_file_is_read_again_when_it_changes_and_only_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotation needs no restart, and a busy proxy does not read a file for each request."""
    from egress.credentials import store as module

    reads: list[Path] = []
    real = module.read_file
    monkeypatch.setattr(module, "read_file", lambda name, path: (reads.append(path), real(name, path))[1])
    path = tmp_path / "token"
    path.write_text("one")
    store = CredentialStore(file_secret(path), env={})
    monkeypatch.setattr("egress.credentials.sources._UNSETTLED_NS", -(10**18))
    assert [one(store) for _ in range(5)] == ["Bearer one"] * 5
    assert len(reads) == 1
    path.write_text("three")
    assert one(store) == "Bearer three"
    (tmp_path / "new").write_text("fours")
    (tmp_path / "new").rename(path)
    assert one(store) == "Bearer fours"
    assert len(reads) == 3


def test_two_writes_within_the_clocks_grain_are_both_seen(tmp_path: Path) -> None:
    """Same length, same inode, same modification time: the second value is used."""
    path = tmp_path / "token"
    path.write_text("one")
    store = CredentialStore(file_secret(path), env={})
    state = path.stat()
    assert one(store) == "Bearer one"
    path.write_text("two")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert one(store) == "Bearer two"


def test_a_file_that_changed_just_now_is_not_taken_for_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the grain of a file's times, nothing but reading tells; afterwards its times do."""
    from egress.credentials import sources

    path = tmp_path / "token"
    path.write_text("one")
    assert sources.read_file("github", path).signature is None
    later = time.time_ns() + 10_000_000_000
    monkeypatch.setattr(sources.time, "time_ns", lambda: later)
    assert sources.read_file("github", path).signature == sources.signature(path.stat())


def test_a_file_that_goes_bad_is_not_served_from_memory(tmp_path: Path) -> None:
    """Who takes a secret away means it: the old value is not used, and the new one is once it is there."""
    path = tmp_path / "token"
    path.write_text("one")
    store = CredentialStore(file_secret(path), env={})
    assert one(store) == "Bearer one"
    for spoil in (path.unlink, lambda: path.write_text(""), lambda: path.write_text("a\nb")):
        spoil()
        assert one(store) == "credential-unavailable"
        assert store.problems()
        path.write_text("back")
        assert one(store) == "Bearer back"


@pytest.mark.parametrize(
    ("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o644, True), (0o620, True)]
)
def test_a_file_that_others_can_use_is_warned_about(tmp_path: Path, mode: int, *, warned: bool) -> None:
    """A warning, not an error: Kubernetes mounts secrets 0644 by default."""
    path = tmp_path / "token"
    path.write_text(CANARY)
    path.chmod(mode)
    store = CredentialStore(file_secret(path), env={})
    found = store.warnings()
    assert bool(found) is warned
    assert all("`github`" in problem.message and "chmod 600" in problem.hint for problem in found)
    assert CANARY not in str(found)
    assert one(store) == f"Bearer {CANARY}"


def test_a_kubernetes_mount_works_and_its_swap_is_seen(tmp_path: Path) -> None:
    """There the file is a link through `..data`, a link that is turned to another folder on rotation."""
    for number, value in (("1", "one"), ("2", "two")):
        (tmp_path / number).mkdir()
        (tmp_path / number / "token").write_text(value)
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "token").symlink_to("..data/token")
    store = CredentialStore(file_secret(tmp_path / "token"), env={})
    assert one(store) == "Bearer one"
    (tmp_path / "..new").symlink_to("2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert one(store) == "Bearer two"


def test_what_is_no_file_is_unavailable_at_once(tmp_path: Path) -> None:
    """A pipe in the file's place does not hold up the request, a folder is no traceback."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "missing", tmp_path / "pipe" / "below"):
        assert one(CredentialStore(file_secret(path), env={})) == "credential-unavailable"


def test_threads_read_whole_values(tmp_path: Path) -> None:
    """While a file is replaced again and again, each thread sees one of its values."""
    path = tmp_path / "token"
    path.write_text("a" * 100)
    store = CredentialStore(file_secret(path), env={})
    seen: set[str] = set()

    def read() -> None:
        for _ in range(200):
            seen.add(one(store))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for letter in "bcd" * 10:
        (tmp_path / "new").write_text(letter * 100)
        (tmp_path / "new").rename(path)
    for thread in threads:
        thread.join()
    assert seen <= {f"Bearer {letter * 100}" for letter in "abcd"}


def test_the_environment_loses_the_secrets_variables_and_the_store_keeps_them() -> None:
    """After scrubbing, a child process does not inherit the value; everything else stays."""
    code = (
        "import os, subprocess, sys\n"
        "from egress.config import EnvSource, SecretDefinition\n"
        "from egress.credentials import CredentialStore\n"
        "store = CredentialStore({'a': SecretDefinition('a', EnvSource('TOKEN'), ())}, env=os.environ)\n"
        "print(store.scrub_environment(os.environ), store.problems())\n"
        "sys.stdout.flush()\n"
        "subprocess.run(['env'], check=True)\n"
    )
    env = {"PATH": os.environ["PATH"], "TOKEN": CANARY, "KEPT": "yes"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("('TOKEN',) ()\n")
    assert "KEPT=yes" in done.stdout
    assert CANARY not in done.stdout


def test_a_reload_keeps_the_values_that_the_environment_lost() -> None:
    """SIGHUP makes a new store when the variables are gone already, under the same or another name."""
    env = {"TOKEN": "one", "PATH": "/bin"}
    store = CredentialStore(env_secret(), env=env)
    assert store.scrub_environment(env) == ("TOKEN",)
    assert env == {"PATH": "/bin"}
    again = store.reloaded(env_secret() | env_secret(name="renamed"), env=env)
    assert one(again) == "Bearer one"
    assert not again.problems()
    assert again.reloaded(env_secret(variable="OTHER"), env=env).problems()
    assert one(again.reloaded({}, env=env).reloaded(env_secret(), env=env)) == "Bearer one"
    assert one(again.reloaded(env_secret(), env={"TOKEN": "two"})) == "Bearer two"


def test_a_reload_binds_anew() -> None:
    """The old binding is gone with the old definitions."""
    store = CredentialStore(env_secret(), env={"TOKEN": "one"}).reloaded(env_secret("other.example.com"), env={})
    assert one(store) == "withheld"
    assert one(store, ask("other.example.com")) == "Bearer one"


def test_the_store_shows_names_only(tmp_path: Path) -> None:
    """A store in a log line or a crash report tells which secrets there are."""
    path = tmp_path / "token"
    path.write_text(CANARY)
    store = CredentialStore(env_secret(name="a") | file_secret(path), env={"TOKEN": CANARY})
    assert one(store) == f"Bearer {CANARY}"
    assert repr(store) == "<CredentialStore a github>"
    assert CANARY not in str(vars(store))


@given(
    value=st.text(),
    text=st.sampled_from(["api.example.com", "example.com", "10.0.0.1"]),
    port=st.sampled_from([443, 80, 8443]),
    protocol=st.sampled_from(Protocol),
    verified=st.booleans(),
    injections=st.lists(
        st.builds(
            Injection,
            st.sampled_from(["X-A", "Host", "", "authorization"]),
            st.tuples(st.text(max_size=3), st.sampled_from([SecretRef("github"), SecretRef("nobody"), "x"])),
        ),
        max_size=3,
    ),
)
def test_secret_confinement_for_any_request(
    value: str, text: str, port: int, protocol: Protocol, injections: list[Injection], *, verified: bool
) -> None:
    """Render never raises; a secret comes out only bound, over verified TLS, and as visible ASCII."""
    store = CredentialStore(env_secret(), env={"TOKEN": value})
    result = store.render(tuple(injections), ask(text, port, protocol), verified_tls=verified)
    if isinstance(result, Rendered):
        assert not result.names or (verified and protocol in {Protocol.HTTPS, Protocol.WSS})
        assert not result.names or (text, port) == ("api.example.com", 443)
        assert all(set(value.reveal()) <= set(map(chr, range(0x20, 0x7F))) for _, value in result.headers)


def test_host_targets_match_as_rules_do() -> None:
    """One reading of a target in the whole product."""
    from egress.policy import target_covers

    for bound, to, _, _ in BINDINGS:
        (target,) = targets(bound)
        if isinstance(target.what, HostTarget):
            store = CredentialStore(env_secret(bound), env={"TOKEN": "x"})
            port = target.port or 443
            assert (one(store, ask(to, port)) == "Bearer x") is target_covers(target, host(to), port)


def test_a_header_of_several_secrets_is_withheld_whole() -> None:
    """One secret that is not bound keeps the whole header back, and the client's own value of it too."""
    definitions = env_secret() | env_secret("other.example", name="second", variable="SECOND")
    store = CredentialStore(definitions, env={"TOKEN": CANARY, "SECOND": "second-value"})
    both = Injection("X-Both", (SecretRef("github"), ":", SecretRef("second")))
    result = store.render((BEARER, both), ask(), verified_tls=True)
    assert not isinstance(result, Refusal)
    assert [(name, value.reveal()) for name, value in result.headers] == [("Authorization", f"Bearer {CANARY}")]
    assert (result.withheld, result.unbound, result.names) == (("X-Both",), ("second",), ("github",))
    sent = apply_headers([(b"x-both", b"mine"), (b"Accept", b"*/*")], (), result)
    assert (b"x-both", b"mine") not in sent


# handed on to another process


def test_another_process_gets_the_same_values(tmp_path: Path) -> None:
    """Values of variables that are in no environment any more, bound as before; files are read where they are used."""
    (tmp_path / "file").write_text("filed-value\n")
    definitions = {
        **env_secret(),
        "filed": SecretDefinition("filed", FileSource(tmp_path / "file"), targets("api.example.com")),
        **env_secret(name="gone", variable="NOT_SET"),
    }
    store = CredentialStore(definitions, env={"TOKEN": CANARY})
    other = CredentialStore.handed_on(store.hand_on())
    assert repr(other) == repr(store)
    assert other.problems() == store.problems()
    assert {(secret.name, secret.reveal()) for secret in other.known()} == {
        ("github", CANARY),
        ("filed", "filed-value"),
    }
    elsewhere = Request("default", Protocol.HTTPS, host("else.example.com"), 443, "GET", "/")
    rendered = other.render((BEARER,), elsewhere, verified_tls=True)
    assert isinstance(rendered, Rendered)
    assert (rendered.headers, rendered.unbound) == ((), ("github",))


def test_a_secret_without_a_value_has_none_there_either() -> None:
    """Its requests are refused, for the reason it was refused here."""
    other = CredentialStore.handed_on(CredentialStore(env_secret(), env={}).hand_on())
    request = Request("default", Protocol.HTTPS, host("api.example.com"), 443, "GET", "/")
    refusal = other.render((BEARER,), request, verified_tls=True)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.CREDENTIAL_UNAVAILABLE


def test_a_store_is_handed_on_by_that_word_alone() -> None:
    """Nothing that copies or pickles whatever it finds gets at a value on the way."""
    store = CredentialStore(env_secret(), env={"TOKEN": CANARY})
    for taken in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            taken(store)
