"""The processes of `egress run`: what each holds, and what happens to clients and to the audit when one dies."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness.origins import Stream, answer_ok
from rig.ledger import wait_until
from rig.modes import HOST, TUNNELLED
from rig.wire import NOTHING, Reply, trusting
from rig.wire import Wire as Client
from station import alive, family, kill

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rig.process import Process
    from station import Station

DENIED = "evil.test"
WORKERS = ("worker 1", "worker 2", "worker 3")
PATIENCE = 15.0
# Beyond what a process waits for the hub's answer.
SLOW_TO_LOAD = """
import pathlib, sys, time

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "mitmproxy":
            pathlib.Path(__file__).with_name("loading").touch()
            time.sleep(5)

sys.meta_path.insert(0, Slow())
"""


def ask(station: Station, host: str = DENIED) -> Reply:
    """A plain request; status 0 where the connection ended instead."""
    with contextlib.suppress(OSError, AssertionError):
        return station.ask(host)
    return NOTHING


def answered(station: Station, status: int, host: str = HOST) -> None:
    """Wait until a request has this answer."""
    wait_until(lambda: ask(station, host).status == status, f"an answer with {status}", PATIENCE)


def another(process: Process, name: str, old: int = 0) -> int:
    """The process of this name, as soon as there is one that is not the old one."""
    wait_until(lambda: family(process).get(name, old) != old, f"another {name}", PATIENCE)
    return family(process)[name]


def gone(process: Process, name: str) -> None:
    """Kill a process, and wait until it is dead, with all its threads, and the supervisor knows."""
    told = f"the process `{name}` ended"
    before = process.printed.count(told)
    kill(another(process, name))
    wait_until(lambda: process.printed.count(told) > before, f"the death of {name}")


def refuses(station: Station) -> bool:
    """Whether nobody listens any more."""
    try:
        socket.create_connection(station.address, timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


class Load:
    """Clients that ask for what is denied, over and over, each on new connections; every answer is kept."""

    def __init__(self, station: Station, clients: int = 4) -> None:
        self.replies: list[Reply] = []
        self._station = station
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def _run(self) -> None:
        while not self._over.is_set():
            self.replies.append(ask(self._station))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Ask as long as the block lasts."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join(20)

    @property
    def ids(self) -> list[str]:
        """The decision ids of all answers that there were."""
        values = [reply.field("x-egress-decision") for reply in self.replies if reply.status]
        return [value.split("id=")[1] for value in values if value is not None]


# what each is


def test_mitmproxy_is_loaded_in_one_process_only(station: Station) -> None:
    """And in none before it is needed: its own library of machine code is mapped nowhere."""
    with station.running("--workers", "3") as process:
        children = family(process)
        assert set(children) == {"hub", *WORKERS}
        for pid in (process.popen.pid, *children.values()):
            assert "mitmproxy_rs" not in Path(f"/proc/{pid}/maps").read_text()


def test_the_mitm_process_can_be_started_ahead(station: Station) -> None:
    """`--mitm warm`: it is there, and mitmproxy in it, before the proxy says that it listens."""
    with station.running("--mitm", "warm") as process:
        children = family(process)
        assert set(children) == {"hub", "worker 1", "mitm"}
        assert "mitmproxy_rs" in Path(f"/proc/{children['mitm']}/maps").read_text()
        assert "mitmproxy_rs" not in Path(f"/proc/{children['worker 1']}/maps").read_text()


def sockets_of(pid: int) -> set[str]:
    """What `/proc` calls the sockets of a process."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(str(link.readlink()))
    return {name for name in found if name.startswith("socket:")}


def test_each_process_holds_only_what_it_needs(station: Station) -> None:
    """The listening socket: supervisor and workers. No process holds another's channel to the supervisor."""
    with station.running("--workers", "2", "--mitm", "warm") as process:
        children = family(process)
        held = {name: sockets_of(pid) for name, pid in children.items()}
        own = sockets_of(process.popen.pid)
        listening = {
            f"socket:[{line.split()[9]}]"
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
            if int(line.split()[1].split(":")[1], 16) == station.address[1] and line.split()[3] == "0A"
        }
        assert len(listening) == 1
        assert {name for name, sockets in held.items() if sockets & listening} == {"worker 1", "worker 2"}
        queue = (held["worker 1"] & held["worker 2"]) - listening
        assert len(queue) == 1
        shared = listening | queue
        for name, sockets in held.items():
            for other, others in held.items():
                assert name == other or not (sockets & others) - shared, (name, other)
            # With the supervisor it shares what all workers share, or the other end of that queue, and nothing else.
            assert len(sockets & own) <= 2, (name, sockets & own)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_the_supervisors_business(station: Station, signum: signal.Signals) -> None:
    """A terminal's Ctrl-C reaches every process of its group; the children go on until they are told."""
    with station.running("--workers", "2", "--mitm", "warm") as process:
        children = family(process)
        for pid in children.values():
            os.kill(pid, signum)
        time.sleep(0.3)
        assert family(process) == children
        assert ask(station).status == 403
        process.tell(signal.SIGTERM)
        assert process.ended() == 0
        assert "generation 2" not in process.printed
        assert "ended" not in process.printed


