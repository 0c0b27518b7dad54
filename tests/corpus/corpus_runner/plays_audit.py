"""The audit as a target: what the wire writes into it comes out harmless, and once."""

from __future__ import annotations

import csv
import json
import re
import threading
import time
from typing import TYPE_CHECKING

from harness.proxy import COMMAND

from corpus_runner.evidence import audit_bytes, judge
from corpus_runner.policies import ENVIRONMENT, HOST, INJECT
from corpus_runner.scripts import script
from corpus_runner.wire import ask, get, observe

if TYPE_CHECKING:
    import subprocess

    from harness.attacker import Attacker
    from harness.proxy import ProxyProcess
    from harness.world import World

    from corpus_runner.cases import Case

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def shown(world: World, proxy: ProxyProcess, *words: str) -> str:
    """What `egress audit` prints of the proxy's database."""
    done = told(world, proxy, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def told(world: World, proxy: ProxyProcess, *words: str) -> subprocess.CompletedProcess[str]:
    """`egress audit` with words that come first, about the proxy's database."""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(world.folder), "LANG": "C.UTF-8", "COLUMNS": "300", "NO_COLOR": "1"}
    return world.namespace.run([str(COMMAND), "audit", *words, "--state-dir", str(proxy.state)], env=env)


@script("AUDITLOG-003")
def control_characters(world: World, case: Case) -> None:
    """C0, C1, ANSI and bidi characters of the wire are not in what the viewer prints, nor in the log."""
    proxy = world.proxy(HOST, ENVIRONMENT)
    nasty = "\x1b[2J\x9b31m\u202eabc"

    def act(client: Attacker) -> None:
        bad = nasty.encode()
        client.send(
            b"GET http://evil.test/" + bad + b" HTTP/1.1\r\nHost: evil.test\r\nUser-Agent: " + bad + b"\r\n\r\n"
        )
        client.response()

    judge(case, observe(world, proxy, act), ["audit_row(*)", "no_canary(audit)"])
    coded = "%1b[2J%c2%9b31m%7f"
    judge(
        case,
        observe(world, proxy, lambda client: get(client, f"http://evil.test/{coded}", "evil.test")),
        ["audit_row(*)"],
    )
    for words in ((), ("--json",)):
        assert not CONTROL.search(shown(world, proxy, "--limit", "1000", *words))
    assert not CONTROL.search(proxy.log)


@script("AUDITLOG-007")
def wildcards_in_a_filter(world: World, case: Case) -> None:
    """A filter's value is a value: `%` and `_` of SQL match nothing but themselves."""
    proxy = world.proxy(HOST, ENVIRONMENT)
    judge(
        case, observe(world, proxy, lambda client: get(client, "http://evil.test/", "evil.test")), ["audit_row(deny)"]
    )
    for value in ("%", "evil_test", "' OR 1=1 --"):
        assert not shown(world, proxy, "--json", "--host", value).strip()
    rows = shown(world, proxy, "--json", "--host", "evil.test").splitlines()
    assert {json.loads(row)["host"] for row in rows} == {"evil.test"}


@script("AUDITLOG-008")
def columns_by_name(world: World, case: Case) -> None:
    """No word of the command line gets into SQL as a name: a filter's field is one of a list, and SQL only reads."""
    proxy = world.proxy(HOST, ENVIRONMENT)
    judge(
        case, observe(world, proxy, lambda client: get(client, "http://evil.test/", "evil.test")), ["audit_row(deny)"]
    )
    before = len(proxy.rows(""))
    for words in (
        ("--filter", "seq;DROP TABLE decisions:1"),
        ("--order", "seq; DROP TABLE decisions"),
        ("sql", "SELECT 1; DROP TABLE decisions"),
        ("sql", "DELETE FROM decisions"),
        ("sql", "SELECT load_extension('/tmp/x')"),
    ):
        assert told(world, proxy, *words).returncode != 0, words
    assert len(proxy.rows("")) == before


