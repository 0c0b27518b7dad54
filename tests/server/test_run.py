"""`egress run` as a process: it starts whole or not at all, reloads whole or not at all, and ends in order."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from harness.origins import Stream, answer_ok
from joined import config_in
from rig.ledger import wait_until
from rig.modes import HOST, RAW, TUNNELLED, policy
from rig.process import Process
from rig.proxy import SECRET
from rig.wire import Wire, trusting
from station import LISTENS

from egress.errors import StartError
from egress.server.run import serve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from station import Station


def half_then(gate: threading.Event) -> Callable[[Stream], None]:
    """An origin that sends half of its answer, and the rest when the gate opens."""

    def behave(stream: Stream) -> None:
        while stream.request():
            stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
            gate.wait(10)
            stream.send(b"done")

    return behave


# start

BROKEN = {
    "unknown key": ("rules: [{alow: ok.test}]", ["alow"]),
    "two problems": ("rules: [{allow: '*.com'}, {allow: a.test, deny: b.test}]", ["*.com", "rules[1]"]),
    "not yaml": ("rules: [", ["policy.yaml:"]),
    "an unknown secret": ("rules: [{allow: a.test, inject: {X-Key: '${gone}'}}]", ["gone"]),
}


@pytest.mark.parametrize(("text", "told"), BROKEN.values(), ids=BROKEN.keys())
def test_a_bad_policy_does_not_start(station: Station, text: str, told: list[str]) -> None:
    """Exit status 1, every problem on a line of its own, and never a listening socket."""
    station.policy.write_text(f"version: 1\n{text}\n")
    status, printed = station.refused()
    assert status == 1
    assert all(word in printed for word in told), printed
    assert all(line.startswith("egress: ") for line in printed.splitlines()), printed
    assert "listening" not in printed
    assert not (station.state / "audit.db").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--policy", "no-such-policy"), "no-such-policy"),
        (("--upstream-ca", "gone.pem"), "gone.pem"),
        (("--resolve", "nonsense"), "nonsense"),
        (("--config", "gone.yaml"), "gone.yaml"),
        (("--ca-dir", "/dev/null/ca"), "/dev/null/ca"),
        (("--audit", "/dev/null/audit.db"), "/dev/null"),
        (("--state-dir", "/dev/null/state"), "/dev/null/state"),
    ],
)
def test_what_cannot_be_used_does_not_start(station: Station, more: tuple[str, ...], told: str) -> None:
    """One line that names it, exit status 1, no traceback."""
    status, printed = station.refused(*more)
    assert status == 1
    assert told in printed
    assert "Traceback" not in printed
    assert "listening" not in printed


def test_a_port_in_use_does_not_start(station: Station) -> None:
    """It says which, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, printed = station.refused(listen=f"127.0.0.1:{port}")
    assert status == 1
    assert f"cannot listen on 127.0.0.1:{port}" in printed
    assert "--listen" in printed
    assert "Traceback" not in printed


def test_start_to_listening_is_measured(station: Station, record_property: Callable[[str, object], None]) -> None:
    """Port 0 picks a free port and says which; the time is printed, since it measures the machine too."""
    started = time.monotonic()
    with station.running() as process:
        seconds = time.monotonic() - started
        assert station.address[1] > 0
        assert station.ask().status == 200
        print(f"start to listening: {seconds:.2f} s")  # noqa: T201 -- the measurement
        record_property("start_to_listening_seconds", round(seconds, 3))
        process.tell(signal.SIGTERM)
        assert process.ended() == 0


def test_what_it_prints_at_start_can_be_used(station: Station) -> None:
    """Where it listens, the CA's file, the audit's file; and the CA is there."""
    with station.running() as process:
        process.says(str(station.state / "ca" / "ca.pem"))
        assert (station.state / "ca" / "ca.pem").read_bytes().startswith(b"-----BEGIN CERTIFICATE")
        assert (station.state / "ca-bundle.pem").exists()
        assert station.state.stat().st_mode & 0o077 == 0


def test_the_environment_loses_the_secrets(station: Station) -> None:
    """Injected all the same; what a child of the proxy would inherit does not hold it."""
    with station.origin.behaving(answer_ok), station.running() as process:
        with station.tunnel(HOST) as wire:
            context = trusting((station.state / "ca" / "ca.pem").read_bytes(), ("http/1.1",))
            with Wire(context.wrap_socket(wire.carrier, server_hostname=HOST)) as inside:
                inside.send(f"GET / HTTP/1.1\r\nHost: {HOST}:{station.port}\r\n\r\n".encode())
                assert inside.reply().status == 200
        process.tell(signal.SIGTERM)
        assert process.ended() == 0
        assert SECRET not in process.printed
    assert any(SECRET.encode() in record.received for record in station.origin.connections)
    for path in station.state.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("lane", ["http", "mitm"])
