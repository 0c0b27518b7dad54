"""The embedded lane in a thread of its own, on a free port of loopback, with an audit in memory."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import uvloop
from harness.origins import Origins

from egress.certs import Authority, write_roots
from egress.config import AuditConfig, DenyPage, Limits, PolicySource, ServerConfig, UpstreamConfig
from egress.gate.build import build_gate, load_generation, write_trust
from egress.gate.fetching import LocalSecrets
from egress.mitm.build import build_lane
from egress.mitm.listener import MitmListener
from egress.policy import Lane, Scope
from egress.proxy.client_tls import ClientTls
from egress.proxy.entrance import Entrance, Kind
from egress.proxy.front import Front
from egress.proxy.handing import NoHandOver
from egress.proxy.limits import FrontLimits, OwnSlots
from egress.proxy.peers import peer_of, prepare
from egress.proxy.upstream_tls import UpstreamTls
from rig.handing import InProcess
from rig.ledger import Ledger
from rig.wire import Http2, Reply, Wire, trusting

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping
    from pathlib import Path

    from harness.authority import TestAuthority

    from egress.config import IdentityConfig, SandboxDefinition, SecretDefinition, UnixListener, UpstreamProxy
    from egress.gate.gate import Gate
    from egress.gate.given import GivenNames
    from egress.mitm.lane import MitmLane
    from egress.policy import Address
    from egress.proxy.handing import HandOver

SECRET = "canary-0123456789-never-seen"
LOOPBACK = "addresses: [127.0.0.0/8]"


class Carrier(Enum):
    """What carries the connections: mitmproxy behind its own listener, or the front with its lanes."""

    MITM = "mitm"
    FRONT = "front"


class Loopback:
    """Listeners in this process's own namespace; stands in for the end-to-end tests' namespace."""

    def listener(self, address: str, port: int) -> socket.socket:
        """A listening socket."""
        return socket.create_server((address, port), backlog=64)


def listening_on(listener: UnixListener | None) -> socket.socket:
    """A listening socket: a unix socket, or a free port of loopback."""
    if listener is None:
        return socket.create_server(("127.0.0.1", 0), backlog=1024)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(listener.path)
    sock.listen(1024)
    return sock


def origin_on(authority: TestAuthority, address: str = "127.0.0.1") -> Origins:
    """A recorded origin on a free port of `address`."""
    return Origins(
        Loopback(),  # type: ignore[arg-type]
        authority,
        allowed=frozenset({"127.0.0.1"}),
        addresses=(address,),
        ports=(0,),
    )


def port_of(origins: Origins) -> int:
    """The port that an origin listens on."""
    return int(origins._listeners[0].getsockname()[1])


@dataclass(frozen=True)
class Setup:
    """How a proxy is set up: the text of its policy, pins, environment of secrets, roots, limits.

    `sandboxes` are who clients are told apart as; none: they are all one. `listener`: the unix socket to listen on;
    None: a free port of loopback. `identity`: the identity endpoints that are answered, at a free port.
    `upstream_proxy`: the way out. `prepare` is called with the state folder before anything reads it. `entrance`: what
    the listener is for; where it is given, the front takes connections of the mitm lane, too, and hands them over.
    `given`: what the proxy's DNS gave out.
    """

    policy: str
    pins: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    roots: tuple[Path, ...] = ()
    limits: Limits = field(default_factory=lambda: Limits(audit_seconds=0.2, connect_seconds=2, resolve_seconds=1))
    sandboxes: tuple[SandboxDefinition, ...] = ()
    listener: UnixListener | None = None
    secrets: Mapping[str, SecretDefinition] = field(default_factory=dict)
    identity: IdentityConfig | None = None
    upstream_proxy: UpstreamProxy | None = None
    prepare: Callable[[Path], object] = lambda _: None
    entrance: Entrance | None = None
    given: GivenNames | None = None
    deny_page: DenyPage = DenyPage.CONNECT


class Proxy:
    """A running proxy. What touches the gate or the lane goes through `call`, onto the loop's thread."""

    def __init__(self, folder: Path, setup: Setup, carrier: Carrier = Carrier.MITM) -> None:
        self.folder = folder
        self.carrier = carrier
        setup.prepare(folder)
        self.ledger = Ledger()
        self.policy_file = folder / "policy.yaml"
        self.policy_file.write_text(setup.policy)
        self.config = ServerConfig(
            listen=setup.listener or ("127.0.0.1", 0),
            state_dir=folder,
            audit=AuditConfig(folder / "audit.db"),
            ca_dir=folder / "ca",
            upstream=UpstreamConfig(ca=setup.roots, proxy=setup.upstream_proxy),
            resolve=setup.pins,
            policies=(PolicySource(Scope.SANDBOX, self.policy_file),),
            limits=setup.limits,
            secrets=setup.secrets,
            sandboxes=setup.sandboxes,
            identity=setup.identity,
            deny_page=setup.deny_page,
        )
        self.authority = Authority.load_or_create(self.config.ca_dir)
        generation = load_generation(self.config, dict(setup.env))
        self.gate: Gate = build_gate(self.config, self.ledger, generation)  # type: ignore[arg-type]
        self.gate.given = setup.given
        self.gate.presentable = self.authority.permits
        # The front's own, where both lanes are at work: they are two processes.
        self.front_gate = self.gate
        self._entrance = setup.entrance
        self.lane: MitmLane
        self.master: MitmListener
        self.front: Front
        self.address: Any
        self.endpoints: Any = None
        self._listener = setup.listener
        if setup.listener is not None:
            self.address = setup.listener.path
        self._carried: set[asyncio.Future[None]] = set()
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()
        self._ready.wait(20)
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            if self.carrier is Carrier.FRONT:
                uvloop.run(self._serve_front())
            else:
                asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 -- told to the thread that waits
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.lane = build_lane(
            self.config, self.gate, self.authority, roots=write_trust(self.config, self.authority).roots
        )
        self.master = MitmListener(self.lane, idle_seconds=int(self.config.limits.idle_seconds))
        if self._entrance is not None:
            await self._serve_handed(self._entrance)
            return
        async with asyncio.TaskGroup() as group:
            if self._listener is None:
                self.address = await self.master.listen("127.0.0.1", 0)
                accepting = None
            else:
                listening = listening_on(self._listener)
                accepting = group.create_task(self._hand_over(listening, self._listener))
            self._ready.set()
            await self._stop.wait()
            self.master.stop_accepting()
            if accepting is not None:
                accepting.cancel()
            await self.master.close()
        await self._fetcher.broker.close()

    async def _hand_over(self, listening: socket.socket, listener: UnixListener) -> None:
        """What a worker and the queue to the mitm process do with each connection where that lane is forced."""
        with listening:
            listening.setblocking(False)  # noqa: FBT003 -- the method takes it so
            while True:
                sock, name = await self._loop.sock_accept(listening)
                prepare(sock)
                client = self.gate.arrived(*peer_of(sock, name, listener))
                carried = asyncio.ensure_future(self.master.take(sock, client, None))
                self._carried.add(carried)
                carried.add_done_callback(self._carried.discard)

    async def _serve_handed(self, entrance: Entrance) -> None:
        """A front where the mitm lane is forced, and that lane."""
        given = self.gate.given
        self.front_gate = build_gate(self.config, self.ledger, self.gate.generation)  # type: ignore[arg-type]
        self.front_gate.given = given
        self.front_gate.presentable = self.authority.permits
        self.front = self._front(InProcess(self.master), Lane.MITM)
        with listening_on(self._listener) as listening:
            if self._listener is None:
                self.address = listening.getsockname()
                self.front_gate.own.ports.add(self.address[1])
                self.gate.own.ports.add(self.address[1])
            self.front.serve(listening, replace(entrance, address=self._listener or self.address[:2]))
            self._ready.set()
            await self._stop.wait()
            await self.front.close()
            await self.master.close()
        for gate in (self.gate, self.front_gate):
            assert isinstance(gate.fetcher, LocalSecrets)
            await gate.fetcher.broker.close()

    def _front(self, hand_over: HandOver, forced: Lane | None = None) -> Front:
        roots = self.folder / "upstream-roots.pem"
        write_roots(roots, self.config.upstream.ca)
        own = self.config.limits
        return Front(
            self.front_gate,
            ClientTls(self.authority),
            UpstreamTls(roots),
            FrontLimits(own.head_seconds, own.tls_seconds, own.idle_seconds),
            hand_over=hand_over,
            forced=forced,
            slots=OwnSlots(own.connections),
            deny_page=self.config.deny_page or DenyPage.CONNECT,
        )

    async def _serve_front(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.front = self._front(NoHandOver())
        with listening_on(self._listener) as listening, listening_on(None) as endpoints:
            if self._listener is None:
                self.address = listening.getsockname()
                self.gate.own.ports.add(self.address[1])
            entrance = self._entrance or Entrance()
            self.front.serve(listening, replace(entrance, address=self._listener or self.address[:2]))
            self._serve_endpoints(endpoints)
            self._ready.set()
            await self._stop.wait()
            await self.front.close()
        await self._fetcher.broker.close()

    def _serve_endpoints(self, listening: socket.socket) -> None:
        """As a worker does, where identity endpoints are configured."""
        if self.gate.endpoints is not None and self.config.identity is not None:
            self.endpoints = listening.getsockname()
            self.gate.own.ports.add(self.endpoints[1])
            self.gate.endpoints.at(self.endpoints[1])
            self.front.serve(listening, Entrance(Kind.ENDPOINTS, self.config.identity.listen))

    @property
    def _fetcher(self) -> LocalSecrets:
        assert isinstance(self.gate.fetcher, LocalSecrets)
        return self.gate.fetcher

    def call[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Run on the proxy's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    @property
    def connections(self) -> int:
        """How many clients' connections are open."""
        return self.front.connections if self.carrier is Carrier.FRONT else len(self.lane.connections)

    def reload(self, policy: str) -> int:
        """Swap in another policy; how many connections were cut."""
        self.policy_file.write_text(policy)
        generation = load_generation(self.config, {}, self.gate.generation)

        async def swap() -> int:
            front = 0 if self.front_gate is self.gate else self.front_gate.swap(generation)
            return self.gate.swap(generation) + front

        return self.call(swap())

    def close(self) -> None:
        """Stop it, and wait until it has."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive(), "the proxy did not stop"
        if self._failure is not None:
            raise self._failure

    # clients

    def connect(self) -> Wire:
        """A new connection."""
        if self._listener is None:
            return Wire(socket.create_connection(self.address, timeout=10))
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        sock.connect(self._listener.path)
        return Wire(sock)

    def ask(self, host: str, port: int, path: str = "/", method: str = "GET") -> Reply:
        """A plain request on a connection of its own."""
        with self.connect() as wire:
            wire.send(f"{method} http://{host}:{port}{path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            return wire.reply(method)

    def tunnel(self, host: str, port: int) -> tuple[Wire, Reply]:
        """A connection after its CONNECT, and the answer to that."""
        wire = self.connect()
        wire.send(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        return wire, wire.reply("CONNECT")

    def secure(self, wire: Wire, name: str, *alpn: str, ca: bytes | None = None) -> Wire:
        """TLS inside a tunnel; raises ssl.SSLError or OSError where the proxy ends it."""
        context = trusting(ca or self.authority.certificate_pem, alpn)
        try:
            return Wire(context.wrap_socket(wire.carrier, server_hostname=name))
        except BaseException:
            wire.close()
            raise

    @contextlib.contextmanager
    def inside(self, host: str, port: int, *alpn: str, ca: bytes | None = None) -> Iterator[Wire]:
        """TLS through an allowed tunnel; whatever ends it is the block's affair."""
        wire, reply = self.tunnel(host, port)
        with wire:
            assert reply.status == 200, reply
            with self.secure(wire, host, *alpn, ca=ca) as secured:
                yield secured

    @contextlib.contextmanager
    def http2(self, host: str, port: int, *, flow_control: bool = True, strict: bool = True) -> Iterator[Http2]:
        """An HTTP/2 client through an allowed tunnel."""
        with self.inside(host, port, "h2") as wire:
            yield Http2(wire, flow_control=flow_control, strict=strict)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a state of the lane."""
        from rig.ledger import wait_until

        wait_until(condition, what)
