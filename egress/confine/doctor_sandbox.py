"""What a program in the sandbox could do without the proxy: roads around it, and powers over what keeps it in."""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING, Final

from egress.confine.doctor import Finding, ok, problem, skipped
from egress.confine.doctor_roads import Reached, by_dns
from egress.confine.exec_plan import INIT_NAME

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from egress.confine.doctor_roads import Address

# Public resolvers that answer anybody, by TCP, DNS and QUIC alike. docs/guides/doctor.md says what they are sent.
PROBES: Final = (("1.1.1.1", 443), ("8.8.8.8", 443))
PROBES_6: Final = (("2606:4700:4700::1111", 443), ("2001:4860:4860::8888", 443))
METADATA: Final = (("169.254.169.254", 80), ("fd00:ec2::254", 80))
DNS: Final = 53
_LAST_PORT: Final = 65_535
_SERVERS_AT_MOST: Final = 3
_SOCKETS: Final = (
    *("var/run/docker.sock", "run/containerd/containerd.sock"),
    *("run/podman/podman.sock", "run/crio/crio.sock"),
)
_STATE: Final = ("control.sock", "ca/ca-key.pem", "audit.db")
# linux/capability.h: what lets a process change the network around it, or leave its namespaces.
_POWERS: Final = {12: "CAP_NET_ADMIN", 16: "CAP_SYS_MODULE", 19: "CAP_SYS_PTRACE", 21: "CAP_SYS_ADMIN"}
# The line of /proc/PID/status that only a kernel with filters has; and what it says under `egress exec`.
SECCOMP: Final = "Seccomp:"
_PROMISED: Final = {
    f"{SECCOMP}\t2\n": "its system calls are not filtered",
    "NoNewPrivs:\t1\n": "it could get new privileges",
}
_CLOSE: Final = "give the sandbox no way out but the proxy: docs/operations.md, `Closing the network`"


def read_probe(text: str) -> Address:
    """`HOST:PORT`, where HOST is an address. Raises ValueError."""
    host, _, port = text.rpartition(":")
    six = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if six else host
    try:
        socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, bare)
    except OSError as error:
        raise ValueError(text) from error
    if not port.isascii() or not port.isdigit() or not 0 < int(port) <= _LAST_PORT:
        raise ValueError(text)
    return bare, int(port)


def road(reach: Callable[[Address], Reached], what: str, addresses: tuple[Address, ...]) -> Finding:
    """Whether any of the addresses answers without the proxy. `what`: how it is told, with a place for them."""
    if not addresses:
        return skipped("there is nothing to try: no --probe is of this kind")
    found = {_shown(address): reach(address) for address in addresses}
    outside = [shown for shown, reached in found.items() if reached is Reached.OUTSIDE]
    if outside:
        return problem(f"{what.format(' and '.join(outside))}: answered, and not by the proxy", _CLOSE)
    told = what.format(" and ".join(found))
    return ok(f"{told}: answered, and held back" if Reached.HELD in found.values() else f"{told}: no answer")


def resolver(root: Path) -> Finding:
    """Whether the name servers that are configured here tell of the Internet: names can carry data out."""
    servers = _name_servers(root / "etc" / "resolv.conf")
    if not servers:
        return ok("no name server is configured")
    open_ones = [server for server in servers if by_dns((server, DNS)) is Reached.OUTSIDE]
    if open_ones:
        told = f"{', '.join(open_ones)} resolves every name for the sandbox, and data can leave in names"
        fix = "name the proxy's own (`egress run --dns`) in /etc/resolv.conf, or one that knows no outside"
        return problem(told, fix)
    return ok(f"{', '.join(servers)}: tells nothing of the Internet")


def container_socket(root: Path) -> Finding:
    """Whether the sandbox can start containers beside itself."""
    found = [f"/{path}" for path in _SOCKETS if _connects(root / path)]
    if found:
        told = f"{', '.join(found)} can be used from here, and whoever can is root on the host"
        return problem(told, "do not mount it into the sandbox")
    return ok("no container socket can be used from here")


def privileges(root: Path) -> Finding:
    """Whether the sandbox may change what confines it."""
    effective = _capabilities(root / "proc" / "self" / "status")
    if effective is None:
        return skipped("what this process may do cannot be read")
    found = [name for bit, name in _POWERS.items() if effective >> bit & 1]
    if found:
        told = f"this process has {', '.join(found)}: it could take away what keeps it in"
        return problem(told, "drop all capabilities, and set no-new-privileges")
    return ok("no capability that could take away what keeps it in")


def under_exec(root: Path) -> Finding:
    """Whether this is the inside of `egress exec`, and what that promises holds."""
    proc = root / "proc"
    if _text(proc / "1" / "comm").strip() != INIT_NAME:
        return skipped("this does not run under `egress exec`")
    status = _text(proc / "self" / "status")
    lacks = [what for line, what in _PROMISED.items() if line not in status]
    devices = {line.split(":")[0].strip() for line in _text(proc / "self" / "net" / "dev").splitlines() if ":" in line}
    if others := sorted(devices - {"lo"}):
        lacks.append(f"it has interfaces beside loopback: {', '.join(others)}")
    if lacks:
        return problem(f"this runs under `egress exec`, and yet: {'; '.join(lacks)}", "report it")
    return ok("this runs under `egress exec`: loopback alone, filtered system calls, no new privileges")


def state_folder(root: Path, named: str) -> Finding:
    """Whether the proxy's own files are in reach. `named`: what the environment says of its folder."""
    folders = [root / "var" / "lib" / "egress", *([root / named.lstrip("/")] if named else [])]
    found = [str(place) for folder in folders for place in (folder / name for name in _STATE) if _readable(place)]
    if found:
        fix = "give the sandbox a user and a file system of its own, with nothing of the state folder but the CA's file"
        return problem(f"the sandbox can read {', '.join(found)}", fix)
    return ok("the proxy's files are out of reach")


def _shown(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _name_servers(path: Path) -> list[str]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    words = [line.split() for line in lines]
    return [found[1] for found in words if len(found) > 1 and found[0] == "nameserver"][:_SERVERS_AT_MOST]


def _connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(1)
        try:
            if not stat.S_ISSOCK(path.stat().st_mode):
                return False
            sock.connect(str(path))
        except OSError:
            return False
    return True


def _readable(path: Path) -> bool:
    try:
        return path.exists() and os.access(path, os.R_OK)
    except OSError:
        return False


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _capabilities(path: Path) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), None)
