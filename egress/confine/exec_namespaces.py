"""The first process inside: makes the namespaces and the listening sockets, then starts the one with number 1 in them.

1. as root    namespaces of the machine's own user namespace; privileges are dropped in the process with number 1
2. else       a user namespace of the user's own, in which the user keeps its number
3. network    loopback alone. The sockets are made here, and belong to this network namespace wherever they are used:
              they are handed out to the proxy, so that nothing in between has to carry bytes
4. end        who asked ended: this process is killed, with it the one with number 1, with that all in its namespace
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from egress.confine import exec_init
from egress.confine.exec_channel import Channel, Word
from egress.confine.exec_kernel import (
    CAP_SYS_ADMIN,
    end_with_parent,
    has_capability,
    hide_memory,
    loopback_up,
    show_name,
)
from egress.confine.exec_plan import ConfineError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NAMESPACES: Final = (
    os.CLONE_NEWNET | os.CLONE_NEWNS | os.CLONE_NEWPID | os.CLONE_NEWIPC | os.CLONE_NEWUTS
    if sys.platform == "linux"
    else 0
)
_HINT: Final = (
    "run it as root, `sudo egress exec ...`, or let users make user namespaces: "
    "`sysctl user.max_user_namespaces=15000`, on Debian `sysctl kernel.unprivileged_userns_clone=1`, on Ubuntu an "
    "AppArmor profile with `userns,` for egress; in a container, allow unshare(2) and mount(2). "
    "`--unconfined` runs the command without confinement"
)


def privileged() -> bool:
    """Whether this process may make namespaces without one for its user, and may become another user."""
    return os.geteuid() == 0 and has_capability(CAP_SYS_ADMIN)


def start(addresses: Sequence[tuple[str, int]], leave: Callable[[], None]) -> tuple[int, Channel]:
    """Start it; its id, and the channel on which it says LISTENING, or FAILED with a message and a hint.

    It listens at `addresses`, in its own network, and goes on at GO. `leave`: what it does first.
    """
    ours, theirs = Channel.pair()
    parent = os.getpid()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        leave()
        _run(addresses, theirs, ours, parent)
    theirs.close()
    return pid, ours


def _run(addresses: Sequence[tuple[str, int]], channel: Channel, parents: Channel, parent: int) -> NoReturn:
    try:
        parents.close()
        # No key of our terminal reaches it.
        os.setsid()
        end_with_parent(parent)
        show_name("egress exec: ns")
        _inside(addresses, channel)
    except ConfineError as error:
        channel.send(Word.FAILED, (error.message, error.hint))
    except OSError as error:
        channel.send(Word.FAILED, (f"the command cannot be confined: {error.strerror or error}", _HINT))
    except BaseException as error:  # noqa: BLE001 - it is told outside, and this process ends whatever it was
        channel.send(Word.FAILED, (f"the command cannot be confined: {error!r}", ""))
    finally:
        os._exit(1)


def _inside(addresses: Sequence[tuple[str, int]], channel: Channel) -> None:
    _unshare()
    loopback_up()
    sockets = [_listen(*address) for address in addresses]
    hide_memory()
    channel.send(Word.LISTENING, None, tuple(sock.fileno() for sock in sockets))
    for sock in sockets:
        sock.close()
    said = channel.receive()
    if said is None or said[0] is not Word.GO:
        os._exit(1)
    pid = os.fork()
    if not pid:
        exec_init.main(said[1], channel)
    channel.close()
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    os.waitpid(pid, 0)
    os._exit(0)


def _unshare() -> None:
    if privileged():
        _make(_NAMESPACES)
        return
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        raise ConfineError("this root has no CAP_SYS_ADMIN, so the command cannot be confined", hint=_HINT)
    _make(_NAMESPACES | os.CLONE_NEWUSER)
    own = Path("/proc/self")
    # Without this the kernel takes no mapping of groups from a user (user_namespaces(7)).
    (own / "setgroups").write_text("deny", encoding="ascii")
    (own / "uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
    (own / "gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")


def _make(namespaces: int) -> None:
    try:
        os.unshare(namespaces)
    except OSError as error:
        why = {
            errno.EPERM: "the kernel lets this user make no namespaces",
            errno.ENOSPC: "there may be no more namespaces (sysctl user.max_*_namespaces)",
            errno.EINVAL: "the kernel was built without some namespaces",
            errno.ENOSYS: "unshare(2) is not allowed here",
        }.get(error.errno or 0, os.strerror(error.errno or 0))
        raise ConfineError(f"the command cannot be confined: {why}", hint=_HINT) from error


def _listen(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.bind((host, port))
    except OSError as error:
        raise ConfineError(
            f"cannot listen on {host}:{port} inside: {os.strerror(error.errno or 0)}",
            hint="the command's network has loopback addresses alone: 127.0.0.0/8 and ::1",
        ) from error
    return sock
