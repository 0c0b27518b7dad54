"""The mitm lane beside stock mitmdump with an addon that allows and injects: CPU a request and a new connection.

    python -m bench.mitm [ROUNDS]

Both terminate TLS for the same host in front of one origin, in turn, round after round, on one core; the load and the
origin have the others. What is printed is CPU time of the proxy's processes (all of them: the front that hands the
connection over, the lane, the audit) for each unit, medians over the rounds, and the median of the ratios. The targets
are 1.5 for requests on kept connections and 2 for new connections.
"""

from __future__ import annotations

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

import h2.config
import h2.connection
import h2.events

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench._origin import BODY, make_certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
HOST = "localhost"
ROUNDS = 7
CONNECTIONS = 8
# How many of each in a round, and the ratio to reach.
CASES: dict[str, tuple[int, float | None]] = {"kept": (1200, 1.5), "new": (100, 2.0), "http2": (600, None)}
TITLES = {
    "kept": "request, kept connection",
    "new": "new connection, one request",
    "http2": "request, HTTP/2 both sides",
}
PATH = "/v1/items/17?page=2"
FIELDS = (
    ("user-agent", "bench/1.0"),
    ("accept", "application/json"),
    ("accept-encoding", "gzip, deflate, br"),
    ("x-request-id", "0b1f6c2e"),
)
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


# the proxies


@dataclass
class Running:
    """A proxy, and the CA that its clients trust. `cpu` is of it and all it has forked."""

    name: str
    process: subprocess.Popen[str]
    port: int
    ca: Path
    spent: dict[str, list[float]] = field(default_factory=dict)

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
        self._target = f"{HOST}:{origin}"
        self._connect = f"CONNECT {self._target} HTTP/1.1\r\nHost: {self._target}\r\n\r\n".encode()
        fields = "".join(f"{name}: {value}\r\n" for name, value in (("host", self._target), *FIELDS))
        self._request = f"GET {PATH} HTTP/1.1\r\n{fields}\r\n".encode()

    def kept(self, count: int) -> None:
        """`count` requests, on a few connections in turn."""
        wires = [self._open("http/1.1") for _ in range(CONNECTIONS)]
        for _ in range(count // CONNECTIONS):
            for wire in wires:
                wire.sendall(self._request)
            for wire in wires:
                self._answered(wire)
        for wire in wires:
            wire.close()

    def new(self, count: int) -> None:
        """`count` connections with one request each, a few at a time."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: self._one(), range(count)))

    def http2(self, count: int) -> None:
        """As `kept`, over HTTP/2."""
        wires = [(self._open("h2"), _http2_client()) for _ in range(CONNECTIONS)]
        pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", self._target), (":path", PATH)]
        for _ in range(count // CONNECTIONS):
            for wire, connection in wires:
                connection.send_headers(connection.get_next_available_stream_id(), [*pseudo, *FIELDS], end_stream=True)
                wire.sendall(connection.data_to_send())
            for wire, connection in wires:
                self._ended(wire, connection)
        for wire, _ in wires:
            wire.close()

    def _one(self) -> None:
        with self._open("http/1.1") as wire:
            wire.sendall(self._request)
            self._answered(wire)

    def _open(self, alpn: str) -> ssl.SSLSocket:
        sock = socket.create_connection(("127.0.0.1", self._proxy.port), timeout=30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(self._connect)
        head = b""
        while b"\r\n\r\n" not in head:
            head += _more(sock)
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise SystemExit(f"{self._proxy.name} refused: {head!r}")
        # A context each, so that no client resumes another's session.
        context = ssl.create_default_context(cafile=str(self._proxy.ca))
        context.set_alpn_protocols([alpn])
        return context.wrap_socket(sock, server_hostname=HOST)

    def _answered(self, wire: ssl.SSLSocket) -> None:
        got = b""
        while not got.endswith(BODY):
            got += _more(wire)
        if not got.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{self._proxy.name} answered {got[:200]!r}")

    def _ended(self, wire: ssl.SSLSocket, connection: h2.connection.H2Connection) -> None:
        size = 0
        while True:
            for event in connection.receive_data(_more(wire)):
                match event:
                    case h2.events.DataReceived():
                        size += len(event.data)
                        connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    case h2.events.StreamEnded() if size == len(BODY):
                        wire.sendall(connection.data_to_send())
                        return
                    case h2.events.StreamEnded() | h2.events.StreamReset() | h2.events.ConnectionTerminated():
                        raise SystemExit(f"{self._proxy.name} answered {event}")
                    case _:
                        pass


def _http2_client() -> h2.connection.H2Connection:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    return connection


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
    for number in range(rounds + 1):
        for proxy, load in zip(proxies, loads, strict=True):
            for name, (count, _) in CASES.items():
                spent = milliseconds(proxy, getattr(load, name), count if number else 2 * CONNECTIONS)
                if number:  # The first round warms up.
                    proxy.spent.setdefault(name, []).append(spent)


def report(ours: Running, stock: Running) -> None:
    """Print the medians and their ratios."""
    print(f"{'CPU, milliseconds each':<28}{ours.name:>20}{stock.name:>20}{'stock / ours':>14}{'target':>8}")
    for name, (_, target) in CASES.items():
        here, there = ours.spent[name], stock.spent[name]
        ratio = statistics.median(other / own for own, other in zip(here, there, strict=True))
        wanted = "" if target is None else f"{target:.1f}x"
        medians = f"{statistics.median(here):>20.2f}{statistics.median(there):>20.2f}"
        print(f"{TITLES[name]:<28}{medians}{ratio:>13.2f}x{wanted:>8}")


def main() -> None:
    """Start everything, measure, print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    cores = sorted(os.sched_getaffinity(0))
    core = str(cores[0]) if len(cores) > 1 else None
    if core is not None:
        os.sched_setaffinity(0, cores[1:])
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        _, certificate, key = make_certificates(folder, HOST)
        env = {"HOME": name, "BENCH_HOST": HOST, "BENCH_KEY": "k" * 60}
        origin = _free_port()
        command = [sys.executable, str(ROOT / "bench" / "_origin.py"), str(certificate), str(key), str(origin)]
        stack.enter_context(running(command, env, origin, None))
        proxies = [start(folder, env, origin, core, stack) for start in (start_ours, start_stock)]
        measure(proxies, origin, rounds)
        report(*proxies)


if __name__ == "__main__":
    main()