@script("AUDITLOG-009")
def formulas(world: World, case: Case) -> None:
    """What a spreadsheet would run is text in the CSV: the method is the client's, letter by letter."""
    proxy = world.proxy(HOST, ENVIRONMENT)

    def act(client: Attacker) -> None:
        client.send(b"+cmd|' http://evil.test/=cmd|'/C%20calc'!A0 HTTP/1.1\r\nHost: evil.test\r\n\r\n")
        client.response()

    judge(case, observe(world, proxy, act), ["audit_row(deny)", "no_canary(audit)"])
    table = list(csv.reader(shown(world, proxy, "export", "--format", "csv").splitlines()))
    assert any("'+cmd|'" in row for row in table)
    assert not [cell for row in table[1:] for cell in row if cell.startswith(("=", "+", "-", "@"))]


@script("AUDITLOG-010")
def markup(world: World, case: Case) -> None:
    """A report for a page that renders HTML has no element that the wire wrote."""
    proxy = world.proxy(HOST, ENVIRONMENT)

    def act(client: Attacker) -> None:
        script = b"%3Cscript%3Ealert(1)%3C/script%3E<script>alert(1)</script>"
        client.send(b"GET http://evil.test/" + script + b" HTTP/1.1\r\nHost: evil.test\r\n\r\n")
        client.response()

    judge(case, observe(world, proxy, act), ["audit_row(deny)", "no_canary(audit)"])
    assert "<script" not in shown(world, proxy, "summary", "--format", "markdown")


@script("AUDITLOG-011")
def header_values(world: World, case: Case) -> None:
    """What the client sends in headers is in no row, and query values are masked."""
    proxy = world.proxy(HOST, ENVIRONMENT)
    act = lambda client: ask(client, "/x?token=query-value-7731", more=b"Authorization: Bearer header-value-7731\r\n")  # noqa: E731 -- one expression
    evidence = observe(world, proxy, act, "allow")
    judge(case, evidence, ["audit_row(*)", "reaches(allowed)", "no_canary(audit)"])
    data = audit_bytes(proxy)
    assert b"header-value-7731" not in data
    assert b"query-value-7731" not in data
    assert "token" in str(evidence.rows[0]["query"])


@script("AUDITLOG-016")
def unreadable_request(world: World, case: Case) -> None:
    """What cannot even be read as a request leaves a row too."""
    proxy = world.proxy(HOST, ENVIRONMENT)
    for data in (b"\r\n\r\n\r\n", b"GET\r\n\r\n", b"\x00\x01\x02\x03\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):

        def act(client: Attacker, data: bytes = data) -> None:
            client.send(data)
            client.response()

        judge(case, observe(world, proxy, act), ["audit_row(deny)"])


@script("AUDITLOG-018")
def two_writers(world: World, case: Case) -> None:
    """Two proxies on one database lose no row; or the second does not start."""
    shared = world.fresh_folder()
    shared.chmod(0o700)
    extra = ("--audit", str(shared / "audit.db"))
    first, second = (world.start(INJECT, env=ENVIRONMENT, extra=extra) for _ in range(2))
    assert first.address
    assert second.address

    def work(proxy: ProxyProcess) -> None:
        for _ in range(25):
            with world.attacker(proxy, "10.78.0.1") as client:
                get(client, "http://evil.test/", "evil.test")

    threads = [threading.Thread(target=work, args=(proxy,)) for proxy in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first.close()
    second.close()
    first.state = shared
    rows = first.rows("10.78.0.1")
    first.stop()
    assert len(rows) == len({row["id"] for row in rows}) == 50
    assert case.expected == "deny"


@script("AUDITLOG-019")
def times(world: World, case: Case) -> None:
    """Rows bear the time in UTC, in the order of their numbers."""
    proxy = world.proxy(HOST, ENVIRONMENT)
    before = time.time_ns() // 1000
    rows = [observe(world, proxy, ask, "allow").rows[0] for _ in range(3)]
    after = time.time_ns() // 1000
    stamps = [int(str(row["time_us"])) for row in rows]
    assert before <= stamps[0] <= stamps[1] <= stamps[2] <= after
    assert [row["seq"] for row in rows] == sorted(int(str(row["seq"])) for row in rows)
    assert case.expected == "allow"
