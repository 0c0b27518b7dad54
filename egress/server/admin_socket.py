"""The listening socket of `admin`: the supervisor's alone, and open until the last process has ended."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

from egress.config import UnixListener, told_listener
from egress.errors import StartError
from egress.server.unix_socket import UnixSocket

if TYPE_CHECKING:
    from egress.config import AdminConfig

_OWN_USER: Final = 0o600
_BACKLOG: Final = 16
_HINT: Final = "choose another address with --admin HOST:PORT (port 0 picks a free one)"


class AdminSocket:
    """Bound at once, so that what is wrong with the address stops the start. Raises StartError."""

    def __init__(self, config: AdminConfig) -> None:
        self.config = config
        listen = config.listen
        self._file = None
        if isinstance(listen, UnixListener):
            self._file = UnixSocket(listen, _OWN_USER if listen.mode is None else listen.mode)
            self.sock = self._file.sock
        else:
            self.sock = _bound(*listen)
        self.sock.setblocking(False)  # noqa: FBT003 - the method takes it so
        self.sock.listen(_BACKLOG)

    @property
    def told(self) -> str:
        """Where it is, as people write it."""
        listen = self.config.listen
        return told_listener(listen if isinstance(listen, UnixListener) else self.sock.getsockname()[:2])

    @property
    def ports(self) -> frozenset[int]:
        """The port, which is the proxy's own: no sandbox may have it dialled."""
        return frozenset() if self._file is not None else frozenset({int(self.sock.getsockname()[1])})

    def close(self) -> None:
        """Leave nothing of it behind."""
        if self._file is None:
            self.sock.close()
        else:
            self._file.close()

    def leave(self) -> None:
        """In a forked process: keep nothing of it."""
        self.sock.close()
        if self._file is not None:
            self._file.leave()


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise StartError(
            f"cannot serve `admin` on {told_listener((host, port))}: {os.strerror(error.errno or 0)}", hint=_HINT
        ) from error
    return sock
