"""The listening sockets of a start: opened by the supervisor, inherited by the workers, cleared away at the end."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from egress.config import TransparentMode, UnixListener, socket_mode, told_listener
from egress.errors import StartError
from egress.proxy.entrance import Entrance, Kind
from egress.proxy.original import accept_foreign, redirected, unrewritten
from egress.server.unix_socket import UnixSocket

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.config import Forward, ListenAddress, ServerConfig
    from egress.policy import Host

_BACKLOG: Final = 1024
_ATTEMPTS: Final = 16
_HINTS: Final = {
    Kind.PROXY: "choose another address with --listen HOST:PORT (port 0 picks a free one)",
    Kind.ENDPOINTS: "choose another address for `identity: listen`",
    Kind.FORWARD: "choose another address to listen on in `forwards`",
    Kind.TRANSPARENT: "choose another address for `transparent: listen`; `mode: tproxy` needs CAP_NET_ADMIN",
    Kind.DNS: "choose another address with --dns ADDRESS:PORT, or for `dns: listen`",
}


@dataclass(frozen=True, slots=True)
class Listener:
    """A listener as people are told of it. `destination`: of a forward; `mode`: of one for redirected connections."""

    kind: Kind
    told: str
    destination: str | None = None
    mode: str | None = None


type Entrances = tuple[tuple[socket.socket, Entrance], ...]


class Listening:
    """A socket for each address of the configuration, in its order; they accept nothing before `begin`.

    `given`: bound sockets that are taken in place of those that would be opened, by their addresses; they may be of
    another network namespace. Raises StartError, and has then opened nothing.
    """

    def __init__(self, config: ServerConfig, given: Mapping[tuple[str, int], socket.socket] | None = None) -> None:
        self._config = config
        self._given = given or {}
        self._files: list[UnixSocket] = []
        with ExitStack() as stack:
            opened = [(self._open(address, config, stack), Entrance(address=address)) for address in config.listens]
            opened += [self._forward(forward, config, stack) for forward in config.forwards]
            if config.transparent is not None:
                opened += [
                    _transparent(address, config.transparent.mode, stack) for address in config.transparent.listens
                ]
            if config.identity is not None:
                opened.append(self._endpoints(config.identity.listen, stack))
            for where in config.dns.listen:
                opened += _questions(where, stack)
            self.entrances: Entrances = tuple(opened)
            self._stack = stack.pop_all()
        self.ports = frozenset(port for sock, _ in self.entrances for port in ports_of(sock))

    def told(self, kind: Kind = Kind.PROXY) -> tuple[str, ...]:
        """Where connections of a kind are accepted, as people write it, with the ports that were really bound."""
        found = (_told(sock, entrance) for sock, entrance in self.entrances if entrance.kind is kind)
        return tuple(dict.fromkeys(found))

    def forwards(self) -> tuple[tuple[str, str], ...]:
        """Each forward's listener and destination, as people write them."""
        return tuple(
            (_told(sock, entrance), _told_destination(entrance.destination))
            for sock, entrance in self.entrances
            if entrance.destination is not None
        )

    def listeners(self) -> tuple[Listener, ...]:
        """Every listener, in the order of the configuration; the two sockets for DNS at an address are one."""
        mode = None if self._config.transparent is None else self._config.transparent.mode.value
        found = (
            Listener(
                entrance.kind,
                _told(sock, entrance),
                None if entrance.destination is None else _told_destination(entrance.destination),
                mode if entrance.kind is Kind.TRANSPARENT else None,
            )
            for sock, entrance in self.entrances
        )
        return tuple(dict.fromkeys(found))

    def closed(self) -> list[str]:
        """Where nobody can connect: a socket that accepts nothing, or one whose file is gone."""
        return [_told(sock, entrance) for sock, entrance in self.entrances if not _accepts(sock, entrance)]

    def begin(self) -> None:
        """Have connections accepted: not before the audit stands, since the kernel accepts them at once."""
        for sock, entrance in self.entrances:
            if sock.type is socket.SOCK_DGRAM:
                continue
            try:
                sock.listen(_BACKLOG)
            except OSError as error:
                raise _taken(_told(sock, entrance), error, _HINTS[entrance.kind]) from error

    def leave(self) -> None:
        """In a forked process: keep what is the supervisor's alone no longer."""
        for file in self._files:
            file.leave()

    def close(self) -> None:
        """Close the sockets, and leave no file of them behind."""
        self._stack.close()

    def _forward(self, forward: Forward, config: ServerConfig, stack: ExitStack) -> tuple[socket.socket, Entrance]:
        sock = self._open(forward.listen, config, stack, Kind.FORWARD)
        return sock, Entrance(Kind.FORWARD, forward.listen, (forward.host, forward.port))

    def _open(
        self, address: ListenAddress, config: ServerConfig, stack: ExitStack, kind: Kind = Kind.PROXY
    ) -> socket.socket:
        if not isinstance(address, UnixListener):
            return stack.enter_context(self._given.get(address) or _open_tcp(*address, kind))
        file = UnixSocket(address, socket_mode(address, config.sandboxes))
        stack.callback(file.close)
        self._files.append(file)
        return file.sock

    def _endpoints(self, address: tuple[str, int], stack: ExitStack) -> tuple[socket.socket, Entrance]:
        sock = stack.enter_context(self._given.get(address) or _open_tcp(*address, Kind.ENDPOINTS))
        return sock, Entrance(Kind.ENDPOINTS, address)