# the death of each


def test_a_worker_that_is_killed_is_replaced_and_the_listener_goes_on(station: Station) -> None:
    """Its connections die; new ones are served, by another or by its replacement; nothing else is disturbed."""
    gate = threading.Event()
    with station.origin.behaving(waiting(gate)), station.running() as process:
        before = family(process)
        with station.wire() as wire:
            wire.send(station.request())
            assert wire.until(b"half") is not None
            gone(process, "worker 1")
            assert wire.rest() == b""
        gate.set()
        answered(station, 200)
        assert another(process, "worker 1", before["worker 1"])
        assert family(process)["hub"] == before["hub"]
        process.says("the process `worker 1` ended by signal 9")
        process.tell(signal.SIGTERM)
        assert process.ended() == 0
    states = station.table("SELECT state FROM requests ORDER BY seq")
    assert states[-1] == ("done",)


def waiting(gate: threading.Event) -> object:
    """An origin that sends half of its answer, and the rest when the gate opens."""

    def behave(stream: Stream) -> None:
        while stream.request():
            stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
            gate.wait(20)
            stream.send(b"done")

    return behave


def test_hub_gone_denies(station: Station) -> None:
    """No hub can be started: nothing passes, since nothing could be recorded; once one can, everything goes on."""
    station.config.write_text("limits: {audit_seconds: 0.2, drain_seconds: 3}\n")
    database = station.state / "audit.db"
    with station.origin.behaving(answer_ok), station.running("--workers", "2") as process:
        with station.wire() as wire:
            assert wire.send(station.request()).reply().status == 200
            # The hub refuses a database that others can write.
            database.chmod(0o666)
            gone(process, "hub")
            process.says("can be written by other users")
            connections = len(station.origin.connections)
            assert wire.send(station.request()).reply().reason == "audit-unavailable"
        for host in (HOST, DENIED):
            assert ask(station, host).status in {403, 429, 503}
        assert len(station.origin.connections) == connections
        database.chmod(0o600)
        answered(station, 200)
        process.tell(signal.SIGTERM)
        assert process.ended() == 0
    rows = station.table("SELECT verdict FROM requests")
    assert rows == [("allow",)] * 2
    assert ("gap",) in station.table("SELECT kind FROM events")


def test_supervisor_gone_denies(station: Station) -> None:
    """Killed: workers accept no more, cut what is open on record, and every process ends by itself."""
    gate = threading.Event()
    with station.origin.behaving(waiting(gate)), station.running("--workers", "2", "--mitm", "warm") as process:
        children = family(process)
        with station.wire() as wire, station.wire() as idle:
            wire.send(station.request())
            assert wire.until(b"half") is not None
            process.tell(signal.SIGKILL)
            try:
                assert b"done" not in wire.rest()
                reply = NOTHING
                with contextlib.suppress(AssertionError):
                    reply = idle.send(station.request()).reply()
                assert reply.status in {0, 503}
                wait_until(lambda: refuses(station), "the end of the listener")
                wait_until(lambda: not any(alive(pid) for pid in children.values()), "the end of all", PATIENCE)
            finally:
                gate.set()
                for pid in children.values():
                    if alive(pid):
                        kill(pid)
    ((state, error),) = station.table("SELECT state, error FROM requests WHERE verdict = 'allow'")
    assert state == "done"
    assert error


def test_nothing_is_recorded_twice_and_nothing_is_lost_when_the_hub_is_killed_under_load(station: Station) -> None:
    """Every answer that a client got has its row, once, however often the hub died meanwhile."""
    # What the load asks for is denied, and one by one.
    station.config.write_text("audit: {denial_rows: 1000000}\nlimits: {drain_seconds: 3}\n")
    load = Load(station)
    with station.running("--workers", "2") as process:
        with load.running():
            for _ in range(4):
                time.sleep(0.4)
                gone(process, "hub")
        process.tell(signal.SIGTERM)
        assert process.ended() == 0
    recorded = [row for (row,) in station.table("SELECT id FROM decisions")]
    assert len(load.ids) > 50
    assert len(set(recorded)) == len(recorded)
    assert set(load.ids) - set(recorded) == set()
    assert station.table("SELECT count(*) FROM events WHERE kind = 'duplicate-id'") == [(0,)]
    assert {reply.status for reply in load.replies} <= {403}


