"""Reload, status, watching and the last good policy, with the proxy and its commands as real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from harness.origins import answer_ok
from rig.ledger import wait_until
from rig.modes import HOST, RAW, TUNNELLED, policy
from rig.process import BIN
from rig.proxy import SECRET
from station import alive, family, kill

from egress.config import PolicySource, load_policy
from egress.policy import Scope
from egress.server.control import claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.origins import Stream
    from rig.process import Process
    from station import Station

PATIENCE = 15.0
NOTHING_ALLOWED = "version: 1\nrules: []\n"
BROKEN = "version: 1\nrules:\n  - {alow: evil.test}\n"


def egress(station: Station, *words: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command about this station's proxy."""
    done = subprocess.run(
        [str(BIN / "egress"), *words, "--state-dir", str(station.state)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=station.folder,
        env={"PATH": os.environ["PATH"]},
    )
    return done.returncode, done.stdout, done.stderr


def status_of(station: Station) -> dict[str, Any]:
    """What `egress status --json` says."""
    _, printed, told = egress(station, "status", "--json")
    assert printed, told
    answer: dict[str, Any] = json.loads(printed)
    return answer


def digest_of(station: Station) -> str:
    """The digest of the policy as the station's files are now."""
    return load_policy([PolicySource(Scope.SANDBOX, station.policy)]).policy.digest


def stop(process: Process) -> None:
    """An orderly end."""
    process.tell(signal.SIGTERM)
    assert process.ended() == 0


def kinds(station: Station) -> list[object]:
    """What happened to the proxy, in order."""
    return [kind for (kind,) in station.table("SELECT kind FROM events ORDER BY seq")]


def endless(stream: Stream) -> None:
    """An origin that sends something, and then only holds the connection."""
    while stream.request():
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        threading.Event().wait(20)


def details(station: Station, kind: str) -> list[str]:
    """What the record says of each such event, in order."""
    return [detail for (detail,) in station.table(f"SELECT detail FROM events WHERE kind = '{kind}' ORDER BY seq")]  # noqa: S608 -- constants


# egress reload


def test_reload_waits_for_the_new_policy_and_says_what_it_did(station: Station) -> None:
    """Exit 0, both digests, and how many connections it cut; by then every process judges by it."""
    with station.origin.behaving(endless), station.running("--workers", "2") as process:
        before = digest_of(station)
        with station.wire() as wire:
            wire.send(station.request())
            assert wire.until(b"data: 1") is not None
            station.policy.write_text(NOTHING_ALLOWED)
            code, printed, told = egress(station, "reload")
            assert (code, told) == (0, "")
            assert printed == f"generation 2 is in force: {before} to {digest_of(station)}; 1 connection cut\n"
            wire.rest()
        assert {station.ask().reason for _ in range(6)} == {"host-not-allowed"}
        assert egress(station, "reload")[1].endswith(f"the same policy, {digest_of(station)}; 0 connections cut\n")
        stop(process)
    assert {digest for (digest,) in station.table("SELECT policy_hash FROM decisions")} == {before, digest_of(station)}
    (first, *_) = details(station, "reload")
    # Whoever is first: the file is watched as well.
    who = ("control socket, uid", "files changed")
    assert first.startswith(f"{before} to {digest_of(station)}; by ")
    assert first.endswith("; 1 connection cut")
    assert any(one in first for one in who)


def test_reload_says_every_problem_and_the_policy_is_kept(station: Station) -> None:
    """Exit 1, a line for each with file and line, what is in force, and nothing has changed."""
    with station.running("--no-watch") as process:
        before = digest_of(station)
        station.policy.write_text("version: 1\nrules:\n  - {alow: a.test}\n  - {allow: '*.com'}\n")
        code, printed, told = egress(station, "reload")
        assert (code, printed) == (1, "")
        lines = told.splitlines()
        for number, word in ((3, "alow"), (4, "*.com")):
            assert any(line.startswith(f"egress: {station.policy}:{number}: ") and word in line for line in lines), told
        assert lines[-1] == f"the policy was kept: generation 1, {before}"
        assert station.ask().status == 200
        process.tell(signal.SIGHUP)
        wait_until(lambda: kinds(station).count("reload-refused") == 2, "the second refusal")
        stop(process)
    assert kinds(station) == ["start", "reload-refused", "reload-refused", "stop"]
    asked, signalled = details(station, "reload-refused")
    assert asked.startswith(f"kept {before}; by control socket, uid {os.getuid()}; {station.policy}:3: ")
    assert f"; by signal; {station.policy}:3: " in signalled


@pytest.mark.parametrize("command", ["reload", "status"])
def test_without_a_proxy_the_commands_say_so(station: Station, command: str) -> None:
    """Never started, stopped, or killed: exit 1 and one sentence."""
    assert egress(station, command)[0] == 1
    with station.running() as process:
        process.tell(signal.SIGKILL)
        process.ended()
    code, printed, told = egress(station, command)
    assert (code, printed) == (1, "")
    assert f"no proxy runs with the state folder `{station.state}`" in told


def test_reloads_that_are_asked_for_together_are_one_after_another(station: Station) -> None:
    """Each gets an answer that is true of the files as they were after it asked."""
    with station.running() as process:
        answers: list[tuple[int, str, str]] = []
        threads = [threading.Thread(target=lambda: answers.append(egress(station, "reload"))) for _ in range(5)]
        station.policy.write_text(NOTHING_ALLOWED)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(code == 0 and digest_of(station) in printed for code, printed, _ in answers), answers
        assert station.ask().reason == "host-not-allowed"
        stop(process)


# egress status


def test_status_of_a_proxy_that_is_ready(station: Station) -> None:
    """Exit 0; the policy, each process with its pid, what is open and what was decided."""
    with station.origin.behaving(endless), station.running("--workers", "2") as process:
        with station.wire() as wire:
            wire.send(station.request())
            assert wire.until(b"data: 1") is not None
            assert station.ask("evil.test").status == 403
            wait_until(lambda: status_of(station)["counters"]["verdicts"] == {"allow": 1, "deny": 1}, "the counters")
            told = status_of(station)
        code, printed, _ = egress(station, "status")
        stop(process)
    assert (told["ready"], told["reasons"], told["pid"]) == (True, [], process.popen.pid)
    assert told["listening"] == ":".join(map(str, station.address))
    assert told["listeners"] == [
        {"kind": "proxy", "address": told["listening"], "destination": None, "mode": None},
    ]
    assert told["policy"]["digest"] == digest_of(station)
    assert (told["policy"]["generation"], told["policy"]["files"]) == (1, [str(station.policy)])
    assert told["policy"]["scopes"][0]["scope"] == "sandbox"
    assert told["policy"]["scopes"][0]["rules"] == 4
    assert [process["name"] for process in told["processes"]] == ["hub", "worker 1", "worker 2"]
    assert {process["state"] for process in told["processes"]} == {"ready"}
    assert told["open"] == 1
    assert told["connections"] >= 1
    assert told["counters"]["recorded"] >= 2
    assert told["reload"] is None
    assert code == 0
    lines = printed.splitlines()
    assert lines[0] == "ready"
    for words in (digest_of(station), str(station.policy), "1 allowed, 1 denied", "worker 2", "sandbox: 4 rules"):
        assert any(words in line for line in lines), (words, printed)


def test_status_says_which_scopes_report(station: Station) -> None:
    """What passes there though no rule allows it is said first of all."""
    station.policy.write_text(station.policy.read_text().replace("version: 1\n", "version: 1\nmode: report\n"))
    with station.running() as process:
        told = status_of(station)
        _, printed, _ = egress(station, "status")
        stop(process)
    assert told["policy"]["reporting"] == ["sandbox"]
    assert "REPORT MODE: what scope sandbox would refuse PASSES" in printed


def test_status_names_a_process_that_does_not_answer(station: Station) -> None:
    """Exit 1, within seconds; the others are asked all the same, and the next answer is whole again."""
    with station.running("--workers", "2") as process:
        worker = family(process)["worker 2"]
        os.kill(worker, signal.SIGSTOP)
        try:
            for _ in range(2):
                code, printed, _ = egress(station, "status")
                assert code == 1
                assert printed.startswith("NOT READY\n  the process `worker 2` does not answer\n"), printed
            told = status_of(station)
        finally:
            os.kill(worker, signal.SIGCONT)
        states = {process["name"]: process["state"] for process in told["processes"]}
        assert states == {"hub": "ready", "worker 1": "ready", "worker 2": "silent"}
        wait_until(lambda: status_of(station)["ready"], "readiness", PATIENCE)
        assert family(process)["worker 2"] == worker
        stop(process)


def test_status_says_what_is_not_ready(station: Station) -> None:
    """No hub can be started, so everything is denied: that is not ready."""
    with station.running() as process:
        (station.state / "audit.db").chmod(0o666)
        kill(family(process)["hub"])
        wait_until(lambda: "the process `hub` is not ready" in status_of(station)["reasons"], "no hub", PATIENCE)
        (station.state / "audit.db").chmod(0o600)
        wait_until(lambda: status_of(station)["ready"], "readiness", PATIENCE)
        stop(process)


def test_status_while_the_proxy_drains(station: Station) -> None:
    """It goes on answering, and is not ready any more."""
    with station.origin.behaving(endless), station.running() as process, station.wire() as wire:
        wire.send(station.request())
        assert wire.until(b"data: 1") is not None
        process.tell(signal.SIGTERM)
        wait_until(lambda: status_of(station)["reasons"] == ["the proxy is stopping"], "the end", 2.5)
        assert process.ended() == 0


# the socket


def test_a_second_proxy_of_the_same_folder_is_refused(station: Station) -> None:
    """One sentence; the first is not disturbed. After a kill -9 the next start takes over."""
    with station.running() as process:
        code, printed = station.refused()
        assert code == 1
        assert f"another proxy runs with the state folder `{station.state}`" in printed
        assert status_of(station)["ready"]
        children = family(process)
        process.tell(signal.SIGKILL)
        process.ended()
        assert (station.state / "control.sock").exists()
        with station.running() as second:
            assert status_of(station)["pid"] == second.popen.pid
            stop(second)
        wait_until(lambda: not any(map(alive, children.values())), "the end of all", PATIENCE)
    assert not (station.state / "control.sock").exists()


def test_no_other_process_keeps_the_socket_or_the_folder(station: Station) -> None:
    """Nor what asks on it: neither those of the start, nor those that are started while somebody asks."""
    with station.running("--mitm", "warm") as process:
        os.kill(family(process)["worker 1"], signal.SIGSTOP)
        with subprocess.Popen(
            [str(BIN / "egress"), "status", "--state-dir", str(station.state)], stdout=subprocess.DEVNULL
        ) as asking:
            time.sleep(0.5)
            kill(family(process)["mitm"])
            kill(family(process)["worker 1"])
            wait_until(lambda: "worker 1" in family(process), "another worker", PATIENCE)
            asking.wait(20)
        wait_until(lambda: status_of(station)["ready"], "readiness", PATIENCE)
        sockets = {
            f"socket:[{line.split()[6]}]"
            for line in Path("/proc/net/unix").read_text().splitlines()[1:]
            if line.endswith("control.sock")
        }
        assert sockets
        for pid in family(process).values():
            links = set()
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    links.add(str(link.readlink()))
            assert not sockets & links
            assert str(station.state) not in links
        process.tell(signal.SIGKILL)
        process.ended()
        # Whoever may still be ending, nobody holds it.
        os.close(claim(station.state))


# watching


def test_a_change_of_the_files_is_taken_up_by_itself(station: Station) -> None:
    """In place, by another file, by a link that is swapped; a broken one is told, kept out, and mended."""
    with station.running() as process:
        station.policy.write_text(NOTHING_ALLOWED)
        process.says("generation 2 is in force", PATIENCE)
        assert station.ask().reason == "host-not-allowed"
        new = station.folder / "new.yaml"
        new.write_text(policy(station.port))
        new.replace(station.policy)
        process.says("generation 3 is in force", PATIENCE)
        assert station.ask().status in {200, 502}
        station.policy.write_text(BROKEN)
        process.says("the policy was kept", PATIENCE)
        assert station.ask().status in {200, 502}
        assert status_of(station)["reload"]["problems"][0].startswith(f"{station.policy}:3: ")
        new.write_text(NOTHING_ALLOWED)
        station.policy.unlink()
        station.policy.symlink_to(new)
        process.says("generation 4 is in force", PATIENCE)
        assert status_of(station)["ready"]
        stop(process)
    assert kinds(station) == ["start", "reload", "reload", "reload-refused", "reload", "stop"]


@pytest.mark.parametrize("how", ["flag", "file"])
def test_watching_can_be_turned_off(station: Station, how: str) -> None:
    """Then SIGHUP and `egress reload` alone read the files again."""
    more = ("--no-watch",) if how == "flag" else ()
    if how == "file":
        station.config.write_text("watch: false\n")
    with station.running(*more) as process:
        station.policy.write_text(NOTHING_ALLOWED)
        time.sleep(3)
        assert "reload" not in process.printed
        assert egress(station, "reload")[0] == 0
        stop(process)


def test_a_large_policy_that_is_read_holds_up_nobody(station: Station) -> None:
    """While its files are read, processes that die are started again and requests are judged."""
    with station.running() as process:
        rules = "".join(f"  - {{allow: h{number}.test, methods: [GET], paths: ['/a/**']}}\n" for number in range(6000))
        station.policy.write_text(f"version: 1\nrules:\n{rules}")
        process.tell(signal.SIGHUP)
        wait_until(lambda: "loader" in family(process), "the reading", PATIENCE)
        old = family(process)["worker 1"]
        kill(old)
        wait_until(lambda: family(process).get("worker 1", old) != old, "another worker", PATIENCE)
        wait_until(lambda: _asks(station), "an answer", PATIENCE)
        assert "loader" in family(process)
        assert "is in force" not in process.printed
        process.says("generation 2 is in force", 60)
        stop(process)


def _asks(station: Station) -> bool:
    with contextlib.suppress(OSError, AssertionError):
        return station.ask("evil.test").status == 403
    return False


def test_a_stop_while_files_are_read_leaves_nobody(station: Station) -> None:
    """Whoever waits for the reload is told, and the process that reads is ended."""
    with station.running() as process:
        rules = "".join(f"  - {{allow: h{number}.test}}\n" for number in range(9000))
        station.policy.write_text(f"version: 1\nrules:\n{rules}")
        answers: list[tuple[int, str, str]] = []
        asking = threading.Thread(target=lambda: answers.append(egress(station, "reload")))
        asking.start()
        wait_until(lambda: "loader" in family(process), "the reading", PATIENCE)
        loader = family(process)["loader"]
        stop(process)
        asking.join()
        assert not alive(loader)
    assert answers[0][0] == 1
    assert "the proxy is stopping" in answers[0][2]


# the last good policy


@pytest.fixture
def listed(station: Station) -> Station:
    """A station whose policy names a list, and that ran once."""
    text = policy(station.port).replace("rules:\n", "rules:\n  - {deny: {file: lists/no.txt}}\n")
    (station.folder / "lists").mkdir()
    (station.folder / "lists" / "no.txt").write_text("evil.test\n")
    station.policy.write_text(text)
    with station.running() as process:
        stop(process)
    return station


def break_policy(station: Station) -> None:
    """Half an edit."""
    station.policy.write_text(BROKEN)


def lose_policy(station: Station) -> None:
    """The volume is not mounted."""
    station.policy.unlink()


def lose_list(station: Station) -> None:
    """The policy is whole, and what it names is not."""
    (station.folder / "lists" / "no.txt").unlink()


@pytest.mark.parametrize("damage", [break_policy, lose_policy, lose_list])
def test_a_start_whose_files_do_not_load_takes_the_last_good_policy(
    listed: Station, damage: Callable[[Station], None]
) -> None:
    """It decides as before, same digest, rules and secrets, and says so everywhere; once mended, it goes on."""
    text, digest = listed.policy.read_text(), digest_of(listed)
    damage(listed)
    with listed.origin.behaving(answer_ok), listed.running() as process:
        assert f"WARNING: the policy files do not load; the last good policy is in force, {digest}" in process.printed
        assert listed.ask().status == 200
        assert listed.ask("evil.test").reason == "rule-deny"
        told = status_of(listed)
        assert told["ready"]
        assert digest in told["policy"]["last_good"]
        assert told["policy"]["problems"]
        assert "WARNING: the policy files do not load" in egress(listed, "status")[1]
        assert egress(listed, "reload")[0] == 1
        listed.policy.write_text(text)
        (listed.folder / "lists" / "no.txt").write_text("evil.test\nmore.test\n")
        process.says("generation 2 is in force", PATIENCE)
        assert status_of(listed)["policy"]["last_good"] is None
        assert digest_of(listed) != digest
        stop(process)
    assert {hash_ for (hash_,) in listed.table("SELECT policy_hash FROM decisions")} == {digest}
    files = {(file, line) for file, line in listed.table("SELECT file, line FROM decisions")}
    assert all(str(file) == str(listed.policy) and line for file, line in files)
    (detail,) = listed.table("SELECT detail FROM events WHERE kind = 'policy-last-good'")[0]
    assert digest in str(detail)
    with listed.running() as process:
        assert "WARNING" not in process.printed
        stop(process)


@pytest.mark.parametrize("how", ["flag", "file", "never", "damaged", "open", "other files"])
def test_a_start_whose_files_do_not_load_is_refused_without_one(listed: Station, how: str) -> None:
    """Told not to use it, none there, one that anybody could have written, or one of other files: as ever."""
    kept = listed.state / "last-good" / "policy.json"
    listed.policy.write_text(BROKEN)
    more: tuple[str, ...] = ()
    match how:
        case "flag":
            more = ("--no-last-known-good",)
        case "file":
            listed.config.write_text("last_known_good: false\n")
        case "never":
            kept.unlink()
        case "damaged":
            kept.write_bytes(kept.read_bytes()[:-10])
        case "open":
            kept.chmod(0o644)
        case "other files":
            more = ("--policy", "starter")
    code, printed = listed.refused(*more)
    assert code == 1
    assert f"egress: {listed.policy}:3: " in printed
    assert "listening" not in printed
    assert ("the last good policy is not used" in printed) == (how in {"damaged", "open", "other files"})


def test_a_policy_is_kept_each_time_that_it_comes_into_force(listed: Station) -> None:
    """The newest that was, never one that was refused; and no value of a secret with it."""
    with listed.running() as process:
        listed.policy.write_text(policy(listed.port) + "  - {deny: other.test}\n")
        assert egress(listed, "reload")[0] == 0
        digest = digest_of(listed)
        listed.policy.write_text(BROKEN)
        assert egress(listed, "reload")[0] == 1
        stop(process)
    with listed.running() as process:
        assert status_of(listed)["policy"]["digest"] == digest
        stop(process)
    for path in (listed.state / "last-good").iterdir():
        assert SECRET not in path.read_text()
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_policy_that_cannot_be_kept_takes_the_older_one_away(listed: Station) -> None:
    """What was in force before last must not come back, wider than what was in force last."""
    kept = listed.state / "last-good" / "policy.json"
    with listed.running() as process:
        # What stands where the new one is to be written cannot be taken away.
        (kept.parent / "policy.json.new" / "x").mkdir(parents=True)
        listed.policy.write_text(NOTHING_ALLOWED)
        assert egress(listed, "reload")[0] == 0
        process.says("the policy is not kept for a later start")
        stop(process)
    assert not kept.exists()


# what the processes hold of secrets


def test_a_secret_that_a_reload_drops_and_the_next_brings_back_is_still_had(station: Station) -> None:
    """Its variable is gone since the start, and files are read in a process that ends."""
    text = policy(station.port)
    with station.origin.behaving(answer_ok), station.running("--no-watch") as process:
        for content in (NOTHING_ALLOWED, text):
            station.policy.write_text(content)
            assert egress(station, "reload")[0] == 0
        assert "canary" not in process.printed
        with station.tunnel(HOST) as wire:
            from rig.wire import Wire, trusting

            context = trusting((station.state / "ca" / "ca.pem").read_bytes(), ("http/1.1",))
            with Wire(context.wrap_socket(wire.carrier, server_hostname=HOST)) as inside:
                inside.send(f"GET / HTTP/1.1\r\nHost: {HOST}:{station.port}\r\n\r\n".encode())
                assert inside.reply().status == 200
        stop(process)
    assert any(SECRET.encode() in record.received for record in station.origin.connections)


# what is open


@contextlib.contextmanager
def idle_inside(station: Station) -> Iterator[Any]:
    """An inspected connection on which one request was answered and nothing is under way."""
    from rig.wire import Wire, trusting

    with station.tunnel(HOST) as wire:
        context = trusting((station.state / "ca" / "ca.pem").read_bytes(), ("http/1.1",))
        with Wire(context.wrap_socket(wire.carrier, server_hostname=HOST)) as inside:
            inside.send(f"GET / HTTP/1.1\r\nHost: {HOST}:{station.port}\r\n\r\n".encode())
            assert inside.reply().status == 200
            yield inside


@pytest.mark.parametrize("lane", ["auto", "mitm"])
def test_what_is_open_and_denied_is_closed_and_recorded_and_nothing_else(station: Station, lane: str) -> None:
    """A kept connection without a request, and a tunnel; another tunnel goes on. Every row names its policy."""
    with (
        station.origin.behaving(answer_ok),
        station.running("--workers", "2", "--lane", lane) as process,
        idle_inside(station) as doomed,
        station.tunnel(RAW) as kept,
    ):
        before = digest_of(station)
        kept.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.reply().status == 200
        raw = [row for row in policy(station.port).splitlines() if "raw" in row]
        station.policy.write_text("\n".join(["version: 1", "rules:", *raw, ""]))
        code, printed, told = egress(station, "reload")
        assert code == 0, told
        assert "; 1 connection cut" in printed
        doomed.rest()
        kept.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.reply().status == 200
        kept.close()
        stop(process)
    after = digest_of(station)
    rows = station.table("SELECT host, verdict, policy_hash, error FROM requests ORDER BY seq")
    told_of = [(host, verdict, hash_, str(error or "").partition(":")[0]) for host, verdict, hash_, error in rows]
    assert (HOST, "allow", before, "") in told_of
    assert (HOST, "deny", after, "policy-reload") in told_of
    assert [row[1:3] for row in told_of if row[0] == RAW] == [("allow", before)]
    assert TUNNELLED not in {row[0] for row in told_of}
