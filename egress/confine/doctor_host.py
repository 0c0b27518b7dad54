"""What `egress doctor` looks at on the proxy's host: the proxy that runs, its files, its policy, and the machine.

It asks the proxy on its control socket, as `egress status` does, and reads; it changes nothing.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from egress import __version__
from egress.certs import Authority
from egress.confine.doctor import Check, Finding, note, ok, problem, skipped, warning
from egress.errors import StateError
from egress.server.control_client import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from egress.config import ServerConfig

_ASK_SECONDS: Final = 5.0
_MEGABYTE: Final = 1_000_000
_LITTLE: Final = 1_000 * _MEGABYTE
_LESS: Final = 100 * _MEGABYTE
_EXPIRES_SOON: Final = timedelta(days=30)
_SKEW_SECONDS: Final = 60
# Two for a connection, and what a process has open besides.
_DESCRIPTORS_BESIDES: Final = 256
_FOR_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_NOT_RUNNING: Final = "no proxy runs here that could be asked"


@dataclass(slots=True)
class Host:
    """The proxy of a configuration, and its machine. `clock`: Unix time in seconds."""

    config: ServerConfig
    clock: Callable[[], float] = time.time
    _lock: Lock = field(default_factory=Lock)
    _told: Mapping[str, Any] | StateError | None = None

    def checks(self) -> list[Check]:
        """All of them, the proxy itself first."""
        named: dict[str, Callable[[], Finding]] = {
            "proxy-running": self.proxy_running,
            "proxy-ready": self.proxy_ready,
            "proxy-version": self.proxy_version,
            "proxy-privileges": self.proxy_privileges,
            "policy": self.policy,
            "state-folder": self.state_folder,
            "ca": self.ca,
            "audit": self.audit,
            "disk-space": self.disk_space,
            "open-files": self.open_files,
            "system-clock": self.system_clock,
        }
        return [Check(name, look) for name, look in named.items()]

    # the proxy that runs

    def proxy_running(self) -> Finding:
        """Whether a proxy answers on the control socket."""
        told = self._status()
        if isinstance(told, StateError):
            return problem(told.message, told.hint or "start it with `egress run`")
        return ok(f"it listens on {told['listening']}")

    def proxy_ready(self) -> Finding:
        """Whether it is ready."""
        told = self._status()
        if isinstance(told, StateError):
            return skipped(_NOT_RUNNING)
        if not told["ready"]:
            return problem("; ".join(told["reasons"]), "its log says more")
        return ok("policy, audit, hub and workers are")

    def proxy_version(self) -> Finding:
        """Whether it is the version that is installed."""
        told = self._status()
        if isinstance(told, StateError):
            return skipped(_NOT_RUNNING)
        if told["version"] != __version__:
            return warning(f"{told['version']} runs, and {__version__} is installed", "start the proxy again")
        return ok(f"{__version__}")

    def proxy_privileges(self) -> Finding:
        """Whether it has more power than it needs, which is none."""
        told = self._status()
        if isinstance(told, StateError):
            return skipped(_NOT_RUNNING)
        lines = Path(f"/proc/{told['pid']}/status").read_text().splitlines()
        fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        if int(fields["Uid"].split()[1]) == 0 or int(fields["CapEff"], 16):
            fix = "run it as a user of its own, without capabilities: it needs none"
            return warning("it runs as root, or with capabilities", fix)
        return ok("it runs without capabilities")

    def policy(self) -> Finding:
        """Whether the policy in force is that of the files, and refuses what it does not allow."""
        told = self._status()
        if isinstance(told, StateError):
            return skipped(_NOT_RUNNING)
        found = told["policy"]
        if found["last_good"]:
            return problem(found["last_good"], "mend the files: `egress policy check` says what is wrong")
        gone = [path for path in found["files"] if not os.access(path, os.R_OK)]
        if gone:
            return warning(f"cannot be read from here: {', '.join(gone)}", "put them back, for the proxy's user")
        open_files = [path for path in found["files"] if Path(path).stat().st_mode & stat.S_IWOTH]
        if open_files:
            return problem(f"everybody can write {', '.join(open_files)}", "chmod o-w; the next start refuses them")
        reporting = found["reporting"]
        if reporting:
            told_so = f"mode report: what scope {' and scope '.join(reporting)} would refuse passes"
            return warning(told_so, "remove `mode: report` once the record shows nothing that it should let pass")
        return ok(f"generation {found['generation']} of the files is in force")

    # its files

    def state_folder(self) -> Finding:
        """Whether the folder belongs to one user, and is closed to others where it must be."""
        folder = self.config.state_dir
        try:
            state = folder.stat()
        except OSError as error:
            fix = "`egress run` makes it; or name it with --state-dir"
            return problem(f"`{folder}`: {(error.strerror or '').lower()}", fix)
        if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return problem(f"others can write to `{folder}`", f"chmod go-w {folder}")
        for name in ("ca", "last-good", "secrets.db", "placeholder.key", "control.sock", "audit.db", "sandboxes.json"):
            path = folder / name
            if not path.exists():
                continue
            found = path.stat()
            if found.st_uid != state.st_uid:
                return problem(f"`{path}` belongs to another user than its folder", f"chown {state.st_uid} {path}")
            if found.st_mode & _FOR_OTHERS:
                return problem(f"others can get at `{path}`", f"chmod go-rwx {path}")
        return ok(f"`{folder}` is its owner's alone")

    def ca(self) -> Finding:
        """Whether the CA can be used, and for how long."""
        try:
            authority = Authority.load(self.config.ca_dir.absolute())
        except StateError as error:
            return problem(error.message, error.hint or "its log says more")
        ends = authority.certificate.not_valid_after_utc
        if ends - datetime.fromtimestamp(self.clock(), UTC) < _EXPIRES_SOON:
            return warning(f"the CA expires on {ends:%Y-%m-%d}", "make a new one: docs/operations.md, `The CA`")
        return ok(f"valid until {ends:%Y-%m-%d}")

    def audit(self) -> Finding:
        """Whether the record can be read, and written beside."""
        path = self.config.audit.path
        if not path.exists():
            return skipped(f"`{path}` is not there: the first start makes it")
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            fix = "mount it writable: nothing passes unrecorded"
            return problem(f"`{path}` is on a file system that is mounted read-only", fix)
        if path.stat().st_uid != path.parent.stat().st_uid:
            return problem(f"`{path}` belongs to another user than its folder", "chown it to the proxy's user")
        try:
            database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2)
            try:
                database.execute("SELECT 1 FROM decisions LIMIT 1").fetchall()
            finally:
                database.close()
        except sqlite3.Error as error:
            fix = "`egress audit verify` says more; restore it, or move it away"
            return problem(f"`{path}` cannot be read: {error}", fix)
        return ok(f"`{path}` can be read")

    # its machine

    def disk_space(self) -> Finding:
        """Whether there is room for the record."""
        places = [place for place in (self.config.audit.path.parent, self.config.state_dir) if place.exists()]
        if not places:
            return skipped("there is no folder yet")
        free = min(shutil.disk_usage(place).free for place in places)
        told = f"{free // _MEGABYTE} MB are free for the audit"
        fix = "make room, or limit it: `audit: keep_bytes`; with none left, everything is denied"
        if free < _LESS:
            return problem(told, fix)
        return warning(told, fix) if free < _LITTLE else ok(told)

    def open_files(self) -> Finding:
        """Whether the proxy may have as many descriptors as its connections take."""
        told = self._status()
        own = "self" if isinstance(told, StateError) else told["pid"]
        lines = Path(f"/proc/{own}/limits").read_text().splitlines()
        hard = next(line.split()[4] for line in lines if line.startswith("Max open files"))
        connections = self.config.limits.connections
        needed = connections * 2 + _DESCRIPTORS_BESIDES
        if hard != "unlimited" and int(hard) < needed:
            fix = f"allow {needed} (systemd: LimitNOFILE=, docker: --ulimit nofile=), or lower `limits: connections`"
            return warning(f"{hard} descriptors at most, and {connections} connections take {needed}", fix)
        return ok(f"{hard} descriptors at most")

    def system_clock(self) -> Finding:
        """Whether the clock was set back behind what was written."""
        newest = self._newest()
        if newest is None:
            return note("nothing was written yet that its time could be compared with")
        behind = newest - self.clock()
        if behind > _SKEW_SECONDS:
            return problem(f"the clock is {behind:.0f} s behind what the proxy wrote", "have it set by NTP")
        return ok("not behind what was written")

    def _newest(self) -> float | None:
        paths = (self.config.audit.path, self.config.ca_dir / "ca.pem", self.config.state_dir / "control.sock")
        return max((path.stat().st_mtime for path in paths if path.exists()), default=None)

    def _status(self) -> Mapping[str, Any] | StateError:
        """What the proxy tells, asked once for all checks."""
        with self._lock:
            if self._told is None:
                try:
                    self._told = ask(self.config.state_dir, {"command": "status"}, seconds=_ASK_SECONDS)
                    if "ready" not in self._told:
                        self._told = StateError(f"the proxy does not tell: {self._told.get('error')}")
                except StateError as error:
                    self._told = error
            return self._told
