"""Conditions and modes of the policy language through the real proxy, in each lane alike."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.attacker import Attacker
    from harness.origins import Stream
    from harness.proxy import ProxyProcess, Row
    from harness.world import World

EXPIRES_SECONDS = 2.0


@pytest.fixture(params=["", "mitm"], ids=["least", "mitm"])
def laned(request: pytest.FixtureRequest, world: World) -> Iterator[World]:
    """The world, with one lane or the other."""
    with world.carried_by(request.param):
        yield world


def ask(client: Attacker, target: str, more: str = "", host: str = "allowed.test") -> int:
    """One GET inside an inspected tunnel, or its CONNECT's refusal; the final status, 0 where it got no answer."""
    if not client.connect(f"{host}:443"):
        return client.answers.connect_status or 0
    if not client.handshake(host):
        return 0
    client.send(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode())
    client.response()
    return (client.answers.statuses or [0])[-1]


def asked(
    world: World, proxy: ProxyProcess, target: str, more: str = "", host: str = "allowed.test"
) -> tuple[int, Row]:
    """One request from an address of its own: its status, and the row of it."""
    source = world.fresh_client()
    with world.attacker(proxy, source) as client:
        status = ask(client, target, more, host)
    return status, proxy.wait_rows(source, bool)[-1]


CONDITIONED = """\
version: 1
rules:
  - name: open issues
    allow: allowed.test
    paths: [/Issues]
    ignore_case: true
    query: [state=op*]
    headers: [x-client=agent]
    annotate: {ticket: OPS-1}
"""


def test_query_headers_and_case_decide(laned: World) -> None:
    """Each that fails has its reason; what passes has the label in its row."""
    proxy = laned.proxy(CONDITIONED)
    agent = "X-Client: agent\r\n"
    for target, more, status, reason in (
        ("/issues?state=open", agent, 200, "rule-allow"),
        ("/ISSUES?x=1&state=op%65n", agent, 200, "rule-allow"),
        ("/issues?state=closed", agent, 403, "query-not-allowed"),
        ("/issues?state=open&state=closed", agent, 403, "query-not-allowed"),
        ("/issues?state=open", "", 403, "header-not-allowed"),
        ("/issues?state=open", agent + agent, 403, "header-not-allowed"),
        ("/other?state=open", agent, 403, "path-not-allowed"),
    ):
        got, row = asked(laned, proxy, target, more)
        assert (got, row["reason"]) == (status, reason), target
        assert row["labels"] == ('{"ticket": "OPS-1"}' if status == 200 else None)


REPORTING = """\
version: 1
mode: report
rules:
  - deny: evil.test
  - name: quiet
    allow: allowed.test
"""


def test_report_lets_pass_and_says_so(laned: World) -> None:
    """What the policy refuses arrives, recorded as what would be denied; a private address stays refused."""
    proxy = laned.proxy(REPORTING)
    assert proxy.address
    assert "REPORT MODE" in proxy.out
    with laned.names.answering("inside.test", ["A 10.1.2.3"]):
        for host, status, verdict, reason in (
            ("allowed.test", 200, "allow", "rule-allow"),
            ("evil.test", 200, "allow", "would-deny"),
            ("other.allowed.test", 200, "allow", "would-deny"),
            ("inside.test", 403, "deny", "address-not-public"),
        ):
            got, row = asked(laned, proxy, "/x", host=host)
            assert (got, row["verdict"], row["reason"]) == (status, verdict, reason), host


def test_what_an_expired_rule_let_pass_is_closed(laned: World) -> None:
    """A download under way ends at the rule's moment, and its row says why; then the host is denied."""

    def expiring(until: datetime) -> str:
        return f"version: 1\nrules:\n  - allow: allowed.test\n    paths: [/x]\n    until: {until.isoformat()}\n"

    def trickle(stream: Stream) -> None:
        stream.request()
        stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            stream.send(b"x")
            time.sleep(0.05)

    proxy = laned.start(expiring(datetime.now(UTC) + timedelta(days=1)))
    source = laned.fresh_client()
    with laned.origins.behaving(trickle), laned.attacker(proxy, source) as client:
        assert client.connect("allowed.test:443")
        assert client.handshake("allowed.test")
        client.send(b"GET /x HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
        assert client.receive(5.0)
        until = datetime.now(UTC) + timedelta(seconds=EXPIRES_SECONDS)
        proxy.policy_file.write_text(expiring(until))
        proxy.process.send_signal(signal.SIGHUP)
        while client.receive(5.0):
            pass
        assert client.answers.ended
        assert b"200 OK" in client.answers.inside
    (row,) = proxy.wait_rows(source, lambda rows: bool(rows) and rows[0]["state"] == "done")
    assert str(row["error"]).startswith("rule-expired: "), proxy.log
    assert datetime.now(UTC) >= until
    assert asked(laned, proxy, "/x")[1]["reason"] == "rule-expired"
    proxy.close()
