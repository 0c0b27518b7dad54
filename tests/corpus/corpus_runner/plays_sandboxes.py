"""Tenants on one proxy: nobody gets what is another's, and whoever is nobody gets nothing."""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from harness.proxy import COMMAND, CONFIG

from corpus_runner.cases import CANARY
from corpus_runner.evidence import judge, leaks
from corpus_runner.policies import ENVIRONMENT, HOST, INJECT
from corpus_runner.scripts import script
from corpus_runner.wire import again, ask, observe

if TYPE_CHECKING:
    from harness.attacker import Attacker
    from harness.proxy import ProxyProcess
    from harness.world import World

    from corpus_runner.cases import Case

# The first tenant's requests get the secret, the second's are allowed without.
TENANTS = (
    INJECT.replace("    inject:", "    sandboxes: tenant-a\n    inject:")
    + "  - {allow: 'allowed.test:443', paths: /**}\n"
)
# The clock of the proxy, set an hour back once a file is there.
SET_BACK = """
import os, sys, time
real = time.time
time.time = lambda: real() - (3600 if os.path.exists({file!r}) else 0)
from egress.cli.main import main
main()
"""


def _tenants(world: World, policy: str = TENANTS) -> tuple[ProxyProcess, str, str]:
    """A proxy with two tenants, told by their addresses."""
    one, other = world.fresh_client(), world.fresh_client()
    sandboxes = f"sandboxes: {{tenant-a: {{source: {one}}}, tenant-b: {{source: {other}}}}}\n"
    return world.start(policy, config=CONFIG + sandboxes, env=ENVIRONMENT), one, other


@script("ISOLATION-001")
def warmed_connection(world: World, case: Case) -> None:
    """A connection that carried one tenant's secret never carries the other's request."""
    proxy, one, other = _tenants(world)
    marks = world.marks()
    with world.attacker(proxy, one) as warm:
        assert b"200 OK" in ask(warm, "/warm")
        seen = world.origins.since(marks[0])
        assert [leaks(bytes(connection.received)) for connection in seen] == [True]
        evidence = observe(world, proxy, ask, "allow", source=other)
        assert b"200 OK" in again(warm, "/still")
    judge(case, evidence, ["no_canary(client)", "reaches(allowed)", "audit_row(allow)"])
    carried = [connection for connection in world.origins.since(marks[0]) if b"GET /x " in bytes(connection.received)]
    assert [leaks(bytes(connection.received)) for connection in carried] == [False]
    proxy.close()


@script("ISOLATION-004")
def another_container(world: World, case: Case) -> None:
    """Whoever reaches the listener and is no sandbox of it is refused, with a row, before anything is resolved."""
    proxy, _, _ = _tenants(world, INJECT)
    evidence = observe(world, proxy, ask)
    judge(case, evidence, ["no_canary(client)", "no_upstream_conn(*)", "no_dns(*)", "audit_row(deny)"])
    assert {row["reason"] for row in evidence.rows} == {"sandbox-unknown"}
    proxy.close()


@script("ISOLATION-006")
def address_again(world: World, case: Case) -> None:
    """A sandbox that is gone takes its open connections with it, and its address is nobody's until it is given anew."""
    proxy, _, _ = _tenants(world, INJECT)
    source = world.fresh_client()
    assert proxy.address
    token = json.loads(_egress(world, proxy, "sandbox", "add", "short", "--source", source, "--json"))["token"]
    field = f"Proxy-Authorization: Basic {base64.b64encode(f'short:{token}'.encode()).decode()}\r\n"
    with world.attacker(proxy, source) as client:
        assert client.connect("allowed.test:443", field)
        assert client.handshake("allowed.test")
        assert b"200 OK" in again(client)
        # Idle, and not about to end a request.
        rows = proxy.wait_rows(source, lambda rows: bool(rows) and all(row["state"] == "done" for row in rows))
        assert [row["status"] for row in rows] == [200]
        _egress(world, proxy, "sandbox", "rm", "short")
        assert b"200 OK" not in again(client)
    for more in ("", field):
        evidence = observe(
            world, proxy, lambda client, more=more: client.connect("allowed.test:443", more), source=source
        )
        judge(case, evidence, ["no_canary(client)", "no_upstream_conn(*)"])
        assert evidence.rows[-1]["reason"] == "sandbox-unknown"
        assert token not in proxy.log
    proxy.close()


@script("FAILOPEN-038")
def clock_set_back(world: World, case: Case) -> None:
    """A rule that has expired stays so, whatever the clock says then."""
    file = world.fresh_folder() / "back"
    until = datetime.now(UTC) + timedelta(seconds=3)
    policy = HOST + f"    until: {until.isoformat()}\n"
    proxy = world.start(policy, command=(sys.executable, "-c", SET_BACK.format(file=str(file))))
    assert proxy.address
    time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()) + 0.1)
    for _ in range(2):
        evidence = observe(world, proxy, ask)
        judge(case, evidence, ["no_upstream_conn(*)", "no_upstream_bytes", "audit_row(deny)"])
        assert {row["reason"] for row in evidence.rows} == {"rule-expired"}
        file.touch()
    proxy.close()


@script("TAMPER-020")
def status_tells_no_secret(world: World, case: Case) -> None:
    """What the control socket answers names digests, never a value; and asking changes nothing."""
    proxy = world.start(INJECT, env=ENVIRONMENT)
    judge(case, observe(world, proxy, ask, "allow"), ["reaches(allowed)"])
    answers = [_egress(world, proxy, "status", "--json") for _ in range(2)]
    said = [json.loads(answer)["policy"] for answer in answers]
    assert said[0] == said[1]
    assert not any(leaks(answer.encode()) for answer in [*answers, _egress(world, proxy, "reload")])
    assert CANARY not in proxy.log
    judge(case, observe(world, proxy, _denied), ["no_canary(client)", "audit_row(deny)"])
    proxy.close()


def _denied(client: Attacker) -> bytes:
    return ask(client, host="evil.test")


def _egress(world: World, proxy: ProxyProcess, *words: str) -> str:
    """What a command says to the proxy's state folder."""
    done = world.namespace.run(
        [str(COMMAND), *words, "--state-dir", str(proxy.state)], env={"PATH": os.environ["PATH"]}
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)
