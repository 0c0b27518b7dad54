"""Runs the proxy: puts the processes together, serves, reloads when asked or when files change, drains on SIGTERM.

Order of start: everything that can be wrong is found before the first connection is accepted. What is shared between
processes and costs time or secrets to make is made here, once, before the first of them is forked.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from egress.audit import notes
from egress.certs import Authority, scrub_key_logging
from egress.config import MitmStart
from egress.credentials import forbid_dumps, redact_logs
from egress.gate.build import make_folder, write_trust
from egress.gate.fetching import check_way, take_key, take_password
from egress.proxy.client_tls import ClientTls
from egress.proxy.entrance import Kind
from egress.proxy.upstream_tls import UpstreamTls
from egress.server import hub
from egress.server.admin import Admin
from egress.server.admin_socket import AdminSocket
from egress.server.begin import begin, keep_first
from egress.server.ca_renewal import CaRenewal
from egress.server.channel import make_pair
from egress.server.children import Role, Start
from egress.server.control import Control, claim
from egress.server.listening import Listening
from egress.server.mitm_process import MitmProcess
from egress.server.registrations import Registrations
from egress.server.registry import read_registry
from egress.server.reloads import Reloads
from egress.server.requests import Requests
from egress.server.status import Place, Status
from egress.server.supervisor import HUB, MITM, Supervisor
from egress.server.worker import Worker

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from egress.config import SandboxDefinition, ServerConfig
    from egress.gate.generation import Generation
    from egress.policy import Policy
    from egress.server.begin import Begun

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Started:
    """What a caller tells people once the proxy listens. `warning`: what they must not overlook, if anything.

    `listening`: `HOST:PORT` or `unix:PATH` of each listener.
    `sandboxes`: the policy of each, by name; None: clients are not told apart.
    `endpoints`: `HOST:PORT` of the identity endpoints, `admin`: where the proxy tells of itself; empty: there is none.
    `upstream`: the URL of the proxy that connections go out by; empty: none. `forwards`: each listener, and where it
    leads. `transparent`: where redirected connections come to. `dns`: `HOST:PORT` of each listener for questions.
    """

    listening: tuple[str, ...]
    ca: Path
    bundle: Path
    audit: Path
    policy: Policy
    warning: str = ""
    sandboxes: Mapping[str, Policy] | None = None
    endpoints: str = ""
    upstream: str = ""
    forwards: tuple[tuple[str, str], ...] = ()
    transparent: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    admin: str = ""


def serve(
    config: ServerConfig,
    on_started: Callable[[Started], None],
    opened: Mapping[tuple[str, int], socket.socket] | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. Raises EgressError if it cannot start.

    `opened`: sockets that are bound already, by the addresses of the configuration that they stand for.
    """
    forbid_dumps()
    scrub_key_logging()
    _allow_open_files()
    make_folder(config.state_dir)
    make_folder(config.own_dir)
    take_key(config)
    take_password(config)
    lock = claim(config.own_dir)
    try:
        return _serve(config, lock, on_started, opened or {})
    finally:
        os.close(lock)


def _serve(
    config: ServerConfig,
    lock: int,
    on_started: Callable[[Started], None],
    opened: Mapping[tuple[str, int], socket.socket],
) -> int:
    registered = _registered(config)
    begun = begin(config, os.environ, registered)
    generation = begun.generation
    authority = Authority.load_or_create(config.ca_dir)
    trust = write_trust(config, authority)
    tls = ClientTls(authority), UpstreamTls(trust.roots)
    check_way(config)
    with closing(Listening(config, opened)) as listening, _admin_socket(config) as admin:
        told = listening.told()
        supervisor, leave = _compose(config, generation, (authority, tls, trust.roots), listening, admin)
        supervisor.closers += [lambda: os.close(lock), listening.leave]
        redact_logs(supervisor.secrets)
        reloads = Reloads(config, supervisor, begun, leave)
        reloads.renewal = CaRenewal(config, authority)
        registrations = Registrations(config.own_dir, supervisor, reloads, registered, config.doors)
        answering = reloads, registrations
        with supervisor.signals(), _controlled(config, supervisor, answering, (listening, admin)):
            supervisor.start(warm=config.mitm is MitmStart.WARM, recorded=listening.begin)
            if not supervisor.stopping:
                _note_start(supervisor, begun, told)
                keep_first(config, begun)
                reloads.watch()
                sandboxes = None if generation.roster is None else generation.roster.policies
                files = authority.certificate_path, trust.bundle, config.audit.path
                where = "".join(listening.told(Kind.ENDPOINTS))
                way = config.upstream.proxy
                started = Started(
                    told,
                    *files,
                    generation.policy,
                    begun.warning,
                    sandboxes,
                    endpoints=where,
                    upstream="" if way is None else str(way.address),
                    forwards=listening.forwards(),
                    transparent=listening.told(Kind.TRANSPARENT),
                    dns=listening.told(Kind.DNS),
                    admin="" if admin is None else admin.told,
                )
                on_started(started)
            reloads.act()
            while not supervisor.stopping:
                supervisor.turn()
                reloads.act()
                registrations.act()
            listening.close()
            reloads.stop()
            supervisor.drain()
    return 0


