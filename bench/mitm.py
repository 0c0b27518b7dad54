"""The mitm lane beside stock mitmdump with an addon that allows and injects: CPU a request and a new connection.

    python -m bench.mitm

Both terminate TLS for the same host in front of one origin, in turn, round after round, on one core; the load and the
origin have the others. What is printed is CPU time of the proxy's processes (all of them: the front that hands the
connection over, the lane, the audit) for each unit, medians over the rounds, and the ratio of the two. The targets are
1.5 for requests on kept connections and 2 for new connections.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import os
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
HOST = "localhost"
ROUNDS = 7
CONNECTIONS = 8
REQUESTS = 1600
NEW = 120
TICKS = os.sysconf("SC_CLK_TCK")

ADDON = """
import os
from mitmproxy import http
ALLOWED = {os.environ["BENCH_HOST"]}
KEY = os.environ["BENCH_KEY"]

def deny(flow):
    flow.response = http.Response.make(403, b"denied")

def http_connect(flow):
    if flow.request.host not in ALLOWED:
        deny(flow)

def request(flow):
    if flow.request.pretty_host not in ALLOWED:
        deny(flow)
    else:
        flow.request.headers["Authorization"] = "Bearer " + KEY
"""

POLICY = """version: 1
secrets:
  key: {{env: BENCH_KEY, hosts: ["{host}:{port}"]}}
rules:
  - name: the origin
    allow: "{host}:{port}"
    inject: {{Authorization: "Bearer ${{key}}"}}
    addresses: [127.0.0.0/8]
"""

BODY = b"x" * 600
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 600\r\n\r\n" + BODY


# the origin


class Origin(asyncio.Protocol):
    """Answers every head with the same 600 bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = transport
        self._held = b""

    def data_received(self, data: bytes) -> None:
        """Answer each head that is whole."""
        *heads, self._held = (self._held + data).split(b"\r\n\r\n")
        for head in heads:
            if b"Bearer" not in head:
                raise SystemExit("a request came without what the proxy injects")
            self._transport.write(ANSWER)  # type: ignore[attr-defined]


async def serve_origin(certificate: str, key: str, port: str) -> None:
    """Serve TLS until killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.get_running_loop().create_server(Origin, "127.0.0.1", int(port), ssl=context)
    await server.serve_forever()


def make_certificates(folder: Path) -> tuple[Path, Path, Path]:
    """A CA, and a certificate and key for the origin."""
    now = dt.datetime.now(dt.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench CA")])

    def builder(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(name).issuer_name(ca_name).public_key(public)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(hours=1))
        return made.not_valid_after(now + dt.timedelta(days=2))

    names = x509.SubjectAlternativeName([x509.DNSName(HOST), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    ca = builder(ca_name, ca_key.public_key())
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    leaf = builder(x509.Name([]), key.public_key()).add_extension(names, critical=True)
    paths = folder / "origin-ca.pem", folder / "origin.pem", folder / "origin.key"
    for path, made in zip(paths, (ca, leaf), strict=False):
        path.write_bytes(made.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    paths[2].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


# the proxies


@dataclass
class Running:
    """A proxy, and the CA that its clients trust. `cpu` is of it and all it has forked."""

    name: str
    process: subprocess.Popen[str]
    port: int
    ca: Path
    kept: list[float] = field(default_factory=list)
    new: list[float] = field(default_factory=list)

    def cpu(self) -> float:
        """Seconds so far."""
        return sum(_cpu(pid) for pid in _family(self.process.pid))


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in _family(int(child)))]


def _cpu(pid: int) -> float:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / TICKS


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str], env: dict[str, str], port: int, core: str | None
) -> Iterator[subprocess.Popen[str]]:
    """A process that listens on `port`; ended with the block."""
    prefix = ["taskset", "-c", core] if core is not None and shutil.which("taskset") else []
    log = Path(env["HOME"]) / f"{port}.log"
    with log.open("w") as out:
        process = subprocess.Popen(  # noqa: S603 - the programs under test
            [*prefix, *command],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env},
            stdout=out,
            stderr=out,
            text=True,
        )
    try:
        deadline = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"`{command[0]}` does not listen: {log.read_text()}")
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start_ours(folder: Path, env: dict[str, str], origin: int, core: str | None, stack: ExitStack) -> Running:
    """`egress run` with every connection on the mitm lane."""
    policy, port = folder / "policy.yaml", _free_port()
    policy.write_text(POLICY.format(host=HOST, port=origin))
    command = [
        *(str(BIN / "egress"), "run", "--policy", str(policy), "--listen", f"127.0.0.1:{port}", "--lane", "mitm"),
        *("--mitm", "warm", "--state-dir", str(folder / "state"), "--resolve", f"{HOST}:127.0.0.1"),
        *("--upstream-ca", str(folder / "origin-ca.pem")),
    ]
    process = stack.enter_context(running(command, env, port, core))
    return Running("egress, mitm lane", process, port, folder / "state" / "ca" / "ca.pem")


def start_stock(folder: Path, env: dict[str, str], origin: int, core: str | None, stack: ExitStack) -> Running:
    """`mitmdump -q` with the addon."""
    del origin
    addon, port = folder / "addon.py", _free_port()
    addon.write_text(ADDON)
    command = [
        *(str(BIN / "mitmdump"), "-q", "-s", str(addon), "--listen-host", "127.0.0.1", "--listen-port", str(port)),
        *("--set", f"confdir={folder / 'stock'}"),
        *("--set", f"ssl_verify_upstream_trusted_ca={folder / 'origin-ca.pem'}"),
    ]
    process = stack.enter_context(running(command, env, port, core))
    return Running("stock mitmdump", process, port, folder / "stock" / "mitmproxy-ca-cert.pem")


# the load


class Load:
    """Clients of one proxy."""

    def __init__(self, proxy: Running, origin: int) -> None:
        self._proxy = proxy
        self._context = ssl.create_default_context(cafile=str(proxy.ca))
        self._context.set_alpn_protocols(["http/1.1"])
        target = f"{HOST}:{origin}"
        self._connect = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()
        self._request = (
            f"GET /v1/items/17?page=2 HTTP/1.1\r\nHost: {target}\r\nUser-Agent: bench/1.0\r\n"
            "Accept: application/json\r\nAccept-Encoding: gzip, deflate, br\r\nX-Request-Id: 0b1f6c2e\r\n\r\n"
        ).encode()

    def open(self) -> ssl.SSLSocket:
        """A connection with TLS up."""
        sock = socket.create_connection(("127.0.0.1", self._proxy.port), timeout=30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(self._connect)
        head = b""
        while b"\r\n\r\n" not in head:
            head += _more(sock)
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise SystemExit(f"{self._proxy.name} refused: {head!r}")
        return self._context.wrap_socket(sock, server_hostname=HOST)

    def answered(self, wire: ssl.SSLSocket) -> None:
        """Read one answer."""
        got = b""
        while not got.endswith(BODY):
            got += _more(wire)
        if not got.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{self._proxy.name} answered {got[:200]!r}")

    def kept(self, count: int) -> None:
        """`count` requests, on a few connections in turn."""
        wires = [self.open() for _ in range(CONNECTIONS)]
        for _ in range(count // CONNECTIONS):
            for wire in wires:
                wire.sendall(self._request)
            for wire in wires:
                self.answered(wire)
        for wire in wires:
            wire.close()

    def new(self, count: int) -> None:
        """`count` connections with one request each, a few at a time."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: self._one(), range(count)))

    def _one(self) -> None:
        with self.open() as wire:
            wire.sendall(self._request)
            self.answered(wire)


