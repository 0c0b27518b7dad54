"""`egress exec` as a process: its streams, its exit status, signals, terminals, and what is left of it when killed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rig.confined import ROOT, Place, Road, places, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.e2e

DENY = "version: 1\ndefault: deny\n"
PATIENCE = 30.0
# Pushes a key into the terminal that it is given, and into the one that controls it.
PUSH = """
import fcntl, os, sys, termios
for descriptor in (0, os.open("/dev/tty", os.O_RDWR) if sys.argv[1] == "own" else 1):
    try:
        for byte in b"canary":
            fcntl.ioctl(descriptor, termios.TIOCSTI, bytes([byte]))
        print("pushed")
    except OSError as error:
        print(error.strerror)
"""


def _made(road: Road) -> Iterator[Place]:
    for made in places(road):
        made.put("policy.yaml", DENY)
        yield made


@pytest.fixture
def place() -> Iterator[Place]:
    """A place of a user who is not root. What differs for root is who the command runs as: see `test_exec_inside`."""
    yield from _made(Road.USER)


@pytest.fixture(params=list(Road))
def either(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A place of each road."""
    yield from _made(request.param)


def policy_of(place: Place) -> Path:
    """The one that all of these have."""
    return place.home / "policy.yaml"


def sh(place: Place, script: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the shell inside."""
    return place.run("--quiet", "--policy", str(policy_of(place)), argv=["sh", "-c", script], **more)


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_clients_that_read_files_alone_find_theirs(place: Place) -> None:
    """What the variables for apt, wget, PHP and Java name is there, readable, and leads to the proxy."""
    script = (
        'cat "$APT_CONFIG" "$WGETRC" "${PHP_INI_SCAN_DIR#:}/egress.ini" && head -c 1 /run/egress/java-trust.p12 | wc -c'
    )
    done = sh(place, f"{script} && echo $JAVA_TOOL_OPTIONS")
    assert 'Acquire::https::Proxy "http://127.0.0.1:3128";' in done.stdout
    assert 'curl.cainfo = "/run/egress/ca-bundle.pem"' in done.stdout
    assert done.stdout.splitlines()[-2] == "1"
    assert "trustStore=/run/egress/java-trust.p12" in done.stdout.splitlines()[-1]


def test_the_password_of_the_way_out_stays_outside(either: Place) -> None:
    """Of its variable nothing is inside; `egress doctor` says where it runs."""
    proxy = "{url: 'http://127.0.0.1:9', user: egress, password: {env: PROXY_PASSWORD}}"
    config = either.put("egress.yaml", f"upstream: {{proxy: {proxy}}}\n")
    policy = str(either.home / "policy.yaml")
    doctor = f"{sys.executable} -c 'from egress.cli.main import main; main()' doctor --inside --offline --json"
    script = f'test -z "$PROXY_PASSWORD" && {doctor}'
    # The checkout may lie below /tmp.
    options = ("--quiet", "--config", str(config), "--policy", policy, "--keep", str(ROOT))
    done = either.run(*options, argv=["sh", "-c", script], env={"PROXY_PASSWORD": "canary"})
    states = {one["id"]: one["state"] for one in json.loads(done.stdout)["checks"]}
    assert (states["under-exec"], states["privileges"]) == ("ok", "ok")


def below(pid: int) -> set[int]:
    """Every process that descends from one."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def lives(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_streams_and_status_pass(place: Place) -> None:
    """Bytes in, bytes out on each stream, and the number that the command ended with."""
    done = sh(place, "cat; echo error >&2; exit 41", stdin="canary\n")
    assert (done.stdout, done.returncode) == ("canary\n", 41)
    assert "error\n" in done.stderr


@pytest.mark.parametrize(
    ("script", "status"), [("kill -KILL $$", 137), ("kill -TERM $$", 143), ("exec /nothing/there", 127)]
)
def test_the_status_is_as_a_shell_has_it(place: Place, script: str, status: int) -> None:
    """128 and the signal; 127 for a program that is not there."""
    assert sh(place, script).returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_pass(place: Place, number: signal.Signals) -> None:
    """The command gets it, does what it does, and its status is ours."""
    name = number.name.removeprefix("SIG")
    # What whoever runs the tests ignores, SIGHUP under nohup, would be ignored on and on.
    before = signal.signal(number, signal.SIG_DFL) if signal.getsignal(number) is signal.SIG_IGN else None
    try:
        with running(
            place, policy_of(place), f"trap 'echo got; exit 9' {name}; echo ready; while :; do sleep 0.1; done"
        ) as process:
            process.send_signal(number)
            assert process.wait(PATIENCE) == 9
            assert process.stdout is not None
            assert process.stdout.read() == "got\n"
    finally:
        if before is not None:
            signal.signal(number, before)


def test_orphans_are_reaped_and_end_with_the_command(place: Place) -> None:
    """No zombie is left inside while the command runs; what it left running ends with it."""
    done = sh(place, "(sleep 0.1 &); (sleep 1000 &); sleep 1; cat /proc/[0-9]*/stat")
    assert done.returncode == 0
    assert " Z " not in done.stdout


def test_output_ends_when_the_command_closes_it(place: Place) -> None:
    """Nothing of ours holds the stream open."""
    with running(place, policy_of(place), "echo ready; exec >&- 2>&-; sleep 1000") as process:
        assert process.stdout is not None
        assert process.stdout.read() == ""


def test_nothing_is_left_after_kill_9(either: Place) -> None:
    """Neither the command, nor the proxy, nor, after the next start, the folder; and the next start works."""
    with running(either, policy_of(either), "sleep 1000 & sleep 1000 & echo ready; wait") as process:
        family = below(process.pid)
        assert len(family) > 5
        process.kill()
        process.wait()
    eventually(lambda: not any(map(lives, family)))
    left = set((either.state / "exec").iterdir())
    assert len(left) == 1
    assert sh(either, "true").returncode == 0
    assert set((either.state / "exec").iterdir()) == set()


def test_without_the_proxy_there_is_no_way_out(either: Place) -> None:
    """The proxy is killed: the command goes on, and finds nobody where the proxy was."""
    script = "echo ready; read line < fifo; exec 3<>/dev/tcp/127.0.0.1/3128"
    os.mkfifo(either.work / "fifo")
    (either.work / "fifo").chmod(0o666)
    with running(either, policy_of(either), f"exec bash -c '{script}'") as process:
        (supervisor,) = (pid for pid in below(process.pid) if pid in children(process.pid) and is_proxy(pid))
        family = below(supervisor)
        os.kill(supervisor, signal.SIGKILL)
        eventually(lambda: not any(map(lives, family)))
        (either.work / "fifo").write_text("go\n")
        assert process.wait(PATIENCE) == 1


def children(pid: int) -> set[int]:
    """Those that it started itself."""
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def is_proxy(pid: int) -> bool:
    """Whether it is the supervisor: it has children that say what they are."""
    names = (Path(f"/proc/{child}/comm").read_text() for child in children(pid))
    return any(name.startswith("egress hub") for name in names)


class Terminal:
    """A program with a terminal of its own, that this end of it reads and writes."""

    def __init__(self, line: list[str], place: Place) -> None:
        self.pid, self.end = pty.fork()
        if not self.pid:
            os.chdir(place.work)
            os.execvpe(line[0], line, place.env(TERM="dumb"))  # noqa: S606 - a program with a terminal
        self.said = self.seen = ""

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.end, text.encode())

    def says(self, pattern: str) -> None:
        """Wait until what is on the screen matches; the next call looks at what comes after."""
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.said)) is None:
            assert time.monotonic() < deadline, self.said
            if select.select([self.end], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    self.said += os.read(self.end, 65_536).decode(errors="replace")
        self.seen += self.said[: found.end()]
        self.said = self.said[found.end() :]

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.end)


