"""From inside of `egress exec`: every way out and everything that must be out of reach, tried, as root's and a user's.

The attempts are made once on each road (`rig.attempts`); each test says of some what must have become of them.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rig.confined import UID, Place, Road, places

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

ATTEMPTS = Path(__file__).parents[1] / "rig" / "attempts.py"
POLICY = """
version: 1
default: deny
secrets:
  upstream: {{env: UPSTREAM_TOKEN, hosts: [api.example], placeholder: {{env: MODEL_KEY}}}}
  other: {{file: token, hosts: [api.example]}}
rules:
  - {{allow: origin.test, ports: [{port}], addresses: [127.0.0.0/8]}}
"""

# What must have become of an attempt: one of these.
NO_ROAD = {"ENETUNREACH"}
HIDDEN = {"ENOENT", "ENODATA"}
REFUSED = {"EPERM", "EACCES", "EROFS", "EBUSY"}
EXPECTED = {
    "tcp": NO_ROAD,
    "tcp6": NO_ROAD,
    "quic": NO_ROAD,
    "dns": NO_ROAD,
    "dns6": NO_ROAD,
    "metadata": NO_ROAD,
    "resolving": {"EAI_AGAIN", "[Errno -3] Temporary failure in name resolution"},
    "loopback of the machine": {"ECONNREFUSED"},
    "raw socket": {"EPERM"},
    "packet socket": {"EAFNOSUPPORT"},
    "vsock": {"EAFNOSUPPORT"},
    "abstract socket": {"ECONNREFUSED"},
    "socket in home": {"ECONNREFUSED"},
    "connection of ssh": {"ECONNREFUSED"},
    "socket in tmp": {"ENOENT"},
    "control socket": {"ENOENT"},
    "state folder": HIDDEN,
    "key of the CA": HIDDEN,
    "run of the machine": HIDDEN,
    "secret file": HIDDEN | {"EACCES"},
    "secret variable": HIDDEN,
    "agent variable": HIDDEN,
    "store key variable": HIDDEN,
    "write policy": {"EROFS", "EACCES"},
    "replace policy": REFUSED | {"EXDEV"},
    "remove policy": REFUSED,
    "rename folder of policy": REFUSED,
    "rename home": REFUSED,
    "rename folder of state": REFUSED,
    "write state": REFUSED,
    "write trust": REFUSED,
    "unmount state": {"EPERM"},
    "unmount as root of a namespace": {"EINVAL"},
    "unmount tmp as root of a namespace": {"EINVAL"},
    "uncover by a plain bind": {"EINVAL"},
    "write policy as root of a namespace": {"EPERM", "EROFS", "EACCES"},
    "kill the proxy": {"ESRCH"},
    "trace outside": {"ESRCH", "EPERM"},
    "trace init": {"EPERM"},
    "environment of init": {"EACCES"},
    "root of init": {"EACCES"},
    "namespace of init": {"EACCES"},
    "process outside": HIDDEN,
    "keyring": {"ENOSYS"},
    "io_uring": {"ENOSYS"},
    "change user": {"EPERM", "EINVAL"},
    "change groups": {"EPERM"},
}


class _Origin(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def listening(*names: str) -> Iterator[None]:
    """Unix sockets that somebody outside listens on, open to every user."""
    with contextlib.ExitStack() as stack:
        for name in names:
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.bind(name)
            sock.listen()
            if not name.startswith("\0"):
                Path(name).chmod(0o777)
                stack.callback(Path(name).unlink)
        yield


@contextlib.contextmanager
def renamed(name: Path) -> Iterator[None]:
    """A unix socket that has another name than it was made with, as a shared connection of ssh."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{name}.b0rn")
        Path(f"{name}.b0rn").rename(name)
        name.chmod(0o777)
        sock.listen()
        yield


