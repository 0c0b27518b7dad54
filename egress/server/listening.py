"""The listening sockets of a start: opened by the supervisor, inherited by the workers, cleared away at the end."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from egress.config import UnixListener, socket_mode, told_listener
from egress.errors import StartError
from egress.server.unix_socket import UnixSocket

if TYPE_CHECKING:
    from egress.config import ListenAddress, ServerConfig

_BACKLOG: Final = 1024
_HINT: Final = "choose another address with --listen HOST:PORT (port 0 picks a free one)"
_ELSEWHERE: Final = "choose another address for `identity: listen`"


class Listening:
    """A socket for each address of the configuration, in its order; they accept nothing before `begin`.

    Raises StartError, and has then opened nothing.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._addresses = config.listens
        self._files: list[UnixSocket] = []
        with ExitStack() as stack:
            self.sockets = tuple([self._open(address, config, stack) for address in config.listens])
            identity = config.identity
            # Where the identity endpoints are asked; None: they are not.
            self.endpoints = None if identity is None else stack.enter_context(_open_tcp(*identity.listen, _ELSEWHERE))
            self._stack = stack.pop_all()
        self.told = tuple(map(_told, self.sockets, config.listens))
        self.all = (*self.sockets, *(() if self.endpoints is None else (self.endpoints,)))
        self.ports = frozenset(port for sock in self.all for port in ports_of(sock))
        # `HOST:PORT` of the identity endpoints; empty: there are none.
        self.told_endpoints = "" if self.endpoints is None else told_listener(self.endpoints.getsockname()[:2])

    def begin(self) -> None:
        """Have connections accepted: not before the audit stands, since the kernel accepts them at once."""
        for sock, address in zip(self.sockets, self._addresses, strict=True):
            try:
                sock.listen(_BACKLOG)
            except OSError as error:
                raise _taken(told_listener(address), error) from error
        if self.endpoints is not None:
            try:
                self.endpoints.listen(_BACKLOG)
            except OSError as error:
                raise _taken(self.told_endpoints, error, _ELSEWHERE) from error

    def leave(self) -> None:
        """In a forked process: keep what is the supervisor's alone no longer."""
        for file in self._files:
            file.leave()

    def close(self) -> None:
        """Close the sockets, and leave no file of them behind."""
        self._stack.close()

    def _open(self, address: ListenAddress, config: ServerConfig, stack: ExitStack) -> socket.socket:
        if not isinstance(address, UnixListener):
            return stack.enter_context(_open_tcp(*address))
        file = UnixSocket(address, socket_mode(address, config.sandboxes))
        stack.callback(file.close)
        self._files.append(file)
        return file.sock


def ports_of(sock: socket.socket) -> tuple[int, ...]:
    """The port that a socket listens on; a unix socket has none, and nothing of ours ever dials one."""
    return () if sock.family is socket.AF_UNIX else (int(sock.getsockname()[1]),)


def _open_tcp(host: str, port: int, hint: str = _HINT) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise _taken(f"{host}:{port}", error, hint) from error
    return sock


def _told(sock: socket.socket, address: ListenAddress) -> str:
    """With the port that was really bound."""
    return told_listener(address if isinstance(address, UnixListener) else sock.getsockname()[:2])


def _taken(told: str, error: OSError, hint: str = _HINT) -> StartError:
    return StartError(f"cannot listen on {told}: {os.strerror(error.errno or 0)}", hint=hint)
