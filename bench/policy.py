"""What a large policy costs: `make bench-policy`, or `python bench/policy.py`.

    loading and compiling    seconds of CPU, and memory, for lists of 100,000 hosts and of 100,000 CIDRs, and rules
    decide()                 microseconds of CPU of the name step and of the request step with each of these, beside 10
                             rules that are asked in turn with them: a machine whose speed drifts drifts for both
    a reload                 how long the slowest request waits while 100,000 hosts are read anew, beside one at rest

Each policy is loaded in a process of its own, so that none is measured in the leavings of another.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from egress.config import PolicySource, load_policy  # noqa: E402 -- as a script it is run from anywhere
from egress.policy import Host, Protocol, Request, Scope  # noqa: E402 -- likewise
from egress.review.lint import lint  # noqa: E402 -- likewise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from egress.policy import Policy

LIST = 100_000
RULES = 10_000
ROUNDS = 60
SETTLE_SECONDS = 2.0
KINDS = ("10 rules", "1,000 rules", "10,000 rules", "100,000 hosts", "100,000 CIDRs", "4 scopes")


def host(number: int) -> str:
    """A name of the lists."""
    return f"host{number}.example{number % 97}.com"


def network(number: int) -> str:
    """A range of the lists: IPv4 addresses and IPv6 networks in turn."""
    if number % 2:
        return f"11.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return f"2a00:{number >> 8:x}:{number & 255:x}::/48"


def rules(size: int) -> str:
    """So many rules: ranges to deny, and hosts to allow under conditions, in turn."""
    written = (
        f"- allow: {host(number)}\n  methods: [GET]\n  paths: [/public/**]\n"
        if number % 2 == 0
        else f"- deny: {network(number)}\n"
        for number in range(size)
    )
    return "version: 1\ndefault: deny\nrules:\n" + "".join(written)


def write_policy(folder: Path, kind: str) -> list[PolicySource]:
    """The files of a policy of this kind."""
    hosts, networks, path = folder / "hosts.txt", folder / "networks.txt", folder / "policy.yaml"
    allow, deny = "- allow: {file: hosts.txt}\n", "- deny: {file: networks.txt}\n"
    top = "version: 1\ndefault: deny\nrules:\n"
    if kind in {"100,000 hosts", "4 scopes"}:
        hosts.write_text("".join(f"{'.' if number % 3 == 0 else ''}{host(number)}\n" for number in range(LIST)))
    if kind in {"100,000 CIDRs", "4 scopes"}:
        networks.write_text("".join(f"{network(number)}\n" for number in range(LIST)))
    if kind == "4 scopes":
        path.write_text(top.replace("default: deny\n", "") + deny)
        found = [PolicySource(Scope.ORG, path)]
        for scope, text in (
            (Scope.TEAM, top + allow),
            (Scope.SANDBOX, rules(1_000) + allow),
            (Scope.SESSION, top + allow),
        ):
            other = folder / f"{scope}.yaml"
            other.write_text(text)
            found.append(PolicySource(scope, other))
        return found
    path.write_text(
        {"100,000 hosts": top + allow, "100,000 CIDRs": top + deny}.get(kind)
        or rules(int(kind.partition(" ")[0].replace(",", "")))
    )
    return [PolicySource(Scope.SANDBOX, path)]


def destinations() -> list[Host]:
    """Hosts and addresses that every kind of policy is asked for: some that it knows, some that it does not."""
    found = [Host(host(number * 2)) for number in range(5)] * 20
    found += [Host(f"www.{host(number * 6)}") for number in range(0, LIST // 6, LIST // 300)]
    found += [Host(str(address), address) for address in map(ip_address, ("11.0.0.1", "11.0.0.3", "12.0.0.1"))] * 20
    return [*found, *(Host(f"unknown{number}.test") for number in range(50))]


def decide_microseconds(policies: Sequence[Policy]) -> list[tuple[float, float]]:
    """For each policy the medians over rounds of what the name step costs, and the request step."""
    names = [Request("bench", Protocol.HTTPS, one, 443) for one in destinations()]
    whole = [replace(request, method="GET", path="/public/a") for request in names]
    found: list[tuple[list[float], list[float]]] = [([], []) for _ in policies]
    for _ in range(ROUNDS):
        for policy, (by_name, by_request) in zip(policies, found, strict=True):
            by_name.append(round_microseconds(policy.decide_name, names))
            by_request.append(round_microseconds(policy.decide_request, whole))
    return [(statistics.median(by_name), statistics.median(by_request)) for by_name, by_request in found]


def round_microseconds(step: Callable[[Request], object], asked: Sequence[Request]) -> float:
    """One round's CPU time for one request."""
    start = time.process_time()
    for request in asked:
        step(request)
    return (time.process_time() - start) / len(asked) * 1e6