@pytest.fixture(scope="module")
def origin() -> Iterator[int]:
    """The port of a server on the machine's loopback."""
    server = HTTPServer(("127.0.0.1", 0), _Origin)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module", params=list(Road))
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A place of each road."""
    yield from places(request.param)


@pytest.fixture(scope="module")
def tried(place: Place, origin: int) -> dict[str, Any]:
    """What became of the attempts, and what was said outside."""
    (place.home / "policies").mkdir()
    policy = place.put("policies/policy.yaml", POLICY.format(port=origin))
    place.put("policies/token", "canary-of-a-file")
    script = place.put("attempts.py", ATTEMPTS.read_text())
    told = {"home": str(place.home), "state": str(place.state), "policy": str(policy), "port": origin}
    told |= {
        "abstract": f"egress-exec-{os.getpid()}",
        "tmp_socket": f"{tempfile.gettempdir()}/egress-exec-{os.getpid()}.sock",
    }
    told["outside"] = os.getpid()
    (place.home / ".ssh").mkdir()
    sockets = listening(f"\0{told['abstract']}", str(place.home / "agent.sock"), told["tmp_socket"])
    with sockets, renamed(place.home / ".ssh" / "shared"):
        done = place.run(
            *("--policy", str(policy), "--resolve", "origin.test:127.0.0.1"),
            argv=[sys.executable, str(script), json.dumps(told)],
            env={
                "UPSTREAM_TOKEN": "canary-of-a-variable",
                "SSH_AUTH_SOCK": str(place.home / "agent.sock"),
                "EGRESS_SECRETS_KEY": base64.b64encode(bytes(32)).decode("ascii"),
            },
        )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "said": done.stderr, "policy": policy}


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_tried_inside_fails(tried: dict[str, Any], name: str) -> None:
    """Every attempt, by its error: an error of another kind would mean that something else was tried."""
    assert tried[name] in EXPECTED[name]


def test_every_attempt_has_an_expectation(tried: dict[str, Any]) -> None:
    """An attempt that nobody looks at would prove nothing."""
    facts = {"seconds", "kill init", "descriptors", "uid", "processes", "status", "own key", "allowed", "denied"}
    assert set(tried) - facts - {"said", "policy", "inode of policy", "system"} == set(EXPECTED)


def test_nothing_of_it_waits(tried: dict[str, Any]) -> None:
    """What is refused is refused at once: no attempt runs into its time limit of seconds."""
    assert tried["seconds"] < 5


def test_the_proxy_is_the_way_out(tried: dict[str, Any]) -> None:
    """What the policy allows passes, and what it does not is denied."""
    assert (tried["allowed"], tried["denied"]) == (204, 403)


def test_the_policy_is_as_it_was(tried: dict[str, Any], origin: int) -> None:
    """Outside, after all attempts, and readable inside."""
    assert tried["policy"].read_text() == tried["inode of policy"] == POLICY.format(port=origin)


def test_the_command_has_no_privileges(tried: dict[str, Any], place: Place) -> None:
    """No capability of any set, no new ones by a program, a filter, and a user that is not root."""
    status = tried["status"]
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert tried["uid"] == (UID if place.road is Road.USER else 65_534)


def test_nothing_steers_the_kernel(tried: dict[str, Any]) -> None:
    """All of /sys is read-only: a control group of the user's own could be ended whole, the proxy in it."""
    assert tried["system"] == []


def test_only_own_processes_and_descriptors_are_there(tried: dict[str, Any]) -> None:
    """Number 1 and the command; three descriptors; and number 1 is there after all signals."""
    assert (tried["processes"], tried["descriptors"], tried["kill init"]) == (2, [], "survives")


def test_placeholders_stand_in_for_secrets(tried: dict[str, Any]) -> None:
    """The variable of the placeholder holds something, and not the secret."""
    assert tried["own key"]
    assert "canary" not in tried["own key"]


def test_what_was_denied_is_told_at_the_end(tried: dict[str, Any]) -> None:
    """The host, the reason, and what to do."""
    assert "denied 1 request" in tried["said"]
    assert "other.test" in tried["said"]
    assert "egress allow other.test" in tried["said"]


def test_the_record_names_the_run(tried: dict[str, Any], place: Place) -> None:
    """The audit in the user's state folder has the rows, under the name that the summary gives."""
    name = tried["said"].rpartition("sandbox:")[2].partition("'")[0]
    line = [sys.executable, "-c", "from egress.cli.main import main; main()", "audit", "export", "--format", "jsonl"]
    done = subprocess.run(
        [*line, "--filter", f"sandbox:{name}", "--state-dir", str(place.state)],
        env=place.env(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "other.test" in done.stdout


def test_nothing_is_left_of_the_run(tried: dict[str, Any], place: Place) -> None:
    """Its folder in the state folder is gone."""
    assert tried["uid"]
    assert list((place.state / "exec").iterdir()) == []
