"""Broken parts: whatever raises or hangs, nothing passes that was not judged."""

from __future__ import annotations

import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness.namespace import HarnessError

from corpus_runner.cases import CANARY
from corpus_runner.evidence import judge
from corpus_runner.policies import ENVIRONMENT, HOST, INJECT
from corpus_runner.scripts import script
from corpus_runner.wire import ask, get, observe

if TYPE_CHECKING:
    from harness.attacker import Attacker
    from harness.proxy import ProxyProcess, Row
    from harness.world import World

    from corpus_runner.cases import Case
    from corpus_runner.evidence import Evidence

FAULTY = Path(__file__).parents[2] / "e2e" / "faulty_proxy.py"
SMALL_QUEUE = "audit: {flush_interval: 0.02, queue: 100}\nlimits: {drain_seconds: 1, audit_seconds: 0.05}\n"
QUICK = "audit: {flush_interval: 0.02}\nlimits: {drain_seconds: 1, resolve_seconds: 0.5, audit_seconds: 0.5}\n"

# What is broken for each of the corpus' hooks: the hook itself, in the lane that has hooks. Where that has no code of
# its own in one, the function that does the judging at that step is broken instead, whatever lane comes to it.
BROKEN = {
    "requestheaders": ("--break-hook", "requestheaders:raise"),
    "request": ("--break", "egress.gate.gate:permit:raise"),
    "http_connect": ("--break-hook", "http_connect:raise"),
    "server_connected": ("--break", "egress.gate.gate:Gate.ready:raise"),
    "client_connected": ("--break-hook", "client_connected:raise"),
    "tls_start_server": ("--break-hook", "tls_start_server:raise"),
    "tls_established_server": ("--break-hook", "tls_established_server:raise"),
    "tcp_message": ("--break-hook", "tcp_message:raise"),
    "responseheaders": ("--break-hook", "responseheaders:raise"),
}


def start_broken(
    world: World, policy: str, *faults: str, text: str = "broken on purpose", more: str = ""
) -> ProxyProcess:
    """A proxy with parts of it broken. Hooks are the mitm lane's, which then carries everything.

    `more` is configuration.
    """
    command = (sys.executable, str(FAULTY), *faults, "--")
    extra = ("--lane", "mitm") if "--break-hook" in faults else ()
    return world.start(
        policy, command=command, env={**ENVIRONMENT, "FAULT_TEXT": text}, config=QUICK + more, extra=extra
    )


def end(proxy: ProxyProcess) -> None:
    """Stop a broken proxy."""
    # Its log may hold the traceback that was asked for, so only the exit is held to account.
    assert proxy.stop() == 0, proxy.log[-3000:]


@script(*(f"FAILOPEN-0{number}" for number in ("01", "02", "03", "06", "07", "10", "12", "14", "16")))
def broken_hook(world: World, case: Case) -> None:
    """Code that raises where the request is judged lets nothing through."""
    proxy = start_broken(world, HOST, *BROKEN[str(case.spec["hook"])])

    def act(client: Attacker) -> None:
        if case.spec["hook"] == "tcp_message":
            client.connect("allowed.test:443")
            client.send(b"\x00raw")
            client.response()
        elif case.mode == "explicit":
            get(client, "http://allowed.test/x", "allowed.test")
        else:
            ask(client)

    evidence = observe(world, proxy, act)
    end(proxy)
    assert b"ok allowed" not in evidence.client_bytes
    if "no_upstream_bytes" in case.asserts:
        judge(case, evidence, ["no_upstream_bytes"])
    if case.spec["hook"] != "client_connected":
        judge(case, evidence, ["audit_row(deny)"])
        if case.spec["hook"] != "tcp_message":
            assert any("internal-error" in f"{row['reason']} {row['error']}" for row in evidence.rows)


