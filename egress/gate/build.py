"""Builds the gate from the server's configuration: for `egress run`, and for the addon that runs on its own."""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from egress.audit import AuditWriter, Retention, Signer
from egress.audit.stream import Stream
from egress.audit.stream_target import Connection, Datagrams, Output
from egress.audit.stream_text import SyslogText
from egress.certs import BUNDLE_NAME, write_bundle, write_roots
from egress.config import Durability, StreamKind, load_policies, policy_of
from egress.credentials import CredentialStore, identity_token, needs_key, placeholder_key, placeholders_of
from egress.errors import ConfigError, StartError, StateError
from egress.gate.endpoints import METADATA_ADDRESSES, Endpoints
from egress.gate.enrol import enrol
from egress.gate.fetching import ROOTS, LocalSecrets, build_broker, build_way
from egress.gate.floods import Floods
from egress.gate.gate import Gate, GateLimits
from egress.gate.generation import Generation
from egress.gate.given_book import GivenBook
from egress.gate.judged_body import BodyRoom
from egress.gate.own import OwnListeners
from egress.gate.record import Recorder
from egress.gate.resolver import Resolver
from egress.gate.roster import Member, Roster
from egress.policy import DEFAULT_SANDBOX, telling
from egress.review.lint import Severity, check_loaded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Mapping, MutableMapping, Sequence
    from pathlib import Path

    from egress.certs import Authority
    from egress.config import LoadedPolicy, PolicySource, SandboxDefinition, ServerConfig, StreamConfig
    from egress.credentials.wanted import SecretService
    from egress.errors import Problem
    from egress.gate.given import GivenNames
    from egress.gate.record import AuditSink
    from egress.gate.resolver import NameService
    from egress.policy import Policy, Sandbox

# What judging may take beyond its three waits, on a busy machine.
_SLACK_SECONDS = 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trust:
    """PEM files: the roots that upstreams are verified against, and the bundle that clients use."""

    roots: Path
    bundle: Path


def load_generation(
    config: ServerConfig,
    env: MutableMapping[str, str],
    previous: Generation | None = None,
    *,
    kept: bool = False,
    registered: Sequence[SandboxDefinition] | None = None,
) -> Generation:
    """Read the policy files into the next generation. Raises ConfigError with every problem; nothing is half-used.

    `kept`: what is read was judged, and kept, by an earlier start, so whose the files are now does not matter.
    `registered`: the sandboxes that were registered at run time; None: there never was one.
    """
    if not config.policies and not config.sandboxes:
        raise StartError("no policy is named", hint="use --policy NAME or --policy FILE, for example --policy starter")
    groups = dict.fromkeys([config.policies, *((*config.policies, *own.policies) for own in config.sandboxes)])
    policies = load_policies(list(groups), secrets=config.secrets, presets=config.presets)
    loaded = dict(zip(groups, policies, strict=True))
    common = loaded[config.policies]
    files = tuple(dict.fromkeys(path for policy in policies for path in policy.files))
    now = datetime.now(UTC)
    checks = [check_loaded(policy, now=now, kept=kept) for policy in policies]
    refused = dict.fromkeys(problem for checked in checks for problem in checked.problems(Severity.ERROR))
    if refused:
        raise ConfigError(list(refused))
    for warning in dict.fromkeys(problem for checked in checks for problem in checked.problems(Severity.WARNING)):
        logger.warning("%s", warning)
    if config.identity is not None and (unfit := tuple(config.identity.problems(common.secrets))):
        raise ConfigError(unfit)
    roster = _roster(config, loaded, registered)
    policy = common.of(DEFAULT_SANDBOX) if roster is None else common.policy
    key = placeholder_key(config.state_dir) if needs_key(common.secrets) else b""
    placeholders = placeholders_of(common.secrets, key)
    if previous is None:
        credentials = CredentialStore(common.secrets, env=env, placeholders=placeholders)
    else:
        credentials = previous.credentials.reloaded(common.secrets, env=env, placeholders=placeholders)
    collisions = credentials.collisions()
    if collisions:
        raise ConfigError(list(collisions))
    credentials.scrub_environment(env)
    for problem in (*credentials.problems(), *credentials.warnings()):
        logger.warning("%s", problem)
    number = 1 if previous is None else previous.number + 1
    return Generation(number, policy, credentials, files, roster, common.policy.scopes)


def _roster(
    config: ServerConfig,
    loaded: Mapping[tuple[PolicySource, ...], LoadedPolicy],
    registered: Sequence[SandboxDefinition] | None,
) -> Roster | None:
    """All sandboxes; None where there never was one. Raises ConfigError for rules that one cannot have."""
    members: list[Member] = []
    problems: list[Problem] = []
    written = {sources: WrittenOut(policy.policy) for sources, policy in loaded.items()}
    for own in config.sandboxes:
        try:
            members.append(Member(own, written[(*config.policies, *own.policies)].of(own.sandbox)))
        except ConfigError as error:
            problems += error.problems
    common = loaded[config.policies].policy
    for own in registered or ():
        try:
            members.append(enrol(common, common.scopes, own))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    # Once there was one, whoever is none stays unknown, also after the last has gone.
    return Roster(members) if members or registered is not None else None