@contextlib.contextmanager
def shell(place: Place, inner: str, after: str = "") -> Iterator[Terminal]:
    """An interactive bash with a terminal, that has started a confined command."""
    terminal = Terminal(["bash", "--norc", "--noprofile", "-i"], place)
    try:
        terminal.type("PS1='out''er> '\n")
        terminal.says("outer> ")
        line = place.command("--quiet", "--policy", str(policy_of(place)), argv=["sh", "-c", inner])
        place.put("start", "exec " + shlex.join(line))
        terminal.type(f"sh {place.home}/start {after}\n")
        yield terminal
    finally:
        terminal.close()


def test_a_terminal_passes_keys_sizes_and_jobs(place: Place) -> None:
    """An interactive shell inside: Ctrl-C, Ctrl-Z and `fg` reach its jobs, and a new size is seen."""
    with shell(place, "PS1='in''ner> ' exec bash --norc --noprofile -i") as terminal:
        terminal.says("inner> ")
        terminal.type("tty; sleep 1000\n")
        terminal.says("/dev/pts/0")
        time.sleep(0.5)
        terminal.type("\x03")
        terminal.says("inner> ")
        terminal.type("sleep 1000\n")
        time.sleep(0.5)
        terminal.type("\x1a")
        terminal.says("Stopped")
        terminal.says("inner> ")
        terminal.type("fg\n")
        time.sleep(0.5)
        terminal.type("\x03")
        terminal.says("inner> ")
        fcntl.ioctl(terminal.end, termios.TIOCSWINSZ, struct.pack("4H", 33, 77, 0, 0))
        time.sleep(0.5)
        terminal.type("stty size\n")
        terminal.says("33 77")
        terminal.type("exit 6\n")
        terminal.says("outer> ")
        terminal.type("echo status=$?; stty -a\n")
        terminal.says("status=6")
        terminal.says(" icanon")


