"""The mitm lane as a mitmproxy script: `mitmdump -s egress/mitm/addon.py --set egress_policy=starter`.

The same policy, grants, credentials, denials and audit as `egress run`, with nothing else of ours in front. Loading it
replaces what fails open in mitmproxy's handler class for good: if this script is edited into nonsense, or taken away,
mitmdump reloads it, finds no lane in charge, and denies everything.

Settings, as mitmproxy options or environment variables:

- `egress_policy` or EGRESS_POLICY: a shipped policy's name, or a file
- `egress_config` or EGRESS_CONFIG: a server configuration (state folder, roots, pins, limits)
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mitmproxy import ctx

from egress.mitm import attachment, guard, options_profile

# First of all, before anything that may fail: from here on this process dials nothing without a grant.
guard.install()
options_profile.scrub_key_logging()

from egress.certs import Authority  # noqa: E402 - the guard comes first
from egress.config import ServerOverrides, load_server_config  # noqa: E402
from egress.credentials import redact_logs  # noqa: E402
from egress.errors import EgressError  # noqa: E402
from egress.gate.build import build_gate, load_generation, make_folder, open_audit, write_trust  # noqa: E402
from egress.gate.fetching import LocalSecrets, check_way, take_password  # noqa: E402
from egress.mitm.build import build_lane  # noqa: E402

if TYPE_CHECKING:
    from mitmproxy.addonmanager import Loader
    from mitmproxy.proxy.commands import StartHook
    from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

    from egress.audit import AuditWriter
    from egress.gate.gate import Gate
    from egress.mitm.lane import MitmLane

logger = logging.getLogger(__name__)


class EgressAddon:
    """Puts a lane in charge while it is loaded, and takes it out of charge when anything is not as it must be."""

    def __init__(self) -> None:
        self._lane: MitmLane | None = None
        self._writer: AuditWriter | None = None
        self._gate: Gate | None = None

    def load(self, loader: Loader) -> None:
        """Register our options and set the safe ones."""
        loader.add_option("egress_policy", str, os.environ.get("EGRESS_POLICY", ""), "Policy name or file.")
        loader.add_option("egress_config", str, os.environ.get("EGRESS_CONFIG", ""), "Server configuration file.")
        if ctx.options.mode != ["regular"]:
            logger.error("egress runs in regular mode only; everything is denied")
        options_profile.apply(ctx.options)

    def configure(self, updated: set[str]) -> None:
        """An option changed: unless the whole profile still holds, deny everything."""
        problems = options_profile.problems(ctx.options)
        if problems and updated:
            self._fail("; ".join(problems))

    def running(self) -> None:
        """The proxy is about to serve: build the lane and put it in charge."""
        try:
            self._start()
        except EgressError as error:
            self._fail(str(error))

    def done(self) -> None:
        """The script is unloaded: deny everything from here on."""
        if self._lane is not None:
            attachment.detach(self._lane)
            if isinstance(self._lane.gate.fetcher, LocalSecrets):
                self._lane.gate.fetcher.broker.stop()
            self._lane = None
        if self._gate is not None and self._gate.recorder.floods is not None:
            self._gate.recorder.floods.close()
        if self._writer is not None:
            self._writer.close(5)
            self._writer = None

    def _start(self) -> None:
        options_profile.check(ctx.options)
        named = ctx.options.egress_config
        policy = ctx.options.egress_policy
        overrides = ServerOverrides(policies=(policy,) if policy else ())
        config = load_server_config(Path(named) if named else None, overrides, os.environ)
        make_folder(config.state_dir)
        take_password(config)
        generation = load_generation(config, os.environ)
        authority = Authority.load_or_create(config.ca_dir)
        self._writer = open_audit(config)
        gate = build_gate(config, self._writer, generation, commit=self._writer.commit)
        self._gate = gate
        trust = write_trust(config, authority)
        check_way(config)
        self._lane = build_lane(config, gate, authority, roots=trust.roots, others=_run_other_addons)
        for server in ctx.master.addons.get("proxyserver").servers:
            gate.own.ports.update(address[1] for address in server.listen_addrs)
        redact_logs(gate.secrets)
        attachment.attach(self._lane)
        logger.info("egress is in charge; clients trust %s", authority.certificate_path)

    def _fail(self, problem: str) -> None:
        if self._lane is not None:
            attachment.detach(self._lane)
        # An error while mitmdump starts ends it; later on, what stands in the handler class denies everything.
        logger.error("egress denies everything: %s", problem)


async def _run_other_addons(handler: ProxyConnectionHandler, hook: StartHook) -> None:
    await handler.master.addons.handle_lifecycle(hook)


addons = [EgressAddon()]