def _more(sock: socket.socket) -> bytes:
    data = sock.recv(65_536)
    if not data:
        raise SystemExit("a connection ended early")
    return data


def milliseconds(proxy: Running, work: Callable[[int], None], count: int) -> float:
    """The proxy's CPU for each of `count` units."""
    before = proxy.cpu()
    work(count)
    # What it does just after the last answer is of the unit too: closing, and the rows' way into the audit.
    time.sleep(0.15)
    return (proxy.cpu() - before) / count * 1000


def measure(proxies: Sequence[Running], origin: int, rounds: int) -> None:
    """Let the proxies take turns."""
    loads = [Load(proxy, origin) for proxy in proxies]
    for load in loads:
        load.kept(10 * CONNECTIONS)
        load.new(8)
    for _ in range(rounds):
        for proxy, load in zip(proxies, loads, strict=True):
            proxy.kept.append(milliseconds(proxy, load.kept, REQUESTS))
            proxy.new.append(milliseconds(proxy, load.new, NEW))


def report(ours: Running, stock: Running) -> None:
    """Print the medians and their ratios."""
    print(f"{'':<20}{'request on a kept connection':>32}{'new connection with a request':>32}")
    for proxy in (ours, stock):
        print(f"{proxy.name:<20}{statistics.median(proxy.kept):>29.3f} ms{statistics.median(proxy.new):>29.2f} ms")
    kept = statistics.median(there / here for here, there in zip(ours.kept, stock.kept, strict=True))
    new = statistics.median(there / here for here, there in zip(ours.new, stock.new, strict=True))
    print(f"{'stock / ours':<20}{kept:>30.2f}x {new:>30.2f}x ")
    print(f"{'target':<20}{1.5:>30.2f}x {2.0:>30.2f}x ")


def main() -> None:
    """Start everything, measure, print."""
    if sys.argv[1:2] == ["origin"]:
        asyncio.run(serve_origin(*sys.argv[2:5]))
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    cores = sorted(os.sched_getaffinity(0))
    core = str(cores[0]) if len(cores) > 1 else None
    if core is not None:
        os.sched_setaffinity(0, cores[1:])
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        _, certificate, key = make_certificates(folder)
        env = {"HOME": name, "BENCH_HOST": HOST, "BENCH_KEY": "k" * 60}
        origin = _free_port()
        command = [sys.executable, __file__, "origin", str(certificate), str(key), str(origin)]
        stack.enter_context(running(command, env, origin, None))
        proxies = [start(folder, env, origin, core, stack) for start in (start_ours, start_stock)]
        measure(proxies, origin, rounds)
        report(*proxies)


if __name__ == "__main__":
    main()
