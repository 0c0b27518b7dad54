"""One cell: a real run of a client, and what it came to by its own word and by the audit's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compat.columns import Column, Result, Road, Tls
from compat.shelf import HELLO
from compat.tools import KEPT, PATH, find

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compat.columns import Client
    from roads.network import Space

CELL_SECONDS = 60
_ROW_SECONDS = 5
_SANDBOX = {
    Road.EXPLICIT: {"by-http", "by-forward"},
    Road.SOCKS: {"by-socks"},
    Road.TRANSPARENT: {"redirected"},
}
_LANES = {Tls.INSPECTED: {"http", "mitm"}, Tls.TUNNELLED: {"tunnel"}}


@dataclass(frozen=True, slots=True)
class Seen:
    """What a cell came to, and what the client and the audit said of it."""

    result: Result
    told: str


@dataclass(frozen=True, slots=True)
class World:
    """A running one."""

    folder: Path
    bare: Space
    redirected: Space
    environments: Mapping[Road, Mapping[str, str]]

    def run(self, client: Client, column: Column) -> Seen:
        """One cell, by a real run of the client."""
        # Short: Chromium has a socket below it.
        work = self.folder / "work" / f"{client.slug}-{column.road[0]}{column.tls[0]}"
        work.mkdir(parents=True)
        env = {**self.environments[column.road], **self.variables(client, column, work)}
        space = self.redirected if column.road is Road.TRANSPARENT else self.bare
        status, said, complaint = _ended(space.command("sh", "-euc", client.sh), env, work)
        shutil.rmtree(work, ignore_errors=True)
        rows = self._rows(client.host(column), patience=_ROW_SECONDS if status == 0 else 0)
        told = f"exit status {status}\n{said[-2000:]}\n{complaint[-2000:]}\n{json.dumps(rows)}"
        return Seen(_result(column, rows) if status == 0 and HELLO in said else Result.FAILS, told)

    def variables(self, client: Client, column: Column, work: Path) -> Mapping[str, str]:
        """Those that a client's lines use."""
        host = client.host(column)
        return {
            **programs(client, column.road),
            "URL": f"https://{host}",
            "HOST": host,
            "WORK": str(work),
            "HOME": str(work),
            "TMPDIR": str(work),
            "BUILT": str(built(client)),
            "ROOTS": str(self.folder / "roots"),
        }

    def _rows(self, host: str, patience: float) -> list[dict[str, str]]:
        """The audit's rows about one cell's server; some time is given to the first."""
        deadline = time.monotonic() + patience
        wanted = "SELECT sandbox, verdict, reason, lane, error FROM requests WHERE host = ? AND protocol IS NOT 'dns'"
        path = self.folder / "state" / "audit.db"
        while True:
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                database.row_factory = sqlite3.Row
                rows = [dict(row) for row in database.execute(wanted, (host,))]
            if rows or time.monotonic() > deadline:
                return rows
            time.sleep(0.05)


def _result(column: Column, rows: list[dict[str, str]]) -> Result:
    """What it was that worked: by this road and in this lane, or it does not count."""
    passed = [row for row in rows if row["verdict"] == "allow"]
    came, lanes = {row["sandbox"] for row in passed}, {row["lane"] for row in passed}
    if not passed or not lanes <= _LANES[column.tls]:
        return Result.FAILS
    if came <= _SANDBOX[column.road]:
        return Result.WORKS
    return Result.BY_HTTP if column.road is Road.SOCKS and came <= _SANDBOX[Road.EXPLICIT] else Result.FAILS


def _ended(command: list[str], env: Mapping[str, str], work: Path) -> tuple[int, str, str]:
    """Run it to its end; what does not end is killed with all that it started."""
    with subprocess.Popen(
        command,
        cwd=work,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            said, complaint = process.communicate(timeout=CELL_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, complaint = process.communicate()
        return process.returncode, said, complaint


def programs(client: Client, road: Road | None = None) -> dict[str, str]:
    """The variables of what it needs, and a PATH with them. Raises `LookupError`: something is not here."""
    found: dict[str, str] = {}
    for need in (*client.needs, *([client.more[road]] if road in client.more else [])):
        one = find(need)
        if one is None:
            raise LookupError(need)
        found |= one
    beside = {str(Path(path).parent) for name, path in found.items() if name in {"CARGO", "GO", "NPM", "OLDNODE"}}
    return {**found, "PATH": ":".join((*sorted(beside), PATH)), "LANG": "C.UTF-8", "GOCACHE": str(KEPT / "go")}


def lacks(client: Client, road: Road | None = None) -> str:
    """What this machine does not have for it; empty: nothing."""
    try:
        programs(client, road)
    except LookupError as error:
        return str(error)
    return ""


def built(client: Client) -> Path:
    """Where the client's own program lies, made once."""
    folder = KEPT / "built" / client.needs[0]
    if client.build and not folder.exists():
        folder.mkdir(parents=True)
        env = {**programs(client), "HOME": str(folder)}
        build = ["sh", "-euc", client.build]
        done = subprocess.run(build, check=False, cwd=folder, env=env, capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(folder)
            raise RuntimeError(f"{client.name} could not be built: {done.stderr}")
    return folder