@script("FAILOPEN-039")
def slow_decision(world: World, case: Case) -> None:
    """A decision that takes for ever is a denial."""
    proxy = start_broken(world, HOST, "--break", "egress.gate.resolver:Resolver.resolve:hang")

    def act(client: Attacker) -> None:
        client.send(b"GET http://allowed.test/x HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
        client.response(patience=15)

    evidence = observe(world, proxy, act)
    end(proxy)
    judge(case, evidence, ["no_upstream_bytes", "audit_row(deny)"])


@script("FAILOPEN-040")
def crashed_layer(world: World, case: Case) -> None:
    """Trailers of a request, on which mitmproxy's layer crashes, take nothing upstream and leave nothing hanging."""
    proxy = world.proxy(INJECT, ENVIRONMENT)
    body = b"Transfer-Encoding: chunked\r\nTrailer: X-Late\r\n\r\n2\r\nhi\r\n0\r\nX-Late: 1\r\n\r\n"

    def act(client: Attacker) -> None:
        if client.connect("allowed.test:443") and client.handshake("allowed.test"):
            client.send(b"POST /x HTTP/1.1\r\nHost: allowed.test\r\n" + body)
            client.response()

    evidence = observe(world, proxy, act)
    judge(case, evidence, ["no_upstream_bytes", "audit_row(deny)"])
    assert not proxy.crashes()


@script("FAILOPEN-033")
def hostile_yaml(world: World, case: Case) -> None:
    """A policy that names Python objects or grows without end is refused, at once."""
    layers = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 10))
    for text in (
        "version: 1\nrules: !!python/object/apply:os.system ['touch /tmp/owned-by-yaml']\n",
        f"version: 1\nl0: &l0 [x]\n{layers}rules: []\n",
    ):
        _refused(world, text)
    assert not Path("/tmp/owned-by-yaml").exists()  # noqa: S108 -- what the policy would have made
    assert case.expected == "deny"


@script("FAILOPEN-030")
def missing_policy(world: World, case: Case) -> None:
    """Without its policy file the proxy does not start."""
    proxy = world.start(HOST, extra=("--policy", "/nonexistent/policy.yaml"))
    with pytest.raises(HarnessError):
        assert proxy.address
    assert proxy.exit_code == 1 or proxy.process.returncode == 1
    assert "/nonexistent/policy.yaml" in proxy.log
    assert case.expected == "deny"


def _refused(world: World, policy: str, **changes: object) -> ProxyProcess:
    """Start with this policy must fail: exit code 1, one clear word about why, quickly."""
    proxy = world.start(policy, **changes)
    with pytest.raises(HarnessError):
        assert proxy.address
    assert proxy.process.returncode == 1, proxy.log
    assert "egress: " in proxy.log
    assert not proxy.crashes(), proxy.log
    return proxy


@script("FAILOPEN-028")
def broken_at_reload(world: World, case: Case) -> None:
    """A file that does not load changes nothing, and the log says so."""
    proxy = world.start(HOST)
    assert proxy.address
    proxy.policy_file.write_text("version: 1\ndefault: allow\nrules: [\n")
    proxy.process.send_signal(signal.SIGHUP)
    _wait_for(lambda: "kept" in proxy.log)
    evidence = observe(world, proxy, lambda client: ask(client, host="evil.test"))
    judge(case, evidence, ["no_upstream_bytes", "no_upstream_conn(*)", "audit_row(deny)"])
    judge(case, observe(world, proxy, ask, "allow"), ["reaches(allowed)"])
    proxy.close()


@script("FAILOPEN-037")
def reload_race(world: World, case: Case) -> None:
    """While two policies take turns, what neither allows never passes, and every answer is one of the two."""
    policies = [HOST, HOST.replace("allowed.test", "api.allowed.test")]
    proxy = world.start(HOST)
    assert proxy.address
    done = threading.Event()

    def swap() -> None:
        turn = 0
        while not done.wait(0.03):
            turn += 1
            proxy.policy_file.with_suffix(".new").write_text(policies[turn % 2])
            proxy.policy_file.with_suffix(".new").rename(proxy.policy_file)
            proxy.process.send_signal(signal.SIGHUP)

    marks = world.marks()
    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for turn in range(60):
            name = ("allowed.test", "evil.test", "api.allowed.test")[turn % 3]
            observe_one(world, proxy, name)
    finally:
        done.set()
        swapping.join()
    hosts = {
        value for seen in world.origins.since(marks[0]) for head in seen.requests for value in head.values(b"host")
    }
    assert hosts <= {b"allowed.test", b"api.allowed.test"}
    assert not [seen for seen in world.origins.since(marks[0]) if seen.role == "evil"]
    proxy.close()
    assert case.expected == "deny"


def observe_one(world: World, proxy: ProxyProcess, name: str) -> bytes:
    """One plain request; what came back."""
    with world.attacker(proxy, world.fresh_client()) as client:
        return get(client, f"http://{name}/", name)