def test_key_logging_is_off(station: Station, lane: str) -> None:
    """A variable that makes TLS libraries log keys writes nothing, whichever of them opens the connection."""
    keys = station.folder / "keys"
    env = {"CANARY": SECRET, "SSLKEYLOGFILE": str(keys), "MITMPROXY_SSLKEYLOGFILE": str(keys)}
    with station.origin.behaving(answer_ok), station.running("--lane", lane, env=env), station.tunnel(HOST) as wire:
        context = trusting((station.state / "ca" / "ca.pem").read_bytes())
        with Wire(context.wrap_socket(wire.carrier, server_hostname=HOST)) as inside:
            inside.send(f"GET / HTTP/1.1\r\nHost: {HOST}:{station.port}\r\n\r\n".encode())
            assert inside.reply().status == 200
    assert not keys.exists()


def test_no_variable_that_logs_keys_is_left_before_anything_else_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The libraries read it when they are first used; no process that is forked later has it."""
    for name in ("SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE"):
        monkeypatch.setenv(name, "/nowhere")
    with pytest.raises(StartError, match="no policy"):
        serve(config_in(tmp_path), lambda _: None)
    assert not {"SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE"} & os.environ.keys()


# SIGTERM


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(station: Station, signum: signal.Signals) -> None:
    """A request under way ends whole; a new one is turned away; every row is there; exit status 0."""
    gate = threading.Event()
    with station.origin.behaving(half_then(gate)), station.running() as process:
        with station.wire() as wire, station.wire() as idle:
            wire.send(station.request())
            assert wire.until(b"half") is not None
            process.tell(signum)
            time.sleep(0.3)
            assert process.popen.poll() is None
            with pytest.raises(OSError, match="refused"):
                station.wire()
            idle.send(station.request())
            assert idle.reply().reason == "shutting-down"
            gate.set()
            assert wire.exactly(4) == b"done"
        assert process.ended() == 0
    assert station.table("SELECT verdict, status, error FROM requests ORDER BY seq") == [
        ("allow", 200, None),
        ("deny", 503, None),
    ]
    assert [kind for (kind,) in station.table("SELECT kind FROM events ORDER BY seq")] == ["start", "stop"]


def test_draining_has_a_limit(station: Station) -> None:
    """A request that does not end is cut, with its outcome; exit status 0."""
    station.config.write_text("limits: {drain_seconds: 0.5}\n")
    gate = threading.Event()
    with station.origin.behaving(half_then(gate)), station.running() as process:
        with station.wire() as wire:
            wire.send(station.request())
            assert wire.until(b"half") is not None
            started = time.monotonic()
            process.tell(signal.SIGTERM)
            assert wire.rest() == b""
            assert process.ended() == 0
            assert 0.4 < time.monotonic() - started < 8
        gate.set()
    ((state, error),) = station.table("SELECT state, error FROM requests")
    assert state == "done"
    assert error


def test_an_idle_proxy_ends_at_once(station: Station) -> None:
    """Open connections without a request do not hold it."""
    with station.running() as process, station.wire(), station.wire():
        started = time.monotonic()
        process.tell(signal.SIGTERM)
        assert process.ended() == 0
        assert time.monotonic() - started < 8


# SIGHUP


def test_a_bad_file_keeps_the_policy_and_says_so(station: Station) -> None:
    """Nothing of it is used, nothing is cut; the log names the problem, the audit has a row."""
    with station.running() as process:
        station.policy.write_text("version: 1\nrules: [{alow: evil.test}]\n")
        process.tell(signal.SIGHUP)
        process.says("the policy was kept")
        process.says("alow")
        assert station.ask().status == 200
        assert station.ask("evil.test").status == 403
        station.policy.unlink()
        process.tell(signal.SIGHUP)
        wait_until(lambda: process.printed.count("the policy was kept") == 2, "the second refusal")
        assert station.ask().status == 200
        process.tell(signal.SIGTERM)
        assert process.ended() == 0
    kinds = [kind for (kind,) in station.table("SELECT kind FROM events ORDER BY seq")]
    assert kinds == ["start", "reload-refused", "reload-refused", "stop"]
    assert len(set(station.table("SELECT policy_hash FROM decisions"))) == 1


def test_reload_is_atomic(station: Station) -> None:
    """What the new policy denies is cut at once (a tunnel, a download); another goes on; new rows, new digest."""
    gate = threading.Event()
    with station.origin.behaving(half_then(gate)), station.running() as process:
        with station.wire() as download, station.tunnel(RAW) as kept, station.tunnel(TUNNELLED) as cut:
            download.send(station.request())
            kept.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            context = trusting(station.roots.ca_file.read_bytes())
            with Wire(context.wrap_socket(cut.carrier, server_hostname=TUNNELLED)) as inside:
                inside.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                for wire in (download, kept, inside):
                    assert wire.until(b"half") is not None
                only_raw = [row for row in policy(station.port).splitlines() if "raw" in row]
                station.policy.write_text("\n".join(["version: 1", "rules:", *only_raw, ""]))
                process.tell(signal.SIGHUP)
                process.says("2 connections cut")
                assert b"done" not in download.rest()
                assert b"done" not in inside.rest()
            gate.set()
            assert kept.exactly(4) == b"done"
        assert station.ask().reason == "host-not-allowed"
        process.tell(signal.SIGTERM)
        assert process.ended() == 0
    rows = station.table("SELECT host, verdict, error FROM requests ORDER BY seq")
    told = {(host, verdict): str(error or "") for host, verdict, error in rows}
    assert told[HOST, "allow"].startswith("policy-reload")
    assert told[TUNNELLED, "allow"].startswith("policy-reload")
    assert told[RAW, "allow"] == ""
    assert (HOST, "deny") in told
    assert len(set(station.table("SELECT policy_hash FROM decisions"))) == 2
    assert [kind for (kind,) in station.table("SELECT kind FROM events ORDER BY seq")] == ["start", "reload", "stop"]


def test_a_secret_of_the_environment_survives_a_reload(station: Station) -> None:
    """The variable was taken out at start; the new generation has its value still."""
    with station.origin.behaving(answer_ok), station.running() as process:
        station.policy.write_text(policy(station.port) + "  - {deny: other.test}\n")
        process.tell(signal.SIGHUP)
        process.says("generation 2")
        with station.tunnel(HOST) as wire:
            context = trusting((station.state / "ca" / "ca.pem").read_bytes(), ("http/1.1",))
            with Wire(context.wrap_socket(wire.carrier, server_hostname=HOST)) as inside:
                inside.send(f"GET / HTTP/1.1\r\nHost: {HOST}:{station.port}\r\n\r\n".encode())
                assert inside.reply().status == 200
    assert any(SECRET.encode() in record.received for record in station.origin.connections)


# faults from outside


def test_every_decision_leaves_a_record_even_when_killed(station: Station) -> None:
    """Kill -9: the database opens, and has what was answered before the last flush interval."""
    with station.origin.behaving(answer_ok), station.running() as process:
        assert station.ask().status == 200
        assert station.ask("evil.test").status == 403
        time.sleep(0.6)
        process.tell(signal.SIGKILL)
        process.ended()
    assert [row[0] for row in station.table("SELECT verdict FROM requests ORDER BY seq")] == ["allow", "deny"]


def test_it_starts_again_where_it_left_off(station: Station) -> None:
    """The same CA, the same database."""
    with station.running() as process:
        first = (station.state / "ca" / "ca.pem").read_bytes()
        assert station.ask("evil.test").status == 403
        process.tell(signal.SIGTERM)
        assert process.ended() == 0
    with station.running() as process:
        assert (station.state / "ca" / "ca.pem").read_bytes() == first
        assert station.ask("evil.test").status == 403
        process.tell(signal.SIGTERM)
        assert process.ended() == 0
    assert station.table("SELECT count(*) FROM decisions") == [(2,)]


def test_the_proxy_does_not_dial_itself(station: Station) -> None:
    """A rule that names loopback on its own port: refused, and no loop."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    station.policy.write_text(
        f"version: 1\nrules: [{{allow: ['{HOST}:{port}', '127.0.0.1:{port}'], addresses: [127.0.0.0/8]}}]\n"
    )
    command = station.command(listen=f"127.0.0.1:{port}")
    with Process(command, env={}, cwd=station.folder, listens=LISTENS) as process:
        station.address = process.address()
        for name in (HOST, "127.0.0.1"):
            with station.wire() as wire:
                wire.send(f"GET http://{name}:{port}/ HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n".encode())
                assert wire.reply().reason == "address-is-proxy"


def test_a_client_cannot_write_into_the_log(station: Station) -> None:
    """Control characters of the wire reach the terminal escaped, if at all."""
    with station.running("--verbose") as process:
        for data in (
            b"GET \x1b[31mred\x1b[0m HTTP/1.1\r\n\r\n",
            b"CONNECT a\x07b:443 HTTP/1.1\r\n\r\n",
            b"\x00\r\n\r\n",
        ):
            with station.wire() as wire:
                wire.send(data).rest()
        process.tell(signal.SIGTERM)
        assert process.ended() == 0
    assert all(character.isprintable() or character == "\n" for character in process.printed)
    assert os.linesep == "\n"
