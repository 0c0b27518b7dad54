"""The world that every cell runs in: two sandboxes, a real `egress run` at their gateway, and the stand-ins behind it.

One sandbox has no way out but the proxy's listener, and no names; the other knows of no proxy, has its names from the
proxy's DNS, and its connections are redirected. So a client that works in either did what its column says, and the
audit's row says by which listener and in which lane.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from compat.cells import World
from compat.clients import CLIENTS, DATABASE
from compat.columns import COLUMNS, Road
from compat.shelf import shelf
from compat.standins import GRPC_SERVER, Fork, Postgres, Web
from compat.tools import ROOT, find
from compat.trust import with_theirs
from harness.authority import TestAuthority
from rig.process import Process
from roads.network import CLIENT4, CLIENT6, GATEWAY4, PORT, PREFIX, REDIRECT, SERVER4, Network

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping

    from roads.network import Space

LISTENER4, LISTENER6 = ("10.201.2.2", "10.201.2.1"), ("fd01:202::2", "fd01:202::1")
HTTP, SOCKS = 3128, 3130
# Where clients are sent with the variables for SOCKS: the fork before both.
FORK = 3131
GRPC, FORWARD = 50051, 5433

POLICY = f"""\
version: 1
rules:
  - {{name: inspected, allow: "*.inspected.test"}}
  - {{name: tunnelled, allow: "*.tunnelled.test", tls: tunnel}}
  - {{name: gRPC, allow: "*.inspected.test:{GRPC}", protocol: grpc}}
  - {{name: gRPC in a tunnel, allow: "*.tunnelled.test:{GRPC}", tls: tunnel}}
  - {{name: PostgreSQL, allow: "*.tunnelled.test:{DATABASE}", protocol: tcp}}
"""
CONFIG = """\
listen: [{http}, {socks}]
forwards: {{{forward}: "psql-forward-explicit.tunnelled.test:{database}"}}
transparent: {{listen: ["0.0.0.0:{port}", "[::]:{port}"], mode: redirect}}
dns: {{listen: ["{gateway}:53"]}}
sandboxes:
  by-http: {{listener: {http}}}
  by-forward: {{listener: {forward}}}
  by-socks: {{listener: {socks}}}
  redirected: {{source: [{client4}, "{client6}"]}}
resolve: {resolve}
limits: {{drain_seconds: 1}}
audit: {{flush_interval: 0.02}}
upstream: {{ca: [{ca}]}}
policy: [policy.yaml]
state_dir: state
"""


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    """Made, and gone again with all that it started. Raises `roads.network.UnableError` where it cannot be made."""
    folder.chmod(0o755)
    authority = TestAuthority(folder / "theirs")
    certificate, key = authority.issue("*.inspected.test", "*.tunnelled.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network(REDIRECT))
        addresses = tuple(zip(LISTENER4, LISTENER6, strict=True))
        bare = network.join("bare", "inside", (addresses[0][0], addresses[0][1]), (addresses[1][0], addresses[1][1]))
        for space, server in ((bare, "127.0.0.1"), (network.client, GATEWAY4)):
            stack.enter_context(_names(space, server))
        stack.enter_context(Web(network.server.listener(SERVER4, 443), context, shelf(folder / "git")))
        stack.enter_context(Postgres(network.server.listener(SERVER4, DATABASE)))
        _grpc(stack, network, folder, (certificate, key))
        _proxy(stack, network, folder, authority)
        stack.enter_context(Fork(network.gateway.listener(LISTENER4[1], FORK), _onward(network.gateway)))
        yield World(folder, bare, network.client, _environments(network.gateway, folder, authority))


@contextlib.contextmanager
def _names(space: Space, server: str) -> Iterator[None]:
    """Let a namespace resolve at `server` (ip-netns(8))."""
    folder = Path("/etc/netns", space.name)
    for left in folder.parent.glob(f"{PREFIX}-*"):
        # Of a run that was killed: a name carries the process id of its run.
        if not Path("/proc", left.name.split("-")[1]).exists():
            shutil.rmtree(left, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        (folder / "resolv.conf").write_text(f"nameserver {server}\noptions timeout:2 attempts:1\n")
        yield
    finally:
        shutil.rmtree(folder)


def _grpc(stack: contextlib.ExitStack, network: Network, folder: Path, pair: tuple[Path, Path]) -> None:
    """The stand-in of gRPC, where a Python has the library; its client needs the same."""
    python = find("python:grpc")
    if python is not None:
        words = (python["PYTHON"], "-c", GRPC_SERVER, *(str(path) for path in pair), f"{SERVER4}:{GRPC}")
        listens = r"listening on http://(\S+):(\d+)"
        stack.enter_context(Process(network.server.command(*words), env={}, cwd=folder, listens=listens)).address()


def _onward(gateway: Space) -> Callable[[bool], socket.socket]:
    def connect(is_socks: bool) -> socket.socket:  # noqa: FBT001 -- the one thing that is told
        return gateway.connect(LISTENER4[1], SOCKS if is_socks else HTTP)

    return connect


def _at(port: int) -> str:
    return f"{LISTENER4[1]}:{port}"


_EGRESS = (sys.executable, "-c", "from egress.cli.main import main; main()")


def _proxy(stack: contextlib.ExitStack, network: Network, folder: Path, authority: TestAuthority) -> None:
    pins = {client.host(column): SERVER4 for client in CLIENTS for column in COLUMNS}
    (folder / "state").mkdir(mode=0o700)
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "egress.yaml").write_text(
        CONFIG.format(
            http=_at(HTTP),
            socks=_at(SOCKS),
            forward=_at(FORWARD),
            database=DATABASE,
            port=PORT,
            gateway=GATEWAY4,
            client4=CLIENT4,
            client6=CLIENT6,
            resolve=json.dumps(pins),
            ca=authority.ca_file,
        )
    )
    command = network.gateway.command(*_EGRESS, "run", "--config", str(folder / "egress.yaml"))
    listens = r"listening on http://(\S+):(\d+)"
    process = stack.enter_context(Process(command, env={"PYTHONPATH": str(ROOT)}, cwd=folder, listens=listens))
    process.says(rf"transparent  \[::\]:{PORT}")
    stack.callback(_stopped, process)


def _stopped(process: Process) -> None:
    process.popen.terminate()
    process.ended()
    assert "Traceback" not in process.printed, process.printed


def _environments(gateway: Space, folder: Path, authority: TestAuthority) -> Mapping[Road, Mapping[str, str]]:
    """What `egress env` gives clients on each road, and roots for what they tunnel to."""

    def told(*words: str) -> Mapping[str, str]:
        files = folder / f"files{len(words)}"
        config = ("--config", str(folder / "egress.yaml"))
        command = gateway.command(*_EGRESS, "env", "--json", "--files", str(files), *words, *config)
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=env, cwd=folder)
        return with_theirs(json.loads(done.stdout), folder / "roots", authority.ca_file)

    explicit, socks = told("--proxy", _at(HTTP)), told("--proxy", _at(FORK), "--socks")
    forward = {"FORWARD_HOST": LISTENER4[1], "FORWARD_PORT": str(FORWARD)}
    redirected = told("--redirected")
    return {Road.EXPLICIT: explicit | forward, Road.SOCKS: socks, Road.TRANSPARENT: redirected | forward}
