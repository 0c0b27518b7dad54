"""Start-up: unsafe options, foreign hands on files, secrets that are none."""

from __future__ import annotations

import os
import pwd
import stat
from typing import TYPE_CHECKING

import pytest
from harness.namespace import HarnessError
from harness.origins import answer_ok
from harness.proxy import COMMAND

from corpus_runner.cases import CANARY
from corpus_runner.evidence import judge, leaks
from corpus_runner.plays_faults import _refused
from corpus_runner.policies import ENVIRONMENT, HOST, INJECT
from corpus_runner.scripts import script
from corpus_runner.wire import ask, get, observe

if TYPE_CHECKING:
    from pathlib import Path

    from harness.attacker import Attacker
    from harness.world import World

    from corpus_runner.cases import Case

UNSAFE = {
    "FAILOPEN-025": ("stream_large_bodies=1k",),
    "FAILOPEN-042": ("ignore_hosts=evil",),
    "FAILOPEN-043": ("tcp_hosts=evil", "udp_hosts=evil"),
    "FAILOPEN-044": ("rawtcp=true",),
    "FAILOPEN-045": ("connection_strategy=eager",),
    "FAILOPEN-046": ("stream_large_bodies=1k",),
    "FAILOPEN-047": ("emudhra=true",),
    "SECRETINJE-012": ("ssl_insecure=true",),
    "TAMPER-017": ("client_certs=/tmp",),
}


@script(*UNSAFE)
def unsafe_option(world: World, case: Case) -> None:
    """An option that opens a way is refused, or set back: with it, nothing passes that would not pass without it."""
    try:
        proxy = world.start_addon(INJECT, *UNSAFE[case.id], env=ENVIRONMENT)
        assert proxy.address
    except HarnessError as refusal:
        assert UNSAFE[case.id][0].partition("=")[0] in str(refusal)  # noqa: PT017 -- either way is right
        return

    def act(client: Attacker) -> None:
        client.send(
            b"POST http://evil.test/x HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000
        )
        client.response()

    try:
        for attempt in (act, lambda client: ask(client, host="evil.test"), _raw):
            evidence = observe(world, proxy, attempt, "")
            judge(case, evidence, ["no_upstream_conn(evil)", "no_upstream_bytes", "no_dns(evil.test)"])
        with world.origins.behaving(answer_ok, fault="self-signed"):
            evidence = observe(world, proxy, ask, "allow")
        judge(case, evidence, ["no_upstream_bytes", "no_canary(client)", "no_canary(log)", "no_canary(audit)"])
    finally:
        proxy.stop()


def _raw(client: Attacker) -> None:
    if client.connect("evil.test:443"):
        client.segments([b"G", b"ET /x HTTP/1.1\r\nHost: evil.test\r\n\r\n"])
        client.response()


@script("FAILOPEN-026")
def script_that_breaks(world: World, case: Case) -> None:
    """When the script is edited into nonsense under mitmdump, or taken away, nothing passes from then on."""
    for ruin in (lambda path: path.write_text("def broken(:\n"), lambda path: path.unlink()):
        proxy = world.start_addon(HOST, env=ENVIRONMENT)
        judge(case, observe(world, proxy, ask, "allow"), ["reaches(allowed)"])
        ruin(proxy.script)
        for _ in range(60):
            evidence = observe(world, proxy, ask, "")
            if not evidence.connections:
                break
        judge(case, evidence, ["no_upstream_conn(*)", "no_upstream_bytes"])
        judge(
            case,
            observe(world, proxy, lambda client: get(client, "http://evil.test/", "evil.test"), ""),
            ["no_upstream_conn(*)"],
        )
        proxy.stop()


@script("SECRETINJE-013")
def secret_with_a_line_end(world: World, case: Case) -> None:
    """A value that would start a header of its own is never sent: the proxy does not start, or denies."""
    for value in (f"{CANARY}\r\nX-Evil: 1", f"{CANARY}\nX-Evil: 1"):
        proxy = world.start(INJECT, env={"EGRESS_TEST_CANARY": value})
        try:
            assert proxy.address
        except HarnessError:
            assert not leaks(proxy.log_file.read_bytes())
            continue
        evidence = observe(world, proxy, ask)
        judge(case, evidence, ["no_upstream_bytes", "audit_row(deny)", *case.asserts])
        proxy.close()


