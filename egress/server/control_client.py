"""Asks the proxy that serves a state folder: one line of JSON there, one back."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from typing import TYPE_CHECKING, Any, Final

from egress.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SOCKET_NAME: Final = "control.sock"
# The policy of a session, written as JSON, is at most three times as long as its text.
MOST_ASKED: Final = 128 * 1024
MOST_ANSWERED: Final = 4 * 1024 * 1024


@contextlib.contextmanager
def short_path(state_dir: Path) -> Iterator[str]:
    """A path of the socket that fits where the kernel takes 108 bytes, however long the folder's own is."""
    folder = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET_NAME}"
    finally:
        os.close(folder)


def ask(state_dir: Path, request: Mapping[str, object], *, seconds: float) -> dict[str, Any]:
    """The proxy's answer. `seconds`: how long it may take. Raises StateError if there is no proxy, or no answer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock, short_path(state_dir) as path:
            sock.settimeout(seconds)
            sock.connect(path)
            sock.sendall(json.dumps(request).encode() + b"\n")
            line = _line(sock)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
        raise StateError(
            f"no proxy runs with the state folder `{state_dir}`",
            hint="start one with `egress run`, or name the folder of the one that runs with --state-dir",
        ) from error
    except PermissionError as error:
        raise StateError(
            f"this user may not ask the proxy of the state folder `{state_dir}`",
            hint="ask as the user that runs it, or as root",
        ) from error
    except OSError as error:
        raise StateError(f"the proxy of the state folder `{state_dir}` does not answer", hint=str(error)) from error
    return _parsed(line, state_dir)


def _line(sock: socket.socket) -> bytes:
    data = bytearray()
    while not data.endswith(b"\n") and len(data) <= MOST_ANSWERED and (part := sock.recv(64 * 1024)):
        data += part
    return bytes(data)


def _parsed(line: bytes, state_dir: Path) -> dict[str, Any]:
    try:
        answer = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        # It ended while it was asked, or it turns away whom it does not know.
        raise StateError(
            f"the proxy of the state folder `{state_dir}` gave no answer",
            hint="ask as the user that runs it, or as root; its log says more",
        )
    return answer
