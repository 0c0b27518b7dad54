"""The leak test against `egress run` as a process: what it printed, kept, and shows of itself holds no value.

The variables that it was started with are the one exception, which docs/guides/credentials.md states: the kernel keeps
showing them to root.
"""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from rig.canaries import PROMISED, Form, found, found_below
from rig.echoing import echoing
from rig.ledger import wait_until
from rig.modes import HOST
from rig.planted import CANARIES, KEY, KEY_VARIABLE, SERVICES, USES, plant
from rig.process import Process
from rig.wire import Wire, trusting
from station import LISTENS, family

if TYPE_CHECKING:
    from rig.planted import Planted, Use
    from station import Station

PINS = ("--resolve", f"{SERVICES}:127.0.0.1")


def _ask(station: Station, use: Use) -> bytes:
    """Every byte that comes back for a request inside TLS."""
    ca = (station.state / "ca" / "ca.pem").read_bytes()
    rows = [f"{'GET' if use.body is None else 'POST'} {use.path} HTTP/1.1", f"Host: {HOST}:{station.port}"]
    framing = () if use.body is None else (f"Content-Length: {len(use.body)}",)
    asked = "\r\n".join([*rows, *use.fields, *framing, "Connection: close", "", ""]).encode() + (use.body or b"")
    with station.tunnel(HOST) as wire:
        secured = trusting(ca, ("http/1.1",)).wrap_socket(wire.carrier, server_hostname=HOST)
        with Wire(secured) as inside:
            return inside.send(asked).rest()


def _shown(process: Process) -> bytes:
    """The command lines of the proxy and of its children."""
    parts = []
    for pid in (process.popen.pid, *family(process).values()):
        with contextlib.suppress(OSError):
            parts.append(Path(f"/proc/{pid}/cmdline").read_bytes())
    return b"\n".join(parts)


def _start(station: Station, planted: Planted) -> dict[str, str]:
    station.policy.write_text(planted.policy(station.port))
    station.state.mkdir(mode=0o700)
    planted.plant_store(station.port, station.state)
    (station.folder / "tmp").mkdir()
    return {**planted.env, KEY_VARIABLE: KEY.text(), "TMPDIR": str(station.folder / "tmp")}


def test_secret_confinement_in_a_running_proxy(station: Station) -> None:
    """Every value goes up once asked for; none is in a file, a database, a log, a command line or an answer."""
    with contextlib.ExitStack() as stack:
        planted = plant(station.folder / "planted", station.roots, stack)
        env = _start(station, planted)
        stack.enter_context(station.origin.behaving(echoing(size=300)))
        process = stack.enter_context(station.running("--verbose", *PINS, env=env))
        answers = [_ask(station, use) for use in USES.values()]
        shown = _shown(process)
        process.tell(signal.SIGHUP)
        process.says("reload")
        answers += [_ask(station, use) for use in USES.values()]
        live = found_below(station.folder, CANARIES, but=[planted.folder])
        process.tell(signal.SIGTERM)
        assert process.ended() == 0
        printed = process.printed
    assert all(b"HTTP/1.1 200" in answer for answer in answers), answers
    received = b"".join(bytes(each.received) for each in station.origin.connections)
    sent = {name: CANARIES[name] for use in USES.values() for name in use.names if name != "file"}
    assert {what.split("`")[1] for what in found(received, sent)} == set(sent)
    assert found(printed.encode() + shown, CANARIES) == []
    assert [what for answer in answers for what in found(answer, CANARIES, PROMISED | {Form.HALF})] == []
    assert live == []
    assert found_below(station.folder, CANARIES, but=[planted.folder]) == []


def test_a_program_that_is_started_is_shown_no_value(station: Station) -> None:
    """Neither its environment nor its arguments hold one of ours."""
    with contextlib.ExitStack() as stack:
        planted = plant(station.folder / "planted", station.roots, stack)
        env = _start(station, planted)
        look = "cat /proc/$$/environ /proc/$$/cmdline > {0}/new; mv {0}/new {0}/shown"
        planted.program(CANARIES["command"], more=look.format(station.folder))
        stack.enter_context(station.running(*PINS, env=env))
        seen = station.folder / "shown"
        wait_until(seen.exists, "the program")
        assert b"PATH=" in seen.read_bytes()
        assert found(seen.read_bytes(), CANARIES) == []


def test_what_a_process_leaks_is_found(station: Station) -> None:
    """The search sees: a program that prints a value, and leaves it in a file."""
    command = [
        "sh",
        "-c",
        f"echo {CANARIES['vault']}; echo {CANARIES['vault']} > left; echo 'listening on http://1.1:1'",
    ]
    with Process(command, env={}, cwd=station.folder, listens=LISTENS) as process:
        process.ended()
        assert "`vault` as plain" in found(process.printed.encode(), CANARIES)
    assert [leak for leak in found_below(station.folder, CANARIES) if leak.startswith("left: `vault` as plain")]