def test_every_process_can_die_and_the_proxy_goes_on(station: Station) -> None:
    """One after the other, again and again: requests are answered afterwards, and the end is in order."""
    with station.origin.behaving(answer_ok), station.running("--workers", "2", "--mitm", "warm") as process:
        for name in ("mitm", *("hub", "worker 1", "worker 2") * 2):
            gone(process, name)
            answered(station, 200)
            answered(station, 403, DENIED)
        process.tell(signal.SIGTERM)
        assert process.ended() == 0


# limits


def test_a_limit_means_the_same_with_one_worker_or_three(station: Station) -> None:
    """Never above, at most 5% below; who is above is told, and has room again as soon as another leaves."""
    station.config.write_text("limits: {connections: 40, connections_per_client: 40, drain_seconds: 3}\n")
    for workers in (1, 3):
        with station.running("--workers", str(workers)), contextlib.ExitStack() as stack:
            wires = [stack.enter_context(station.wire()) for _ in range(80)]
            time.sleep(0.5)
            kept, refused = [], 0
            for wire in wires:
                with contextlib.suppress(AssertionError):
                    reply = wire.send(station.request(DENIED)).reply()
                    if reply.reason == "host-not-allowed":
                        kept.append(wire)
                    else:
                        refused += reply.reason == "limit-connections"
            assert 38 <= len(kept) <= 40
            assert len(kept) + refused == 80
            for wire in kept:
                wire.close()
            answered(station, 403, DENIED)


# reload


def test_reload_is_atomic_across_workers(station: Station) -> None:
    """Under load, with three workers: nothing is cut while any of them still judges by the old generation."""
    gate = threading.Event()
    load = Load(station)
    with (
        station.origin.behaving(waiting(gate)),
        station.running("--workers", "3") as process,
        contextlib.ExitStack() as s,
    ):
        tunnels = [s.enter_context(opened(station)) for _ in range(9)]
        with load.running():
            time.sleep(0.5)
            kept = [row for row in station.policy.read_text().splitlines() if "raw" in row]
            station.policy.write_text("\n".join(["version: 1", "rules:", *kept, ""]))
            process.tell(signal.SIGHUP)
            process.says("9 connections cut")
            in_force = time.time_ns() // 1000
            time.sleep(0.5)
        for tunnel in tunnels:
            assert b"done" not in tunnel.rest()
        gate.set()
        process.tell(signal.SIGTERM)
        assert process.ended() == 0
    old, new = station.table("SELECT max(time_us), count(*) FROM decisions GROUP BY policy_hash ORDER BY min(seq)")
    ((cut, cuts),) = station.table("SELECT min(time_us), count(*) FROM outcomes WHERE error LIKE 'policy-reload%'")
    assert cuts == 9
    assert min(int(str(old[1])), int(str(new[1]))) > 10
    assert int(str(old[0])) <= int(str(cut)) <= in_force


@contextlib.contextmanager
def opened(station: Station) -> Iterator[Client]:
    """A tunnel in which half of an answer has come."""
    with station.tunnel(TUNNELLED) as wire:
        context = trusting(station.roots.ca_file.read_bytes())
        with Client(context.wrap_socket(wire.carrier, server_hostname=TUNNELLED)) as inside:
            inside.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert inside.until(b"half") is not None
            yield inside


def test_a_worker_that_is_started_again_has_the_newest_policy(station: Station) -> None:
    """Whatever was in force when the proxy started."""
    with station.origin.behaving(answer_ok), station.running() as process:
        assert ask(station, HOST).status == 200
        station.policy.write_text("version: 1\nrules: [{allow: other.test}]\n")
        process.tell(signal.SIGHUP)
        process.says("generation 2")
        gone(process, "worker 1")
        answered(station, 403)


# the mitm process


def test_a_connection_that_needs_the_mitm_process_starts_it(station: Station) -> None:
    """Not before; it stays for the next; killed, it is there again for the one after that."""
    station.config.write_text("limits: {drain_seconds: 3}\n")
    with station.origin.behaving(answer_ok), station.running("--lane", "mitm", "--workers", "2") as process:
        assert "mitm" not in family(process)
        assert ask(station, HOST).status == 200
        first = another(process, "mitm")
        assert ask(station).status == 403
        assert another(process, "mitm") == first
        gone(process, "mitm")
        answered(station, 200)
        assert another(process, "mitm", first)
        process.tell(signal.SIGTERM)
        assert process.ended() == 0
    lanes = station.table("SELECT DISTINCT lane FROM decisions")
    assert lanes == [("mitm",)]


