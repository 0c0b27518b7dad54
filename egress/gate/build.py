"""Builds the gate from the server's configuration: for `egress run`, and for the addon that runs on its own."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from egress.audit import AuditWriter
from egress.certs import BUNDLE_NAME, write_bundle, write_roots
from egress.config import load_policy
from egress.credentials import CredentialStore
from egress.errors import ConfigError, StartError, StateError
from egress.gate.gate import Gate, GateLimits
from egress.gate.generation import Generation
from egress.gate.judged_body import BodyRoom
from egress.gate.record import Recorder
from egress.gate.resolver import Resolver
from egress.review.lint import Severity, check_loaded

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from pathlib import Path

    from egress.certs import Authority
    from egress.config import ServerConfig
    from egress.gate.record import AuditSink
    from egress.gate.resolver import NameService

# What judging may take beyond its two waits, on a busy machine.
_SLACK_SECONDS = 5.0

ROOTS = "upstream-roots.pem"

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
) -> Generation:
    """Read the policy files into the next generation. Raises ConfigError with every problem; nothing is half-used.

    `kept`: what is read was judged, and kept, by an earlier start, so whose the files are now does not matter.
    """
    if not config.policies:
        raise StartError("no policy is named", hint="use --policy NAME or --policy FILE, for example --policy starter")
    loaded = load_policy(config.policies, secrets=config.secrets, presets=config.presets)
    checked = check_loaded(loaded, now=datetime.now(UTC), kept=kept)
    if not checked.usable:
        raise ConfigError(checked.problems(Severity.ERROR))
    for warning in checked.problems(Severity.WARNING):
        logger.warning("%s", warning)
    if previous is None:
        credentials = CredentialStore(loaded.secrets, env=env)
    else:
        credentials = previous.credentials.reloaded(loaded.secrets, env=env)
    credentials.scrub_environment(env)
    for problem in (*credentials.problems(), *credentials.warnings()):
        logger.warning("%s", problem)
    number = 1 if previous is None else previous.number + 1
    return Generation(number, loaded.policy, credentials, loaded.files)


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
    trust = Trust(config.state_dir / ROOTS, config.state_dir / BUNDLE_NAME)
    write_roots(trust.roots, config.upstream.ca)
    write_bundle(trust.bundle, authority.certificate_pem, config.upstream.ca)
    return trust


def open_audit(config: ServerConfig, on_change: Callable[[], None] = lambda: None) -> AuditWriter:
    """Start the audit writer. Raises AuditError: without a record nothing may pass."""
    make_folder(config.audit.path.parent)
    audit = config.audit
    writer = AuditWriter(audit.path, flush_interval=audit.flush_interval, capacity=audit.queue, on_change=on_change)
    writer.start()
    return writer


def build_resolver(config: ServerConfig) -> Resolver:
    """The name service that asks name servers itself: one for all processes."""
    return Resolver(pins=config.resolve, lifetime_seconds=config.limits.resolve_seconds)


def build_gate(
    config: ServerConfig, audit: AuditSink, generation: Generation, names: NameService | None = None
) -> Gate:
    """A gate that judges by this generation, records in this audit, and resolves with `names` (None: its own)."""
    limits = GateLimits(
        connect_seconds=config.limits.connect_seconds,
        judge_seconds=config.limits.resolve_seconds + config.limits.audit_seconds + _SLACK_SECONDS,
    )
    return Gate(
        generation=generation,
        resolver=names or build_resolver(config),
        recorder=Recorder(audit, wait_seconds=config.limits.audit_seconds, show_query_values=config.audit.query_values),
        limits=limits,
        bodies=BodyRoom(config.limits.judged_body),
        via=config.upstream.via,
    )