@script("FAILOPEN-036")
def before_it_is_ready(world: World, case: Case) -> None:
    """Nothing is accepted until policy and audit stand."""
    port = 19999
    proxy = world.start(HOST, listen=f"93.184.216.99:{port}")
    accepted = False
    while not accepted:
        try:
            world.namespace.connect(("93.184.216.99", port), timeout=0.5).close()
        except OSError:
            assert proxy.alive, proxy.log
            time.sleep(0.005)
        else:
            accepted = True
    assert (proxy.state / "audit.db").exists()
    assert proxy.ca_file.exists()
    judge(case, observe(world, proxy, lambda client: ask(client, host="evil.test")), ["no_upstream_conn(*)"])
    proxy.close()


@script("FAILOPEN-035")
def killed(world: World, case: Case) -> None:
    """A proxy that is killed leaves a database that opens, and no way through."""
    proxy = world.start(HOST)
    judge(case, observe(world, proxy, ask, "allow"), ["reaches(allowed)", "audit_row(allow)"])
    proxy.kill()
    _wait_for(lambda: _unreachable(world, proxy))
    assert [row["verdict"] for row in proxy.rows()] == ["allow"]
    with sqlite3.connect(f"file:{proxy.state / 'audit.db'}?mode=ro", uri=True) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def _unreachable(world: World, proxy: ProxyProcess) -> bool:
    try:
        world.namespace.connect(proxy.address).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # taken as it closed
        return False
    return False


@script("FAILOPEN-034")
def audit_that_cannot_be_written(world: World, case: Case) -> None:
    """While the database is locked, what passes is held for recording, and when no more can be held, nothing passes."""
    proxy = world.start(HOST, config=SMALL_QUEUE)
    judge(case, observe(world, proxy, ask, "allow"), ["reaches(allowed)"])
    blocker = sqlite3.connect(proxy.state / "audit.db", isolation_level=None, timeout=5)
    blocker.execute("BEGIN EXCLUSIVE")
    marks = world.marks()
    try:
        answers = [observe_one(world, proxy, "allowed.test") for _ in range(110)]
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()
    world.settle(marks[0])
    arrived = sum(len(seen.requests) for seen in world.origins.since(marks[0]))
    assert b"audit-unavailable" in answers[-1]
    assert arrived <= 100
    _wait_for(lambda: b"ok allowed" in observe_one(world, proxy, "allowed.test"), 10)
    rows = proxy.wait_rows("", lambda rows: _allowed(rows) >= arrived + 2)
    assert len({row["id"] for row in rows}) == len(rows)
    assert _allowed(rows) == arrived + 2
    proxy.close()


def _allowed(rows: list[Row]) -> int:
    return sum(row["verdict"] == "allow" for row in rows)


def _wait_for(condition: object, patience: float = 5.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@script("AUDITLOG-014")
def secret_in_an_exception(world: World, case: Case) -> None:
    """A traceback whose text holds the header's value does not bring it into log, audit or answer."""
    text = f"cannot send Authorization: Bearer {CANARY}"
    proxy = start_broken(world, INJECT, "--break", "egress.gate.gate:Gate.ready:raise", text=text)
    evidence: Evidence = observe(world, proxy, ask)
    end(proxy)
    judge(case, evidence, ["no_canary(audit)", "no_canary(client)", "no_canary(log)", "audit_row(*)"])


@script("FAILOPEN-049")
def key_log(world: World, case: Case) -> None:
    """No TLS key is written to a file because a variable asks for it."""
    path = world.folder / "keys.log"
    env = dict.fromkeys(("SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE"), str(path))
    proxy = world.start(HOST, env=env)
    judge(case, observe(world, proxy, ask, "allow"), ["reaches(allowed)"])
    proxy.close()
    assert not path.exists() or not path.stat().st_size


@script("FAILOPEN-050")
def proxy_variables(world: World, case: Case) -> None:
    """Variables that name a proxy for the proxy's own clients change no way."""
    env = dict.fromkeys(
        ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), "http://93.184.216.66:8080"
    )
    proxy = world.start(HOST, env={**env, "NO_PROXY": ""})
    judge(case, observe(world, proxy, ask, "allow"), ["reaches(allowed)", "no_upstream_conn(evil)"])
    evidence = observe(world, proxy, lambda client: ask(client, host="evil.test"))
    judge(case, evidence, ["no_upstream_conn(evil)", "no_upstream_bytes"])
    proxy.close()
