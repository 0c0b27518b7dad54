"""Makes a database for the viewer's tests and pictures: the same rows each time, or as many plain ones as are wanted.

python tests/viewer/seed.py FILE [ROWS]
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from egress.audit import AuditWriter, DecisionEvent, OutcomeEvent

NOON_US = 1_768_478_400_000_000  # 2026-01-15T12:00:00Z
SECOND_US = 1_000_000
HOSTILE = "/\x1b[2J\x1b]0;owned\x07\u202egnp.\u200bexe\n\x9b31m\udc80\u05d0[red]x[/red]/e\u0301\u0301\u0301"
_RULE = {"verdict": "allow", "reason": "rule-allow", "scope": "org", "file": "/etc/egress/agent.yaml"}
_DENY = {"verdict": "deny", "scope": "org"}
_TRACE = (
    '{"says": [{"scope": "org", "verdict": "deny", "reason": "method-not-allowed", "rule": "our repos", '
    '"file": "/etc/egress/agent.yaml", "line": 12}, {"scope": "sandbox", "reason": "host-not-allowed"}]}'
)

# What a build and an agent ask for, in turns: the decision, and how it ended (None: it has not).
TRAFFIC: tuple[tuple[dict[str, object], dict[str, object] | None], ...] = (
    (
        {"host": "api.github.com", "method": "GET", "path": "/repos/acme/shop/pulls", "query": "state=***"}
        | {"secrets": ("github",), "rule": "our repos", "line": 12, "address": "192.0.2.10", **_RULE}
        | {"trace": '{"set": ["Authorization"], "removed": ["Cookie"]}'},
        {"status": 200, "bytes_up": 412, "bytes_down": 20_481, "duration_us": 81_000, "first_byte_us": 64_000},
    ),
    (
        {"host": "packages.example", "method": "GET", "path": "/simple/requests/", "line": 20, **_RULE}
        | {"sandbox": "ci", "address": "192.0.2.20"},
        {"status": 200, "bytes_up": 210, "bytes_down": 182_004, "duration_us": 45_000, "first_byte_us": 40_000},
    ),
    (
        {"host": "packages.example", "method": "GET", "path": "/simple/requests/", "line": 20, **_RULE}
        | {"sandbox": "ci", "address": "192.0.2.20"},
        {"status": 200, "bytes_up": 210, "bytes_down": 182_004, "duration_us": 47_000, "first_byte_us": 41_000},
    ),
    (
        {"host": "api.model.example", "method": "POST", "path": "/v1/messages", "secrets": ("model",)}
        | {"rule": "the model", "line": 31, "address": "192.0.2.30", **_RULE},
        {"status": 200, "bytes_up": 48_200, "bytes_down": 9_120, "duration_us": 6_204_000, "first_byte_us": 810_000},
    ),
    ({"host": "telemetry.example", "method": "CONNECT", "path": None, "reason": "host-not-allowed", **_DENY}, None),
    (
        {"host": "api.github.com", "method": "DELETE", "path": "/repos/acme/shop", "reason": "method-not-allowed"}
        | {"rule": "our repos", "file": "/etc/egress/agent.yaml", "line": 12, "trace": _TRACE, **_DENY},
        {"status": 403, "bytes_up": 96, "bytes_down": 640, "duration_us": 1_200},
    ),
    (
        {"host": "mirror.example", "method": "GET", "path": "/dist/archive.tar.gz", "line": 22, **_RULE}
        | {"sandbox": "ci", "address": "192.0.2.40"},
        {"status": 502, "duration_us": 5_000_000, "error": "upstream-unreachable: connection refused"},
    ),
    (
        {
            "host": "b\u00fccher.example",
            "method": "GET",
            "path": HOSTILE,
            "sandbox": "agent-\u202e2",
            "line": 40,
            **_RULE,
        },
        {"status": 404, "bytes_up": 310, "bytes_down": 1_020, "duration_us": 230_000},
    ),
    (
        {"host": "pay.example", "port": 8443, "method": "POST", "path": "/v2/charge", "verdict": "ask"}
        | {"reason": "approval-required", "scope": "org", "file": "/etc/egress/agent.yaml", "line": 51},
        {"status": 403, "bytes_up": 120, "bytes_down": 640, "duration_us": 900},
    ),
    ({"host": "events.example", "method": "GET", "path": "/stream", "scheme": "wss", "line": 33, **_RULE}, None),
)
_COMMON = {"sandbox": "agent", "client": "127.0.0.1:40000", "scheme": "https", "port": 443, "protocol": "https"}


def seed(path: Path, count: int = 240, *, first: int = 0) -> None:
    """`count` rows of the traffic above, one every seven seconds, the last at noon."""
    writer = AuditWriter(path, flush_interval=0.02)
    writer.start()
    for number in range(first, first + count):
        asked, ended = TRAFFIC[(number * 7 + number // 10) % len(TRAFFIC)]
        at = NOON_US - (count + first - 1 - number) * 7 * SECOND_US
        name = f"01k{number:023d}"
        values = {"id": name, "time_us": at, "lane": "http", "policy_hash": "3f2a9c", **_COMMON, **asked}
        assert writer.offer(DecisionEvent(**values))  # type: ignore[arg-type]
        if ended is not None:
            assert writer.offer(OutcomeEvent(id=name, time_us=at + 1_000, **ended))  # type: ignore[arg-type]
    assert writer.flush(30)
    writer.close(30)


def fill(path: Path, count: int) -> None:
    """`count` plain rows more, straight into the tables: a large database in seconds; its chain does not cover them."""
    columns = "id, time_us, sandbox, client, verdict, reason, scheme, host, port, method, path, secrets"
    with closing(sqlite3.connect(path)) as connection, connection:
        (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM decisions").fetchone()
        connection.execute(
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "  # noqa: S608 -- constants
            f"INSERT INTO decisions (seq, {columns}) SELECT ? + i, printf('02k%023d', ? + i), ? + i * 1000, 'bulk', "
            "'127.0.0.1:1', iif(i % 50, 'allow', 'deny'), iif(i % 50, 'rule-allow', 'host-not-allowed'), 'https', "
            "'h' || (i % 997) || '.example', 443, 'GET', '/p/' || i, '[]' FROM n",
            (count, last, last, NOON_US),
        )


if __name__ == "__main__":
    target = Path(sys.argv[1])
    seed(target)
    if len(sys.argv) > 2:
        fill(target, int(sys.argv[2]))