@script("SECRETINJE-014")
def secret_file(world: World, case: Case) -> None:
    """One line end at the end of a secret's file is the file's, not the secret's."""
    path = world.folder / "secret.txt"
    path.write_text(f"{CANARY}\n")
    path.chmod(0o600)
    policy = INJECT.replace("env: EGRESS_TEST_CANARY", f"file: {path}")
    judge(case, observe(world, world.proxy(policy), ask, "allow"))


@script("TAMPER-003", "TAMPER-004")
def policy_in_foreign_hands(world: World, case: Case) -> None:
    """A policy that others can write, or that lies in a folder of theirs, is not loaded."""
    workspace = world.fresh_folder()
    policy = workspace / "policy.yaml"
    policy.write_text(HOST)
    if case.id == "TAMPER-003":
        policy.chmod(0o666)
        named = policy
    else:
        nobody = pwd.getpwnam("nobody")
        os.chown(workspace, nobody.pw_uid, nobody.pw_gid)
        named = world.fresh_folder() / "linked.yaml"
        named.symlink_to(policy)
    proxy = _refused(world, HOST, command=(str(COMMAND),), extra=("--policy", str(named)))
    assert named.name in proxy.log or policy.name in proxy.log


@script("TAMPER-008")
def modes_of_files(world: World, case: Case) -> None:
    """Nobody else can read the audit, its write-ahead log, or the CA's key, whatever the umask."""
    before = os.umask(0)
    try:
        proxy = world.start(INJECT, env=ENVIRONMENT)
        judge(case, observe(world, proxy, ask, "allow"), ["reaches(allowed)"])
    finally:
        os.umask(before)
    private = [*proxy.state.glob("audit.db*"), *(path for path in proxy.state.glob("ca/*") if "key" in path.name)]
    assert len(private) >= 3
    open_to_others = [path.name for path in private if _mode(path) & 0o077]
    assert not open_to_others
    assert not _mode(proxy.state) & 0o077
    proxy.close()


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@script("TAMPER-010", "TAMPER-012")
def another_user(world: World, case: Case) -> None:
    """Another user can neither read the proxy's environment nor stop it; and the secret is not in its command line."""
    proxy = world.proxy(INJECT, ENVIRONMENT)
    assert proxy.address
    pid = proxy.process.pid
    env = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
    as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    if case.id == "TAMPER-010":
        done = world.namespace.run([*as_nobody, "cat", f"/proc/{pid}/environ"], env=env)
        assert not leaks(done.stdout.encode())
        with open(f"/proc/{pid}/cmdline", "rb") as line:  # noqa: PTH123 -- a file of the kernel
            assert not leaks(line.read())
    else:
        done = world.namespace.run([*as_nobody, "kill", str(pid)], env=env)
    assert done.returncode != 0
    judge(case, observe(world, proxy, ask, "allow"), ["reaches(allowed)", "no_canary(client)"])


@script("TAMPER-016")
def onboarding_page(world: World, case: Case) -> None:
    """The host that mitmproxy answers itself is a host like any other: denied."""
    proxy = world.proxy(HOST, ENVIRONMENT)
    for path in ("", "cert/pem"):
        evidence = observe(world, proxy, lambda client, path=path: get(client, f"http://mitm.it/{path}", "mitm.it"))
        judge(case, evidence, ["audit_row(deny)", "no_upstream_conn(*)"])
        assert b"CERTIFICATE" not in evidence.client_bytes
        assert b"mitmproxy" not in evidence.client_bytes


@script("TAMPER-018")
def secret_reference_that_climbs(world: World, case: Case) -> None:
    """A reference is a name that was defined, and a source is a variable's name or a file: nothing climbs."""
    for policy in (
        INJECT.replace("${canary}", "${../../etc/passwd}"),
        INJECT.replace("${canary}", "${env:EGRESS_TEST_CANARY}"),
        INJECT.replace("env: EGRESS_TEST_CANARY", 'env: "../../EGRESS_TEST_CANARY"'),
    ):
        proxy = _refused(world, policy, env=ENVIRONMENT)
        assert not leaks(proxy.log.encode())
    proxy = world.start(INJECT.replace("env: EGRESS_TEST_CANARY", "file: /proc/1/environ"), env=ENVIRONMENT)
    with pytest.raises(HarnessError):
        assert proxy.address
    assert case.expected == "deny"