def test_a_command_that_stops_is_a_stopped_job(place: Place) -> None:
    """Ctrl-Z gives the terminal back to the shell outside, as it was; `fg` goes on."""
    with shell(place, "echo begun; cat; echo ended") as terminal:
        terminal.says("begun")
        # Not before `cat` is there: a shell that is just starting it cannot be stopped.
        terminal.type("once\n")
        terminal.says("once\r\nonce")
        terminal.type("\x1a")
        terminal.says("Stopped")
        terminal.says("outer> ")
        terminal.type("stty -a\n")
        terminal.says(" icanon")
        terminal.type("fg\n")
        time.sleep(0.5)
        terminal.type("again\n\x04")
        terminal.says("again\r\nagain")
        terminal.says("ended")
        terminal.says("outer> ")


def test_no_key_can_be_pushed_into_the_terminal_outside(place: Place) -> None:
    """Neither by the terminal that it has, nor, in a pipeline, by ours where it is passed: the shell reads nothing."""
    script = place.put("push.py", PUSH)
    with shell(place, f"echo begun; {sys.executable} {script} own; echo ended") as terminal:
        terminal.says("ended")
        terminal.says("outer> ")
        terminal.seen = ""
        terminal.type("echo at''end\n")
        terminal.says("atend")
        assert "canary" not in terminal.seen


def test_a_terminal_that_is_only_read_takes_no_keys(place: Place) -> None:
    """In a pipeline the command reads ours as it is, does not control it, and so cannot push into it."""
    script = place.put("push.py", PUSH)
    with shell(place, f"{sys.executable} {script} none", "| cat; echo pi''ped") as terminal:
        terminal.says("piped")
        assert "pushed" not in terminal.seen
        assert "not permitted" in terminal.seen


def test_a_descriptor_of_our_caller_does_not_come_along(place: Place) -> None:
    """Open here, and inherited by us; not by the command."""
    line = place.command("--quiet", "--policy", str(policy_of(place)), argv=["sh", "-c", "ls /proc/self/fd"])
    opened = ["sh", "-c", 'exec 7</etc/passwd; exec "$@"', "sh", *line]
    done = subprocess.run(opened, cwd=place.work, env=place.env(), capture_output=True, text=True, check=True)
    assert "7" not in done.stdout.split()
    assert "0" in done.stdout.split()
