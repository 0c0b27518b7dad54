"""A command under `egress exec` that will not use the proxy, or has somebody outside act for it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from documents import ROOT
from harness.world import ALLOWED4, EVIL4, EVIL6, NAMESERVER
from rig.confined import Place, Road

from corpus_runner.cases import CANARY
from corpus_runner.evidence import leaks
from corpus_runner.policies import ENVIRONMENT, INJECT
from corpus_runner.scripts import script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.world import World

    from corpus_runner.cases import Case

# Who is told to use a proxy, and by which client: a clean environment, a wildcard, and as it was set up.
ENVIRONMENTS: dict[str, list[str]] = {
    "NO_PROXY": ["env", "NO_PROXY=*", "no_proxy=*"],
    "unset": [word for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY") for word in ("-u", name, "-u", name.lower())],
    "nothing": ["env", "-i", "PATH=/usr/bin:/bin"],
}
ENVIRONMENTS["unset"].insert(0, "env")
URLS = (
    "https://allowed.test/x",
    f"http://{ALLOWED4}/x",
    "http://evil.test/x",
    f"http://{EVIL4}/x",
    f"http://[{EVIL6}]/",
)
# What curl says where a name has no address, and where there is no way to an address.
UNRESOLVED, UNREACHED = 6, 7
# Asks each socket for a container, as its client would; what came of it.
SOCKETS = """
import errno, json, socket, sys
found = []
for path in sys.argv[1:]:
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(path.replace("@", chr(0), 1) if path.startswith("@") else path)
            sock.sendall(b"POST /containers/create HTTP/1.1\\r\\nHost: docker\\r\\nContent-Length: 0\\r\\n\\r\\n")
            found.append("open")
    except OSError as error:
        found.append(errno.errorcode[error.errno])
print(json.dumps(found))
"""


@contextlib.contextmanager
def _place() -> Iterator[Place]:
    made = Place(Road.ROOT)
    try:
        yield made
    finally:
        shutil.rmtree(made.top)


def _confined(world: World, place: Place, argv: list[str], **env: str) -> str:
    """Run a command under `egress exec` in the world's namespace; what it printed."""
    policy = place.put("policy.yaml", INJECT)
    # The checkout may lie below /tmp.
    options = ("--quiet", "--policy", str(policy), "--upstream-ca", str(world.authority.ca_file), "--keep", str(ROOT))
    done = world.namespace.run(
        place.command(*options, argv=argv), env=place.env(**ENVIRONMENT, **env), cwd=place.work, timeout=90
    )
    assert done.returncode == 0, done.stderr
    # What the corpus calls `no_canary(client)` and `policy_unchanged`.
    assert not leaks((done.stdout + done.stderr).encode(), CANARY)
    assert policy.read_text() == INJECT
    return done.stdout


@script("TAMPER-013")
def no_direct_way(world: World, case: Case) -> None:
    """Without the proxy's variables there is no name and no way; with them there is one, and the secret goes along."""
    line = "curl -s -k -m 5 -o /dev/null {url}; echo $?"
    tries = [f"{' '.join(words)} {line.format(url=url)}" for words in ENVIRONMENTS.values() for url in URLS]
    marks = world.marks()
    with _place() as place:
        told = _confined(world, place, ["sh", "-c", "\n".join([*tries, "curl -s https://allowed.test/x"])]).split()
    expected = [UNRESOLVED, UNREACHED, UNRESOLVED, UNREACHED, UNREACHED] * len(ENVIRONMENTS)
    assert told == [*map(str, expected), "ok", "allowed"]
    world.settle(marks[0])
    arrived = [head for seen in world.origins.since(marks[0]) for head in seen.requests]
    assert [head.values(b"authorization") for head in arrived] == [[f"Bearer {CANARY}".encode()]]
    assert {name for name, _ in world.names.questions[marks[1] :]} == {"allowed.test"}
    packets = [packet for packet in world.tap.packets[marks[2] :] if packet.source != NAMESERVER]
    assert {(packet.target, packet.port) for packet in packets} <= {(ALLOWED4, 443), (NAMESERVER, 53)}
    assert case.expected == "deny"


@script("TAMPER-014")
def no_engine_to_ask(world: World, case: Case) -> None:
    """The socket of a container engine that listens outside cannot be reached, wherever it is."""
    with _place() as place, contextlib.ExitStack() as stack:
        name = f"egress-corpus-{os.getpid()}"
        paths = [
            f"/run/{name}.sock",
            str(place.home / "docker.sock"),
            f"{tempfile.gettempdir()}/{name}.sock",
            f"@{name}",
        ]
        sockets = [stack.enter_context(_engine(world, path)) for path in paths]
        asked = [*paths, "/run/docker.sock", "/var/run/docker.sock"]
        told = _confined(
            world, place, [sys.executable, "-c", SOCKETS, *asked], DOCKER_HOST=f"unix://{place.home}/docker.sock"
        )
        assert json.loads(told) == ["ENOENT", "ECONNREFUSED", "ENOENT", "ECONNREFUSED", "ENOENT", "ENOENT"]
        for one in sockets:
            with contextlib.suppress(BlockingIOError):
                one.accept()
                raise AssertionError("somebody reached the engine")
    assert case.expected == "deny"


@contextlib.contextmanager
def _engine(world: World, path: str) -> Iterator[socket.socket]:
    # Made in the namespace in which the command is started, since abstract sockets are one network's.
    with world.namespace.socket(socket.AF_UNIX) as sock:
        sock.bind("\0" + path[1:] if path.startswith("@") else path)
        sock.listen()
        sock.setblocking(False)  # noqa: FBT003 -- the socket's own signature
        if not path.startswith("@"):
            Path(path).chmod(0o777)
        try:
            yield sock
        finally:
            if not path.startswith("@"):
                Path(path).unlink(missing_ok=True)
