"""Runs the proxy: start, serve, reload on SIGHUP, drain on SIGTERM.

Order of start: everything that can be wrong is found before the first connection is accepted. Order of stop: accept
no more, let what is under way end (up to a limit), record its outcomes, close the audit.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import resource
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress.certs import Authority
from egress.credentials import redact_logs
from egress.errors import ConfigError, EgressError
from egress.gate.build import build_gate, load_generation, make_folder, open_audit
from egress.mitm import options_profile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from egress.audit import AuditWriter
    from egress.config import ServerConfig
    from egress.gate.gate import Gate
    from egress.mitm.listener import MitmListener
    from egress.policy import Policy

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.05
_FLUSH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Started:
    """What a caller tells people once the proxy listens."""

    address: tuple[str, int]
    ca: Path
    bundle: Path
    audit: Path
    policy: Policy


def serve(config: ServerConfig, on_started: Callable[[Started], None]) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. Raises EgressError if it cannot start."""
    options_profile.scrub_key_logging()
    _allow_open_files()
    make_folder(config.state_dir)
    generation = load_generation(config, os.environ)
    authority = Authority.load_or_create(config.ca_dir)
    writer = open_audit(config)
    try:
        return asyncio.run(
            _Server(config, writer, authority).run(build_gate(config, writer, generation), on_started)
        )
    finally:
        if not writer.close(_FLUSH_SECONDS):
            logger.error("not everything could be recorded before the end")


def _allow_open_files() -> None:
    """Raise the soft limit of descriptors to the hard one: a connection takes two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Server:
    def __init__(self, config: ServerConfig, writer: AuditWriter, authority: Authority) -> None:
        self._config = config
        self._writer = writer
        self._authority = authority
        self._stop = asyncio.Event()

    async def run(self, gate: Gate, on_started: Callable[[Started], None]) -> int:
        """Listen, tell, and wait for a signal."""
        from egress.mitm.build import build_lane, client_bundle  # noqa: PLC0415 - mitmproxy is imported late
        from egress.mitm.listener import MitmListener  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        redact_logs(gate.secrets)
        lane = build_lane(self._config, gate, self._authority)
        listener = MitmListener(lane, idle_seconds=int(self._config.limits.idle_seconds))
        warning = options_profile.check_h2()
        if warning is not None:
            logger.warning("%s", warning)
        bundle = client_bundle(self._config, self._authority)
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGINT, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload, gate)
        address = await listener.listen(*self._config.listen)
        self._writer.note("start", f"listening on {address[0]}:{address[1]}")
        on_started(
            Started(address, self._authority.certificate_path, bundle, self._config.audit.path, gate.generation.policy)
        )
        await asyncio.to_thread(importlib.import_module, "egress.gate.lookup")
        await self._stop.wait()
        await self._drain(gate, listener)
        return 0

    def _reload(self, gate: Gate) -> None:
        """Swap in the files as they are now; a file that does not load changes nothing."""
        try:
            generation = load_generation(self._config, os.environ, gate.generation)
        except EgressError as error:
            problems = error.problems if isinstance(error, ConfigError) else (error,)
            told = "\n".join(str(problem) for problem in problems)
            logger.error("reload: the policy was kept, because its files do not load:\n%s", told)  # noqa: TRY400 - the problems say it all
            self._writer.note("reload-refused", f"kept {gate.generation.policy.digest}")
            return
        except Exception:
            logger.exception("reload: the policy was kept")
            return
        before = gate.generation.policy.digest
        cut = gate.swap(generation)
        self._writer.note("reload", f"{before} to {generation.policy.digest}; {cut} connections cut")
        logger.warning("reload: policy generation %d is in force, %d connections cut", generation.number, cut)

    async def _drain(self, gate: Gate, listener: MitmListener) -> None:
        """Let what is under way end, up to the limit; new requests are refused meanwhile."""
        listener.stop_accepting()
        gate.draining = True
        deadline = time.monotonic() + self._config.limits.drain_seconds
        while gate.open and time.monotonic() < deadline:  # noqa: ASYNC110 - many exchanges, no single event
            await asyncio.sleep(_POLL_SECONDS)
        if gate.open:
            logger.warning("stopping with %d requests under way", len(gate.open))
        await listener.close()
        self._writer.note("stop", "")
