"""What scrubbing costs: 100 MB through the lane `http`, with a secret on the request and without, in turn.

    python bench/scrub.py [ROUNDS]

One origin, one proxy (the front in a process of its own, as a worker is), one client; TLS on both sides. Under `/on` a
rule injects a secret, so the answer is searched; under `/off` it injects plain text. Printed for each kind of body are
medians over the rounds: MB/s as the client sees it, CPU of the proxy for each MB, and how much slower it is with.
The number to reach is a throughput of 85% of that without.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import ssl
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from ipaddress import ip_address
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import uvloop

from bench._origin import make_certificates
from egress.certs import Authority, write_roots
from egress.certs.authority import CERTIFICATE_NAME
from egress.config import AuditConfig, Limits, PolicySource, ServerConfig, UpstreamConfig
from egress.gate.build import build_gate, load_generation, open_audit
from egress.policy import Scope
from egress.proxy.client_tls import ClientTls
from egress.proxy.entrance import Entrance
from egress.proxy.front import Front
from egress.proxy.handing import NoHandOver
from egress.proxy.limits import FrontLimits, OwnSlots
from egress.proxy.upstream_tls import UpstreamTls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOST = "localhost"
SIZE = 100_000_000
BLOCK = 1 << 18
TICKS = os.sysconf("SC_CLK_TCK")
SECRET = "ghp_" + base64.b64encode(bytes(range(27))).decode()


def bodies() -> dict[str, tuple[str, bytes]]:
    """Kinds of bodies: a type, and the block that is sent again and again."""
    record = {"id": 17, "name": "somebody", "note": "The quick brown fox\njumps over 7 lazy dogs", "on": True}
    text = (json.dumps([record] * 3_000).encode())[:BLOCK]
    return {
        "json": ("application/json", text.ljust(BLOCK)),
        "random": ("application/octet-stream", os.urandom(BLOCK)),
        "base64": ("text/plain", base64.b64encode(os.urandom(BLOCK))[:BLOCK]),
    }


def serve_origin(listening: socket.socket, certificate: Path, key: Path) -> None:
    """Answer each connection's requests with SIZE bytes of the kind that the path ends in."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    kinds = bodies()
    while True:
        carrier, _ = listening.accept()
        try:
            with context.wrap_socket(carrier, server_side=True) as stream:
                while (data := stream.recv(65_536)).endswith(b"\r\n\r\n"):
                    kind, block = kinds[data.split(b" ")[1].decode().rpartition("/")[2]]
                    stream.sendall(
                        f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {SIZE}\r\n\r\n".encode()
                    )
                    left = SIZE
                    while left:
                        part = block[:left]
                        stream.sendall(part)
                        left -= len(part)
        except OSError:
            continue


def serve_proxy(listening: socket.socket, folder: Path, port: int) -> None:
    """The front, as a worker of `egress run` has it."""
    policy = folder / "policy.yaml"
    policy.write_text(f"""
version: 1
secrets: {{token: {{env: BENCH_TOKEN, hosts: ["{HOST}:{port}"]}}}}
rules:
  - {{allow: "{HOST}:{port}", paths: [/on/*], inject: {{Authorization: "Bearer ${{token}}"}}, addresses: [127.0.0.0/8]}}
  - {{allow: "{HOST}:{port}", paths: [/off/*], inject: {{X-Team: blue}}, addresses: [127.0.0.0/8]}}
""")
    config = ServerConfig(
        listen=("127.0.0.1", 0),
        state_dir=folder,
        audit=AuditConfig(folder / "audit.db"),
        ca_dir=folder / "ca",
        upstream=UpstreamConfig(ca=(folder / "roots-of-origin.pem",)),
        resolve={HOST: (ip_address("127.0.0.1"),)},
        policies=(PolicySource(Scope.SANDBOX, policy),),
        limits=Limits(),
        secrets={},
        sandboxes=(),
    )

    async def serve() -> None:
        authority = Authority.load_or_create(config.ca_dir)
        gate = build_gate(config, open_audit(config), load_generation(config, {"BENCH_TOKEN": SECRET}))
        roots = folder / "roots.pem"
        write_roots(roots, config.upstream.ca)
        own = config.limits
        limits = FrontLimits(own.head_seconds, own.tls_seconds, own.idle_seconds)
        slots = OwnSlots(own.connections)
        front = Front(gate, ClientTls(authority), UpstreamTls(roots), limits, hand_over=NoHandOver(), slots=slots)
        front.serve(listening, Entrance(address=listening.getsockname()[:2]))
        (folder / "ready").touch()
        await asyncio.Event().wait()

    uvloop.run(serve())


@contextmanager
def running(folder: Path) -> Iterator[tuple[tuple[str, int], int, int]]:
    """The proxy's address, the origin's port, the proxy's process."""
    authority, certificate, key = make_certificates(folder, HOST)
    (folder / "roots-of-origin.pem").write_bytes(authority.read_bytes())
    (folder / "ca").mkdir(mode=0o700)
    fork = get_context("fork")
    with socket.create_server(("127.0.0.1", 0)) as behind, socket.create_server(("127.0.0.1", 0)) as before:
        port = behind.getsockname()[1]
        processes = [
            fork.Process(target=serve_origin, args=(behind, certificate, key), daemon=True),
            fork.Process(target=serve_proxy, args=(before, folder, port), daemon=True),
        ]
        for process in processes:
            process.start()
        try:
            while not (folder / "ready").exists():
                time.sleep(0.05)
            yield before.getsockname()[:2], port, processes[1].pid or 0
        finally:
            for process in processes:
                process.terminate()
                process.join()


def fetch(address: tuple[str, int], port: int, context: ssl.SSLContext, path: str) -> None:
    """Read one body to its end."""
    with socket.create_connection(address) as carrier:
        carrier.sendall(f"CONNECT {HOST}:{port} HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode())
        if b" 200 " not in carrier.recv(4_096):
            raise SystemExit("the proxy refused the tunnel")
        with context.wrap_socket(carrier, server_hostname=HOST) as stream:
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode())
            room, got = bytearray(BLOCK), 0
            while size := stream.recv_into(room):
                got += size
    if got < SIZE:
        raise SystemExit(f"{path}: {got} bytes only")


def cpu(process: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def timed(work: Callable[[], None], process: int) -> tuple[float, float]:
    """Seconds on the clock, and of CPU of the proxy."""
    began, used = time.perf_counter(), cpu(process)
    work()
    return time.perf_counter() - began, cpu(process) - used


def main() -> None:
    """Measure, and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as name, running(Path(name)) as (address, port, process):
        context = ssl.create_default_context(cafile=str(Path(name) / "ca" / CERTIFICATE_NAME))
        for kind in bodies():
            taken: dict[str, list[tuple[float, float]]] = {"off": [], "on": []}
            for _ in range(rounds):
                for way, times in taken.items():
                    times.append(timed(lambda: fetch(address, port, context, f"/{way}/{kind}"), process))  # noqa: B023
            pairs = list(zip(taken["off"], taken["on"], strict=True))
            clock = statistics.median(off[0] / on[0] for off, on in pairs)
            used = statistics.median(off[1] / on[1] for off, on in pairs)
            print(f"{kind}: {clock:.0%} of the throughput without, {used:.0%} by CPU", end="; ")
            for way, times in taken.items():
                seconds, busy = (statistics.median(column) for column in zip(*times, strict=True))
                print(f"{way} {SIZE / 1e6 / seconds:.0f} MB/s, {busy * 1e3 / (SIZE / 1e6):.2f} ms/MB", end="  ")
            print()


if __name__ == "__main__":
    main()
