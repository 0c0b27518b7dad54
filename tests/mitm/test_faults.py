"""The fault matrix: whatever raises or hangs, in whatever mode, the origin is sent nothing and no secret comes out."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from rig.faults import Fault, break_hook, fail, hang
from rig.modes import HOOKS, HOST, SENT, Mode, Site, make_site
from rig.proxy import SECRET
from rig.wire import head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.origins import Origins
    from rig.proxy import Proxy

    from egress.gate.gate import Asked, Gate

HOOK_CASES = [
    pytest.param(mode, hook, fault, id=f"{mode}-{hook}-{fault}")
    for mode in Mode
    for hook in (*dict.fromkeys(HOOKS[mode]), "client_disconnected", "server_disconnected")
    for fault in Fault
]
INSPECTED = (Mode.PLAIN, Mode.TLS1, Mode.TLS2)


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Iterator[Site]:
    """A proxy and its origin; afterwards nobody may have been told the secret but the origin."""
    return make_site(start, origin)


@pytest.mark.parametrize(("mode", "hook", "fault"), HOOK_CASES)
def test_fail_closed(mode: Mode, hook: str, fault: Fault, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """A hook that raises or hangs before the request leaves: the origin sees no byte of it. Later: no secret leaks."""
    struck = break_hook(site.proxy.lane, hook, fault)
    with site.serving(mode):
        reply = site.exchange(mode)
        site.proxy.until(lambda: bool(struck), f"hook {hook}")
        site.proxy.until(lambda: not site.proxy.gate.open, "the end of what was admitted")
    assert SECRET.encode() not in reply.whole
    if hook not in SENT:
        assert reply.status != 200
        assert site.received == b""
    # Raw TCP is admitted at CONNECT and dialled at once, beside the hook that only tells of it.
    if hook in HOOKS[mode][: HOOKS[mode].index("server_connected")] and (mode, hook) != (Mode.TCP, "http_connected"):
        assert site.origin.connections == []
    decisions = site.proxy.ledger.decisions
    for decision in decisions:
        if decision.verdict == "allow":
            site.proxy.ledger.outcome(decision)
    if hook != "client_connected":
        assert decisions, "no row"
    assert "was never retrieved" not in caplog.text


@pytest.mark.parametrize(("mode", "hook"), [(mode, hook) for mode in Mode for hook in dict.fromkeys(HOOKS[mode])])
def test_a_hook_that_fails_after_its_work_refuses_all_the_same(mode: Mode, hook: str, site: Site) -> None:
    """The work of a hook does not count before the hook has ended: what it allowed is taken back."""
    struck = break_hook(site.proxy.lane, hook, Fault.RAISE, after=True)
    with site.serving(mode):
        reply = site.exchange(mode)
        site.proxy.until(lambda: bool(struck), f"hook {hook}")
        site.proxy.until(lambda: not site.proxy.gate.open, "the end of what was admitted")
    assert SECRET.encode() not in reply.whole
    if hook not in SENT:
        assert reply.status != 200
        assert site.received == b""


@pytest.mark.parametrize("mode", Mode)
def test_no_lane_in_charge_denies_everything(mode: Mode, site: Site) -> None:
    """With the lane taken away (a script that was removed), the handler forwards nothing and dials nothing."""
    from egress.mitm import attachment

    attachment.detach(site.proxy.lane)
    with site.serving(mode):
        assert site.exchange(mode).status == 0
    assert site.origin.connections == []


@pytest.mark.parametrize("mode", Mode)
def test_a_lane_that_is_taken_away_halfway_denies_the_rest(mode: Mode, site: Site) -> None:
    """Nothing is sent on a connection whose lane was detached after the request was admitted."""
    from egress.mitm import attachment

    run = site.proxy.lane.run

    async def detach_at_dial(handler: object, hook: object, data: object) -> None:
        if hook.name == "server_connect":  # type: ignore[attr-defined]
            attachment.detach(site.proxy.lane)
        await run(handler, hook, data)  # type: ignore[arg-type]

    site.proxy.lane.run = detach_at_dial  # type: ignore[method-assign]
    with site.serving(mode):
        assert site.exchange(mode).status != 200
    assert site.received == b""


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("hook", ["error", "server_connect_error", "egress_head_refused", "tls_failed_client"])
def test_fail_closed_in_the_hooks_of_failures(site: Site, hook: str, fault: Fault) -> None:
    """A hook that fails while a failure is told: the client gets no answer of another's, and the row has its end."""
    struck = break_hook(site.proxy.lane, hook, fault)
    if hook == "egress_head_refused":
        with site.proxy.connect() as wire:
            assert wire.send(b"no request\r\n\r\n").reply().status == 0
    elif hook == "tls_failed_client":
        wire, _ = site.proxy.tunnel(HOST, site.port)
        with pytest.raises(OSError, match=r"."):
            site.proxy.secure(wire, HOST, ca=site.origin._authority.ca_file.read_bytes())
    else:
        site.origin.close()
        assert site.exchange(Mode.PLAIN).status in {0, 500, 502}
    site.proxy.until(lambda: bool(struck), hook)
    site.proxy.until(lambda: not site.proxy.gate.open, "the end of what was admitted")
    assert site.received == b""
    site.proxy.until(lambda: not site.proxy.lane.connections, "the end of the connection")


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("hook", ["tls_clienthello", "requestheaders", "egress_upstream_ready", "responseheaders"])
def test_fail_closed_where_a_failure_cannot_be_handled(site: Site, hook: str, fault: Fault) -> None:
    """The handling of a hook's failure fails too: the connection ends, and what waited for the hook never goes on."""
    struck = break_hook(site.proxy.lane, hook, fault)
    site.proxy.lane.hook_failed = fail  # type: ignore[method-assign]
    started = time.monotonic()
    with site.serving(Mode.TLS1):
        reply = site.exchange(Mode.TLS1)
    assert time.monotonic() - started < 8, "it was the client who ended it"
    assert struck
    assert reply.status == 0
    if hook != "responseheaders":
        assert site.received == b""
    site.proxy.until(lambda: not site.proxy.lane.connections, "the end of the connection")
    site.proxy.until(lambda: not site.proxy.gate.open, "the end of what was admitted")