def _told_destination(destination: tuple[Host, int]) -> str:
    host, port = destination
    return told_listener((host.text, port))


def ports_of(sock: socket.socket) -> tuple[int, ...]:
    """The port that a socket listens on; a unix socket has none, and nothing of ours ever dials one."""
    return () if sock.family is socket.AF_UNIX else (int(sock.getsockname()[1]),)


def _accepts(sock: socket.socket, entrance: Entrance) -> bool:
    if sock.fileno() < 0 or (isinstance(entrance.address, UnixListener) and not os.path.lexists(entrance.address.path)):
        return False
    # Asked of a datagram socket, the kernel says no, and there is nothing to be accepted.
    return sock.type != socket.SOCK_STREAM or bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _questions(address: tuple[str, int], stack: ExitStack) -> Entrances:
    """The sockets for DNS at an address: TCP and UDP on the same port, also where the kernel picks it."""
    entrance = Entrance(Kind.DNS, address)
    for attempt in range(_ATTEMPTS):
        tcp = _open_tcp(*address, Kind.DNS)
        try:
            udp = _open_udp(address[0], ports_of(tcp)[0])
        except StartError:
            tcp.close()
            # The number that was free for the one was not for the other.
            if address[1] or attempt == _ATTEMPTS - 1:
                raise
            continue
        return (stack.enter_context(tcp), entrance), (stack.enter_context(udp), entrance)
    raise AssertionError(address)


def _open_udp(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise _taken(f"{host}:{port} (UDP)", error, _HINTS[Kind.DNS]) from error
    return sock


def _transparent(address: tuple[str, int], mode: TransparentMode, stack: ExitStack) -> tuple[socket.socket, Entrance]:
    foreign = mode is TransparentMode.TPROXY
    sock = stack.enter_context(_open_tcp(*address, Kind.TRANSPARENT, foreign=foreign))
    return sock, Entrance(Kind.TRANSPARENT, address, original=unrewritten if foreign else redirected)


def _open_tcp(host: str, port: int, kind: Kind = Kind.PROXY, *, foreign: bool = False) -> socket.socket:
    """A bound socket. `foreign`: it takes connections to addresses that are not ours."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if foreign:
            accept_foreign(sock)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise _taken(f"{host}:{port}", error, _HINTS[kind]) from error
    return sock


def _told(sock: socket.socket, entrance: Entrance) -> str:
    address = entrance.address
    return told_listener(address if isinstance(address, UnixListener) else sock.getsockname()[:2])


def _taken(told: str, error: OSError, hint: str) -> StartError:
    return StartError(f"cannot listen on {told}: {os.strerror(error.errno or 0)}", hint=hint)
