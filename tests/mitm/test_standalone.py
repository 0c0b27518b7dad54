"""`mitmdump -s egress/mitm/addon.py`: the same decisions with nothing of ours in front, and never an open proxy."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness.origins import answer_ok
from rig.modes import HOST, TUNNELLED, policy
from rig.process import BIN, Process
from rig.proxy import SECRET, port_of
from rig.wire import Reply, Wire, trusting

import egress.mitm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.authority import TestAuthority
    from harness.origins import Origins

ADDON = Path(egress.mitm.__file__).with_name("addon.py")

# Another script, of a user's: it changes an option when a file says so.
MEDDLER = """
import asyncio, pathlib
from mitmproxy import ctx

async def watch():
    while True:
        await asyncio.sleep(0.05)
        order = pathlib.Path({order!r})
        if order.exists():
            name, value = order.read_text().split("=")
            ctx.options.update(**{{name: value == "true" if value in ("true", "false") else value}})
            order.unlink()

class Meddler:
    def running(self):
        self.task = asyncio.ensure_future(watch())

addons = [Meddler()]
"""


class Station:
    """A folder with a policy, a configuration and a copy of the script; and a mitmdump that runs it."""

    def __init__(self, folder: Path, origin: Origins, roots: TestAuthority) -> None:
        self.folder, self.origin, self.port = folder, origin, port_of(origin)
        self.script = folder / "script.py"
        shutil.copy(ADDON, self.script)
        self.policy = folder / "policy.yaml"
        self.policy.write_text(policy(self.port))
        self.order = folder / "order"
        (folder / "meddler.py").write_text(MEDDLER.format(order=str(self.order)))
        names = f"{{{HOST}: 127.0.0.1, {TUNNELLED}: 127.0.0.1}}"
        (folder / "egress.yaml").write_text(
            f"state_dir: state\nresolve: {names}\nupstream: {{ca: ['{roots.ca_file}']}}\nlimits: {{head_seconds: 5}}\n"
        )
        self.address = ("", 0)

    @contextmanager
    def running(self, *more: str, policy_named: bool = True, listens: bool = True) -> Iterator[Process]:
        """Mitmdump with the script, and another one of a user's."""
        command = [
            str(BIN / "mitmdump"),
            *("-s", str(self.folder / "meddler.py"), "-s", str(self.script)),
            *("--listen-host", "127.0.0.1", "--listen-port", "0"),
            *("--set", f"confdir={self.folder / 'mitmproxy'}"),
            *("--set", f"egress_config={self.folder / 'egress.yaml'}"),
            *(("--set", f"egress_policy={self.policy}") if policy_named else ()),
            *more,
        ]
        env = {"CANARY": SECRET}
        with Process(command, env=env, cwd=self.folder, listens=r"listening at (?:http://)?([\d.]+):(\d+)") as process:
            if listens:
                self.address = process.address()
                process.says("egress is in charge|egress denies everything")
            yield process

    def wire(self) -> Wire:
        """A connection."""
        return Wire(socket.create_connection(self.address, timeout=10))

    def ask(self, host: str = HOST) -> Reply:
        """A plain request; status 0 if the proxy hangs up or is not there."""
        try:
            with self.wire() as wire:
                wire.send(f"GET http://{host}:{self.port}/ HTTP/1.1\r\nHost: {host}:{self.port}\r\n\r\n".encode())
                return wire.reply()
        except OSError:
            return Reply(0)

    def ask_tls(self, host: str, ca: Path) -> Reply:
        """The same through CONNECT."""
        with self.wire() as wire:
            wire.send(f"CONNECT {host}:{self.port} HTTP/1.1\r\nHost: {host}:{self.port}\r\n\r\n".encode())
            reply = wire.reply("CONNECT")
            if reply.status != 200:
                return reply
            context = trusting(ca.read_bytes(), ("http/1.1",))
            with Wire(context.wrap_socket(wire.carrier, server_hostname=host)) as inside:
                inside.send(f"GET / HTTP/1.1\r\nHost: {host}:{self.port}\r\n\r\n".encode())
                return inside.reply()

    def denies_everything(self) -> None:
        """No way through: plain, in a tunnel, as raw bytes."""
        before = len(self.origin.connections)
        assert self.ask().status != 200
        for target in (f"{HOST}:{self.port}", f"127.0.0.1:{self.port}"):
            try:
                with self.wire() as wire:
                    wire.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
                    if wire.reply("CONNECT").status == 200:
                        wire.send(b"raw bytes\r\n\r\n").rest()
            except OSError:
                pass
        assert len(self.origin.connections) == before

    def until_denied(self, patience: float = 8.0) -> None:
        """Wait until a reload has been seen: the script loader looks once a second."""
        deadline = time.monotonic() + patience
        while self.ask().status == 200:
            assert time.monotonic() < deadline, "it goes on serving"
            time.sleep(0.1)