def test_the_mitm_process_drains_too(station: Station) -> None:
    """What it carries ends whole; what is new is turned away, on record."""
    gate = threading.Event()
    with station.origin.behaving(waiting(gate)), station.running("--lane", "mitm") as process:
        with station.wire() as wire, station.wire() as idle:
            idle.send(station.request(DENIED))
            assert idle.reply().status == 403
        with station.wire() as wire:
            wire.send(station.request())
            assert wire.until(b"half") is not None
            process.tell(signal.SIGTERM)
            time.sleep(0.3)
            assert process.popen.poll() is None
            gate.set()
            assert wire.exactly(4) == b"done"
        assert process.ended() == 0
    assert ("allow", 200, None) in station.table("SELECT verdict, status, error FROM requests")


def test_the_mitm_process_keeps_to_the_shared_limit(station: Station) -> None:
    """Connections that it carries count like those of the workers; one too many is told so, on record."""
    station.config.write_text("limits: {connections: 10, connections_per_client: 10, drain_seconds: 1}\n")
    gate = threading.Event()
    with station.origin.behaving(waiting(gate)), station.running("--lane", "mitm"), contextlib.ExitStack() as stack:
        wires = []
        for _ in range(10):
            # Each asks at once: the process starts with the first, and who asks nothing for long is hung up on.
            wires.append(wire := stack.enter_context(station.wire()))
            wire.carrier.settimeout(30)
            assert wire.send(station.request()).until(b"half") is not None
        assert ask(station).reason == "limit-connections"
        gate.set()
        for wire in wires:
            wire.close()
        answered(station, 403, DENIED)
    ((lane, status),) = set(station.table("SELECT lane, status FROM requests WHERE reason = 'limit-connections'"))
    assert (lane, status) in {("mitm", 429), (None, 429)}


def test_a_reload_reaches_the_mitm_process(station: Station) -> None:
    """It judges by the new generation, and cuts what that denies."""
    gate = threading.Event()
    with station.origin.behaving(waiting(gate)), station.running("--lane", "mitm") as process:
        with station.wire() as wire:
            wire.send(station.request())
            assert wire.until(b"half") is not None
            station.policy.write_text("version: 1\nrules: [{allow: other.test}]\n")
            process.tell(signal.SIGHUP)
            process.says("1 connections cut")
            assert b"done" not in wire.rest()
            gate.set()
        assert ask(station, HOST).reason == "host-not-allowed"


def test_nobody_waits_for_what_the_mitm_process_loads(station: Station) -> None:
    """The hub grants places and counts on while it starts: of the connections meanwhile none is refused for it."""
    (station.folder / "sitecustomize.py").write_text(SLOW_TO_LOAD)
    station.config.write_text("limits: {connections: 10, connections_per_client: 10, drain_seconds: 1}\n")
    env = {"PYTHONPATH": str(station.folder)}
    with (
        station.origin.behaving(answer_ok),
        station.running("--lane", "mitm", env=env),
        contextlib.ExitStack() as stack,
    ):
        wires = [stack.enter_context(station.wire()).send(station.request())]
        wait_until((station.folder / "loading").exists, "the loading of mitmproxy", PATIENCE)
        wires += [stack.enter_context(station.wire()).send(station.request()) for _ in range(5)]
        for wire in wires:
            wire.carrier.settimeout(30)
            assert wire.reply().status == 200


# start and end


def test_a_start_that_fails_leaves_no_process(station: Station) -> None:
    """The hub says what is wrong with the audit, as the one process did; nothing is left running."""
    station.state.mkdir()
    (station.state / "audit.db").mkdir()
    status, printed = station.refused("--workers", "3")
    assert status == 1
    assert "audit.db is not a regular file" in printed
    assert "listening" not in printed
    assert "Traceback" not in printed


def test_the_end_leaves_no_process(station: Station) -> None:
    """All of them, within the time that ends take."""
    with station.running("--workers", "3", "--mitm", "warm") as process:
        children = family(process)
        process.tell(signal.SIGTERM)
        assert process.ended() == 0
        assert not any(alive(pid) for pid in children.values())
    assert refuses(station)


def test_a_strict_record_has_each_decision_before_the_origin_has_a_byte(station: Station) -> None:
    """Looked up by the origin itself, as it is asked; the flush interval alone would be far too long."""
    station.config.write_text("audit: {durability: strict, flush_interval: 10}\nlimits: {drain_seconds: 3}\n")
    found: list[list[tuple[object, ...]]] = []

    def behave(stream: Stream) -> None:
        while stream.request():
            found.append(station.table("SELECT id FROM decisions WHERE verdict = 'allow'"))
            stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with station.origin.behaving(behave), station.running("--workers", "2") as process:
        for _ in range(3):
            assert station.ask().status == 200
        process.tell(signal.SIGTERM)
        assert process.ended() == 0
    assert [len(rows) for rows in found] == [1, 2, 3]