def test_a_hook_that_hangs_costs_its_own_request_only(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one HTTP/2 connection: the others are answered meanwhile and after, since its time limit is its own."""
    admit = type(site.proxy.gate).admit_head

    async def hang_for_one(gate: Gate, asked: Asked) -> object:
        if asked.request.path == "/slow":
            await hang()
        return await admit(gate, asked)

    monkeypatch.setattr(type(site.proxy.gate), "admit_head", hang_for_one)
    site.proxy.lane.hook_seconds = 0.5
    with site.serving(Mode.TLS2), site.proxy.http2(HOST, site.port) as client:
        name = f"{HOST}:{site.port}"
        slow = client.request(head(name, "/slow"))
        assert client.reply(client.request(head(name, "/first"))).status == 200
        assert client.reply(slow).reason == "internal-error"
        assert client.reply(client.request(head(name, "/then"))).status == 200
    assert b"/slow" not in site.received


def test_what_is_told_to_one_peer_at_once_leaves_in_one_piece(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head of an answer and its body are one call of the system."""
    sent: list[bytes] = []
    write = asyncio.StreamWriter.write

    def recorded(writer: asyncio.StreamWriter, data: bytes) -> None:
        sent.append(data)
        write(writer, data)

    monkeypatch.setattr(asyncio.StreamWriter, "write", recorded)
    with site.serving(Mode.PLAIN):
        assert site.exchange(Mode.PLAIN).status == 200
    assert len(sent) == 2
    assert sent[1].startswith(b"HTTP/1.1 200")
    assert sent[1].endswith(b"\r\n\r\nok allowed")


def test_the_proxy_serves_on_after_a_fault(site: Site) -> None:
    """A fault costs its own connection only."""
    run = site.proxy.lane.run
    break_hook(site.proxy.lane, "requestheaders", Fault.RAISE)
    assert site.exchange(Mode.PLAIN).reason == "internal-error"
    site.proxy.lane.run = run  # type: ignore[method-assign]
    assert site.exchange(Mode.PLAIN).status == 200
