"""How many rows a second the audit writer records, sustained, none lost; and how long the newest rows take to read.

    python bench/audit.py [--requests N] [--folder DIR]

Each request is one decision and one outcome: two rows. The producer offers as fast as the writer takes, so the number
is the slower of the two, on one core together with the producer (CPython runs one of them at a time).
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

from egress.audit import AuditReader, AuditWriter, DecisionEvent, Filter, OutcomeEvent, parse_filter


def decision(number: int, time_us: int) -> DecisionEvent:
    """A decision like those of an agent at work."""
    return DecisionEvent(
        id=f"{time_us:015x}{number:09x}",
        time_us=time_us,
        sandbox="coding-agent",
        client="172.18.0.3:41234",
        verdict="allow" if number % 10 else "deny",
        reason="rule-allow" if number % 10 else "host-not-allowed",
        scope="sandbox",
        rule="model API",
        file="/etc/egress/coding-agent.yaml",
        line=17,
        policy_hash="9f86d081884c7d659a2feaa0c55ad015",
        method="POST",
        scheme="https",
        host=f"api{number % 97}.example.com",
        port=443,
        path=f"/v1/messages/{number}",
        query="beta=***",
        sni=f"api{number % 97}.example.com",
        protocol="https",
        lane="mitm",
        address="203.0.113.7",
        secrets=("anthropic",),
    )


def outcome(of: DecisionEvent) -> OutcomeEvent:
    """The outcome of that decision."""
    return OutcomeEvent(
        id=of.id,
        time_us=of.time_us + 81_000,
        status=200,
        bytes_up=1834,
        bytes_down=20_481,
        duration_us=81_000,
        first_byte_us=40_100,
    )


def offer(writer: AuditWriter, event: DecisionEvent | OutcomeEvent) -> None:
    """Offer until taken: the back-pressure that the proxy applies by waiting."""
    while not writer.offer(event):
        time.sleep(0.002)


def record(path: Path, requests: int) -> tuple[float, float]:
    """Record that many requests; gives seconds of wall clock and of CPU."""
    writer = AuditWriter(path)
    writer.start()
    started, cpu = time.perf_counter(), time.process_time()
    first_us = time.time_ns() // 1000 - requests
    for number in range(requests):
        event = decision(number, first_us + number)
        offer(writer, event)
        offer(writer, outcome(event))
    if not writer.close(timeout=60):
        sys.exit("the writer could not record everything")
    return time.perf_counter() - started, time.process_time() - cpu


def read(path: Path, wanted: Filter) -> float:
    """Seconds to open the database and read the newest 50 rows."""
    started = time.perf_counter()
    with AuditReader(path) as reader:
        reader.newest(wanted, limit=50)
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=None, help="where the database is made (a temporary folder)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / "audit.db"
        wall, cpu = record(path, given.requests)
        rows = 2 * given.requests
        (found,) = sqlite3.connect(path).execute("SELECT count(*) FROM requests WHERE state = 'done'").fetchone()
        print(f"recorded  {rows} rows in {wall:.1f} s: {rows / wall:,.0f} rows/s, {cpu / rows * 1e6:.1f} us CPU a row")
        print(f"found     {found} of {given.requests} requests, {path.stat().st_size / rows:.0f} bytes a row")
        now_us = time.time_ns() // 1000
        for name, text in (("newest", ""), ("denied", "verdict:deny"), ("since 1 s", "since:1s")):
            wanted = parse_filter(text, now_us)
            print(f"read      50 rows, {name}: {read(path, wanted) * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