def measure(kind: str) -> dict[str, float]:
    """CPU seconds of loading and of lint, MB that the policy keeps, MB that the process grew by, and a decision."""
    with tempfile.TemporaryDirectory(prefix="egress-bench-") as folder:
        sources = write_policy(Path(folder), kind)
        grown = -resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        loaded = load_policy(sources)
        middle = time.process_time()
        lint(loaded, now=datetime.now(UTC))
        end = time.process_time()
        grown += resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        first = Path(folder) / "first"
        first.mkdir()
        small = load_policy(write_policy(first, KINDS[0])).policy
        (small_name, small_request), (name, request) = decide_microseconds([small, loaded.policy])
        del loaded
        tracemalloc.start()
        again = load_policy(sources)
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0]
        del again
    return {
        "load": middle - start,
        "lint": end - middle,
        "kept": kept / 1e6,
        "grown": grown / 1e3,
        "name": name,
        "request": request,
        "name ratio": name / small_name,
        "request ratio": request / small_request,
    }


def measured(kind: str) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--one", kind]
    ran = subprocess.run(  # noqa: S603 -- this file
        command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    return dict(json.loads(ran.stdout))


@contextlib.contextmanager
def proxy(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`egress run` with one worker over 100,000 hosts, and its port."""
    write_policy(folder, "100,000 hosts")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from egress.cli.main import main; main()", "run", "--workers", "1"]
    command += [
        "--policy",
        str(folder / "policy.yaml"),
        "--state-dir",
        str(folder / "state"),
        "--listen",
        f"127.0.0.1:{port}",
    ]
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(  # noqa: S603 -- egress
            command, stdout=log, stderr=log, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        try:
            yield running, port
        finally:
            running.terminate()
            running.wait(30)


def ask(port: int) -> float:
    """How long one refused request takes, on a connection of its own: the proxy's work alone, none of an origin."""
    start = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(b"GET http://unknown.test/ HTTP/1.1\r\nHost: unknown.test\r\nConnection: close\r\n\r\n")
        if b" 403 " not in connection.recv(65_536):
            raise SystemExit("the proxy does not refuse as it should")
    return time.perf_counter() - start


def waits(port: int, seconds: float, until: Path | None = None, count: int = 0) -> list[float]:
    """The waits of requests one after another, for so long, or until the log tells of one more reload."""
    deadline, found = time.monotonic() + seconds, []
    while time.monotonic() < deadline:
        found.append(ask(port) * 1e3)
        if until is not None and len(found) % 20 == 0 and until.read_text().count("is in force") > count:
            return [*found, *waits(port, SETTLE_SECONDS)]  # what the old policy leaves behind counts too
    return found


def reload_waits(reloads: int = 3) -> tuple[list[float], list[float]]:
    """The waits in milliseconds at rest, and while files are read anew and put in force."""
    with tempfile.TemporaryDirectory(prefix="egress-bench-") as name, proxy(Path(name)) as (running, port):
        folder, at_rest, under_way = Path(name), [], []
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                ask(port)
                break
            except OSError:
                time.sleep(0.2)
        waits(port, SETTLE_SECONDS)
        for number in range(reloads):
            at_rest += waits(port, SETTLE_SECONDS)
            with (folder / "hosts.txt").open("a") as hosts:
                hosts.write(f"another{number}.test\n")
            running.send_signal(signal.SIGHUP)
            under_way += waits(port, 60, folder / "log", number)
    return at_rest, under_way


def main() -> None:
    """Print the tables."""
    out = sys.stdout
    if sys.argv[1:2] == ["--one"]:
        out.write(json.dumps(measure(sys.argv[2])))
        return
    out.write(
        f"{'policy':>14} {'load s':>7} {'lint s':>7} {'kept MB':>8} {'grown MB':>9} "
        f"{'name us':>8} {'to 10 rules':>12} {'request us':>11} {'to 10 rules':>12}\n"
    )
    for kind in KINDS:
        found = measured(kind)
        out.write(
            f"{kind:>14} {found['load']:>7.2f} {found['lint']:>7.2f} {found['kept']:>8.1f} {found['grown']:>9.1f}"
            f" {found['name']:>8.2f} {found['name ratio']:>11.2f}x"
            f" {found['request']:>11.2f} {found['request ratio']:>11.2f}x\n"
        )
    at_rest, under_way = reload_waits()
    out.write(f"\n{'requests':>14} {'count':>7} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}\n")
    for name, found_waits in (("at rest", at_rest), ("reloading", under_way)):
        cuts = statistics.quantiles(found_waits, n=100)
        out.write(f"{name:>14} {len(found_waits):>7,} {cuts[49]:>8.2f} {cuts[98]:>8.2f} {max(found_waits):>8.2f}\n")


if __name__ == "__main__":
    main()
