"""The identity endpoints in a real `egress run`: in every worker, in the mitm process, and in the audit."""

from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING

import pytest
from rig.identities import EMAIL, VALUES, policy
from rig.ledger import wait_until
from rig.wire import Wire

if TYPE_CHECKING:
    from station import Station

FLAVOR = "Metadata-Flavor: Google"
TOKEN = "/computeMetadata/v1/instance/service-accounts/default/token"
ROWS = "select reason, verdict, count(*) from decisions where host is not null group by 1, 2"


@pytest.fixture
def answering(station: Station) -> Station:
    """A station whose configuration has the endpoints, at a free port."""
    station.policy.write_text(policy(station.port))
    google = f"google: {{secret: cloud, email: {EMAIL}}}"
    station.config.write_text(f"limits: {{drain_seconds: 3}}\nidentity: {{listen: '127.0.0.1:0', {google}}}\n")
    return station


def ask(address: tuple[str, int], target: str, host: str) -> str:
    """The token that is given at this address."""
    with Wire(socket.create_connection(address, timeout=10)) as wire:
        reply = wire.send(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{FLAVOR}\r\n\r\n".encode()).reply()
    assert reply.status == 200, reply
    return str(json.loads(reply.body)["access_token"])


def test_every_process_gives_the_same_placeholder(answering: Station) -> None:
    """At the listener and through the proxy, whichever worker has the connection; each time there is a row."""
    with answering.running("--workers", "2", env=VALUES) as process:
        found = re.search(r"^identity +http://127\.0\.0\.1:(\d+)$", process.printed, re.MULTILINE)
        assert found is not None, process.printed
        port = int(found[1])
        tokens = {ask(("127.0.0.1", port), TOKEN, f"127.0.0.1:{port}") for _ in range(8)}
        host = "metadata.google.internal"
        tokens |= {ask(answering.address, f"http://{host}{TOKEN}", host) for _ in range(8)}
        (token,) = tokens
        assert token.startswith("egress")
        wait_until(lambda: answering.table(ROWS) == [("identity-placeholder", "allow", 16)], "a row for each")


def test_the_mitm_process_answers_as_well(answering: Station) -> None:
    """What one lane answers, the other does not pass on."""
    with answering.running("--lane", "mitm", "--mitm", "warm", env=VALUES):
        host = "metadata.google.internal"
        assert ask(answering.address, f"http://{host}{TOKEN}", host).startswith("egress")


def test_a_port_that_is_taken_is_said_by_its_key(answering: Station) -> None:
    """Before anything listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answering.config.write_text(answering.config.read_text().replace(":0'", f":{port}'"))
        status, printed = answering.refused()
    assert status == 1
    assert f"cannot listen on 127.0.0.1:{port}" in printed
    assert "`identity: listen`" in printed