class WrittenOut:
    """A policy written out for sandboxes: one object for all to which it says the same."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._tell = telling(policy.scopes)
        self._made: dict[Hashable, Policy] = {}

    def of(self, sandbox: Sandbox) -> Policy:
        """The policy of one. Raises ConfigError for a template that it cannot fill in."""
        told = self._tell(sandbox)
        if told not in self._made:
            self._made[told] = policy_of(self._policy, sandbox, whole=True)
        return self._made[told]


def make_folder(path: Path) -> None:
    """Make a folder of our own, for us alone, if it is not there. Raises StateError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"cannot make the folder `{path}`: {error.strerror}", hint="name a folder that can be written"
        ) from error


def write_trust(config: ServerConfig, authority: Authority) -> Trust:
    """Write whom we trust upstream, and what clients use in place of the system's roots. Raises StateError."""
    trust = Trust(config.own_dir / ROOTS, config.own_dir / BUNDLE_NAME)
    write_roots(trust.roots, config.upstream.ca)
    write_bundle(trust.bundle, authority.trusted_pem, config.upstream.ca)
    return trust


def open_audit(config: ServerConfig, on_change: Callable[[], None] = lambda: None) -> AuditWriter:
    """Start the audit writer. Raises AuditError: without a record nothing may pass."""
    make_folder(config.audit.path.parent)
    audit = config.audit
    writer = AuditWriter(
        audit.path,
        flush_interval=audit.flush_interval,
        capacity=audit.queue,
        on_change=on_change,
        signer=Signer.load_or_create(audit.path.parent),
        retention=Retention(
            None if audit.keep_days is None else audit.keep_days * 86_400, audit.keep_rows, audit.keep_bytes
        ),
        stream=None if audit.stream is None else build_stream(audit.stream),
    )
    writer.start()
    return writer


def build_stream(config: StreamConfig) -> Stream:
    """What sends rows on; it begins with the writer."""
    to = config.to
    if to.kind is StreamKind.STDOUT:
        return Stream(Output(), capacity=config.buffer, name=str(to))
    text = SyslogText(config.facility, socket.gethostname(), os.getpid())
    if to.kind is StreamKind.TCP:
        return Stream(Connection((to.host, to.port), text), capacity=config.buffer, name=str(to))
    address = to.path if to.kind is StreamKind.UNIX else (to.host, to.port)
    return Stream(Datagrams(address, text), capacity=config.buffer, name=str(to))


def build_resolver(config: ServerConfig) -> Resolver:
    """The name service that asks name servers itself: one for all processes."""
    return Resolver(
        pins=config.resolve,
        servers=config.dns.servers,
        lifetime_seconds=config.limits.resolve_seconds,
        zones=config.dns.zones,
    )


def build_book(config: ServerConfig) -> GivenBook | None:
    """The book of synthetic addresses, still closed; None: nobody gets one."""
    if not config.dns.gives:
        return None
    return GivenBook(config.state_dir, config.dns.ranges, config.dns.keep_seconds)


def build_gate(
    config: ServerConfig,
    audit: AuditSink,
    generation: Generation,
    names: NameService | None = None,
    fetcher: SecretService | None = None,
    *,
    commit: Callable[[float], Awaitable[bool]] | None = None,
    given: GivenNames | None = None,
) -> Gate:
    """A gate that judges by this generation, records in this audit, and resolves with `names` (None: its own).

    `fetcher` fetches values of secrets (None: one of its own, whose fetches are recorded where `audit` can). `commit`
    has what the audit took on the disk; `durability: strict` needs it. Raises StartError without.
    """
    strict = config.audit.durability is Durability.STRICT
    if strict and commit is None:
        raise StartError("this audit cannot be written before each request", hint="leave out `audit: durability`")
    names = names or build_resolver(config)
    if fetcher is None:
        note = audit.note if isinstance(audit, AuditWriter) else (lambda _kind, _detail: None)
        fetcher = LocalSecrets(build_broker(config, names, note))
    limits = GateLimits(
        connect_seconds=config.limits.connect_seconds,
        # Room in the queue, and with `durability: strict` the commit as well.
        judge_seconds=config.limits.resolve_seconds
        + 2 * config.limits.audit_seconds
        + config.limits.secret_seconds
        + _SLACK_SECONDS,
    )
    own = OwnListeners(addresses=frozenset() if config.identity is None else METADATA_ADDRESSES)
    return Gate(
        generation=generation,
        resolver=names,
        recorder=Recorder(
            audit,
            wait_seconds=config.limits.audit_seconds,
            show_query_values=config.audit.query_values,
            commit=commit if strict else None,
            floods=Floods(config.audit.denial_rows, audit.offer),
        ),
        limits=limits,
        bodies=BodyRoom(config.limits.judged_body),
        via=config.upstream.via,
        fetcher=fetcher,
        own=own,
        way=build_way(config, names, own),
        endpoints=None if config.identity is None else Endpoints(config.identity, identity_token(config.state_dir)),
        given=given,
    )