@pytest.fixture
def station(tmp_path: Path, origin: Origins, roots: TestAuthority) -> Iterator[Station]:
    """A station whose origin answers."""
    with origin.behaving(answer_ok):
        yield Station(tmp_path, origin, roots)


def test_the_script_decides_as_the_embedded_lane_does(station: Station, roots: TestAuthority) -> None:
    """Plain, inspected with the secret, tunnelled, denied: each as the policy says, each with a row."""
    with station.running() as process:
        ours = station.folder / "state" / "ca" / "ca.pem"
        assert station.ask().status == 200
        assert station.ask_tls(HOST, ours).status == 200
        assert station.ask_tls(TUNNELLED, roots.ca_file).status == 200
        assert station.ask("evil.test").reason == "host-not-allowed"
        assert station.ask_tls("evil.test", ours).reason == "host-not-allowed"
        process.tell(signal.SIGTERM)
        process.ended()
        assert SECRET not in process.printed
    assert b"".join(bytes(one.received) for one in station.origin.connections).count(SECRET.encode()) == 1
    with sqlite3.connect(station.folder / "state" / "audit.db") as database:
        rows = database.execute("SELECT verdict, host, status FROM requests ORDER BY seq").fetchall()
    database.close()
    assert rows[:2] == [("allow", HOST, 200), ("allow", HOST, 200)]
    assert [row[0] for row in rows] == ["allow", "allow", "allow", "deny", "deny"]


@pytest.mark.parametrize("damage", ["syntax", "empty", "deleted", "raises"])
def test_a_script_that_breaks_or_goes_away_denies_everything(station: Station, damage: str) -> None:
    """Mitmdump loads a changed script anew: whatever stands in it then, nothing passes without a lane."""
    with station.running():
        assert station.ask().status == 200
        text = station.script.read_text()
        match damage:
            case "syntax":
                station.script.write_text(text + "\ndef broken(:\n")
            case "empty":
                station.script.write_text("")
            case "deleted":
                station.script.unlink()
            case _:
                station.script.write_text(text.replace("        self._start()", "        raise RuntimeError"))
        later = time.time() + 5
        if station.script.exists():
            os.utime(station.script, (later, later))
        station.until_denied()
        station.denies_everything()


def test_a_script_that_is_loaded_anew_serves_on(station: Station) -> None:
    """A reload that works puts a lane in charge again."""
    with station.running() as process:
        assert station.ask().status == 200
        count = process.printed.count("egress is in charge")
        station.script.write_text(station.script.read_text() + "\n# touched\n")
        later = time.time() + 5
        os.utime(station.script, (later, later))
        deadline = time.monotonic() + 8
        while process.printed.count("egress is in charge") == count:
            assert time.monotonic() < deadline, process.printed
            time.sleep(0.05)
        assert station.ask().status == 200
        assert station.ask("evil.test").reason == "host-not-allowed"


@pytest.mark.parametrize("order", ["rawtcp=true", "connection_strategy=eager"])
def test_an_unsafe_option_at_run_time_denies_everything(station: Station, order: str) -> None:
    """Changed under our feet by a user's script: from then on nothing passes."""
    with station.running() as process:
        assert station.ask().status == 200
        station.order.with_suffix(".new").write_text(order)
        station.order.with_suffix(".new").rename(station.order)
        process.says("egress denies everything")
        station.denies_everything()


@pytest.mark.parametrize("defect", ["missing", "none", "broken"])
def test_a_policy_that_does_not_load_serves_nothing(station: Station, defect: str) -> None:
    """Whether mitmdump ends or stays, the origin is never reached, and the reason is told."""
    if defect == "missing":
        station.policy.unlink()
    elif defect == "broken":
        station.policy.write_text("version: 1\nrules: [{alow: ok.test}]\n")
    with station.running(policy_named=defect != "none", listens=False) as process:
        process.says("egress denies everything")
        process.ended() if process.popen.poll() is not None else time.sleep(0.3)
        assert station.origin.connections == []
        if process.popen.poll() is None:
            station.address = process.address()
            station.denies_everything()


@pytest.mark.parametrize("option", ["rawtcp=true", "ignore_hosts=.*"])
def test_an_unsafe_option_at_start_is_set_right_or_refused(station: Station, option: str) -> None:
    """Given on the command line: either the safe value wins, or nothing is served."""
    with station.running("--set", option, listens=False) as process:
        process.says("egress is in charge|egress denies everything")
        station.address = process.address()
        if "egress denies everything" in process.printed:
            station.denies_everything()
        else:
            assert station.ask("evil.test").status == 403
            with station.wire() as wire:
                name = f"{HOST}:{station.port}"
                wire.send(f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
                assert wire.reply("CONNECT").status == 200
                wire.send(b"raw bytes\r\n\r\n").rest()
            assert station.origin.connections == []