def _registered(config: ServerConfig) -> tuple[SandboxDefinition, ...] | None:
    """The sandboxes that were registered before this start and have not expired; None: there never was one."""
    found = read_registry(config.own_dir)
    if found is None:
        return None
    configured = {own.name for own in config.sandboxes}
    for own in found:
        if own.name in configured:
            logger.warning("the sandbox `%s` is configured now, so the one that was registered is not used", own.name)
    now = time.time()
    return tuple(own for own in found if own.name not in configured and (own.expires is None or own.expires > now))


def _note_start(supervisor: Supervisor, begun: Begun, listening: tuple[str, ...]) -> None:
    supervisor.note(*notes.started(listening, begun.generation.digest))
    if begun.kept is not None:
        supervisor.note(notes.Kind.POLICY_LAST_GOOD, begun.warning)


@contextmanager
def _controlled(
    config: ServerConfig,
    supervisor: Supervisor,
    answering: tuple[Reloads, Registrations],
    sockets: tuple[Listening, AdminSocket | None],
) -> Iterator[None]:
    """With a control socket, and what `admin` serves, until the end of the last process."""
    reloads, registrations = answering
    listening, admin_socket = sockets
    place = Place(
        listening.told(), time.monotonic(), listening.listeners(), None if admin_socket is None else admin_socket.told
    )
    status = Status(config, supervisor, reloads, place, listening.closed)
    admin = None if admin_socket is None else Admin(admin_socket, supervisor.events, status.ask_metrics)
    if admin is not None:
        supervisor.closers.append(admin.close_inherited)
    control = Control(config.own_dir, supervisor.events, Requests(reloads, status, registrations).handle)
    supervisor.closers.append(control.close_inherited)
    try:
        yield
    finally:
        reloads.stop()
        control.close()
        if admin is not None:
            admin.close()


@contextmanager
def _admin_socket(config: ServerConfig) -> Iterator[AdminSocket | None]:
    """The socket of `admin`, if there is to be one; open for longer than those that clients come to."""
    if config.admin is None:
        yield None
        return
    with closing(AdminSocket(config.admin)) as admin:
        yield admin


def _compose(
    config: ServerConfig,
    generation: Generation,
    trust: tuple[Authority, tuple[ClientTls, UpstreamTls], Path],
    listening: Listening,
    admin: AdminSocket | None,
) -> tuple[Supervisor, Callable[[], None]]:
    """The processes, each with what it keeps of what is open here; and what closes, in a new one, all of it."""
    authority, tls, roots = trust
    into, out_of = make_pair()

    def leaves(*ends: socket.socket) -> Callable[[], None]:
        def leave() -> None:
            supervisor.leave()
            for end in ends:
                end.close()

        return leave

    def be_hub(start: Start) -> int:
        known = start.generation.credentials.known
        return asyncio.new_event_loop().run_until_complete(hub.serve(start.control, config, known))

    sockets = [sock for sock, _ in listening.entrances]
    ports = listening.ports | (frozenset() if admin is None else admin.ports)
    worker = Worker(config, authority, tls, listening.entrances, into, ports=ports)
    mitm = MitmProcess(config, (authority, roots), out_of, ports)
    nothing = leaves(*sockets, into, out_of)
    roles = {
        HUB: Role(be_hub, nothing, judges=False),
        **{
            f"worker {number}": Role(partial(worker.main, questions=number == 1), leaves(out_of))
            for number in range(1, config.workers + 1)
        },
        MITM: Role(mitm.main, leaves(*sockets, into)),
    }
    supervisor = Supervisor(roles, generation, out_of, drain_seconds=config.limits.drain_seconds)
    return supervisor, nothing


def _allow_open_files() -> None:
    """Raise the soft limit of descriptors to the hard one: a connection takes two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
