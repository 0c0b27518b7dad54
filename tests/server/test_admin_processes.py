"""`egress run --admin` as real processes: what it tells while they live, die and end, and who never reaches it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from documents import ROOT
from rig.ledger import wait_until
from rig.modes import HOST
from rig.proxy import SECRET
from station import Station, family, kill

if TYPE_CHECKING:
    from pathlib import Path

    from harness.authority import TestAuthority
    from harness.origins import Origins
    from rig.process import Process

ENVIRONMENT = {"CANARY": SECRET, "PYTHONPATH": str(ROOT)}
MAIN = [sys.executable, "-c", "from egress.cli.main import main; main()"]
TOLD = r"admin +http://([\d.]+):(\d+)"


class Watched(Station):
    """A station that tells of itself, and runs the code beside these tests."""

    def command(self, *more: str, listen: str = "127.0.0.1:0") -> list[str]:
        """The command line."""
        return [*MAIN, *super().command("--admin", "127.0.0.1:0", *more, listen=listen)[1:]]


@pytest.fixture
def station(tmp_path: Path, origin: Origins, roots: TestAuthority) -> Watched:
    """One with the usual site's policy."""
    return Watched(tmp_path, origin, roots)


def get(process: Process, path: str) -> tuple[int, str]:
    """Status and body of an answer."""
    told = process.says(TOLD)
    connection = http.client.HTTPConnection(told[1], int(told[2]), timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def value(process: Process, sample: str) -> float:
    """The value of a sample; 0 where there is none."""
    found = re.search(rf"^{re.escape(sample)} (\S+)$", get(process, "/metrics")[1], re.MULTILINE)
    return 0.0 if found is None else float(found[1])


def test_metrics_count_what_passes_and_what_does_not(station: Watched) -> None:
    """Decisions by reason and lane, bytes, rows, and no host of any request."""
    with station.running(env=ENVIRONMENT) as process:
        assert station.ask(HOST).status == 200
        assert station.ask("evil.test").status == 403
        denied = 'egress_decisions_total{verdict="deny",reason="host-not-allowed",lane="http"}'
        wait_until(lambda: value(process, denied) == 1, "the denial")
        wait_until(lambda: value(process, "egress_finished_total") == 2, "both outcomes")
        assert value(process, 'egress_sandbox_decisions_total{sandbox="default",verdict="allow"}') == 1
        assert value(process, 'egress_bytes_total{direction="down"}') > 0
        wait_until(lambda: value(process, "egress_audit_waiting_rows") == 0, "the record")
        text = get(process, "/metrics")[1]
        assert HOST not in text
        assert "evil.test" not in text


def test_readiness_follows_the_processes(station: Watched) -> None:
    """A worker that is stopped makes the proxy unready and does not hold the answer up; one that goes on mends it."""
    with station.running(env=ENVIRONMENT) as process:
        assert get(process, "/readyz")[0] == 200
        worker = family(process)["worker 1"]
        os.kill(worker, signal.SIGSTOP)
        status, body = get(process, "/readyz")
        assert (status, json.loads(body)["checks"]["workers"], json.loads(body)["checks"]["hub"]) == (503, False, True)
        assert get(process, "/healthz") == (200, "ok\n")
        os.kill(worker, signal.SIGCONT)
        wait_until(lambda: get(process, "/readyz")[0] == 200, "readiness")
        kill(family(process)["hub"])
        wait_until(lambda: get(process, "/readyz")[0] == 200 and "hub" in family(process), "another hub")


def test_no_sandbox_reaches_it_through_the_proxy(station: Watched) -> None:
    """Its port is the proxy's own, whatever a rule says of the address."""
    text = station.policy.read_text().replace("rules:\n", "rules:\n  - {allow: [127.0.0.1], ports: [1-65535]}\n", 1)
    station.policy.write_text(text)
    with station.running(env=ENVIRONMENT) as process:
        port = int(process.says(TOLD)[2])
        with station.wire() as wire:
            request = f"GET http://127.0.0.1:{port}/metrics HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
            reply = wire.send(request.encode()).reply()
        assert reply.status == 403
        assert "address-is-proxy" in (reply.field("x-egress-decision") or "")


def test_while_it_drains_it_is_not_ready_and_lives(station: Watched) -> None:
    """An orchestrator sends nothing new, and does not kill what ends by itself; at the end the port is free."""
    with station.running(env=ENVIRONMENT) as process:
        with station.wire() as wire:
            wire.send(b"POST " + station.request(path="/")[4:-2] + b"Content-Length: 10\r\n\r\n12345")
            wait_until(lambda: value(process, 'egress_open{process="worker 1"}') == 1, "a request under way")
            process.tell(signal.SIGTERM)
            wait_until(lambda: get(process, "/readyz")[0] == 503, "the end of readiness")
            assert get(process, "/healthz")[0] == 200
        assert process.ended() == 0
        with pytest.raises(ConnectionRefusedError):
            get(process, "/healthz")


def test_on_a_unix_socket_it_ends_as_cleanly_as_it_began(station: Watched, tmp_path: Path) -> None:
    """Its file and its lock are gone, no process of ours has either, and the exit status is 0."""
    path = tmp_path / "admin.sock"
    with station.running("--admin", f"unix:{path}", env=ENVIRONMENT) as process:
        process.says(rf"admin +unix:{path}")
        asked = ["curl", "-sS", "--unix-socket", str(path), "http://localhost/readyz"]
        assert json.loads(subprocess.check_output(asked, timeout=10))["ready"] is True
        process.tell(signal.SIGTERM)
        assert process.ended() == 0
        assert "Traceback" not in process.printed
    assert not [each for each in tmp_path.iterdir() if each.name.startswith("admin.sock")]
