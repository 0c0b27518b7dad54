"""Sandboxes behind a real gateway: `egress gateway up`, and a real proxy there."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from rig.internet import DATABASE, SERVER, Internet, end_proxy, start_proxy, tree
from rig.netns import GATEWAY, GATEWAY6, NEIGHBOUR, NEIGHBOUR6, SANDBOX, SANDBOX6

if TYPE_CHECKING:
    from pathlib import Path

ADMIN, EXPLICIT = 9180, 3128
NAMES_AT_MOST = 20
POLICY = f"""\
version: 1
default: deny
rules:
  - {{name: a site that is looked into, allow: site.test, sandboxes: [agent]}}
  - {{name: one whose owner may move it, allow: moving.test, sandboxes: [agent]}}
  - {{name: one that is not opened, allow: "tunnel.test:443", tls: tunnel, sandboxes: [agent]}}
  - {{name: a database, allow: "db.test:{DATABASE}", protocol: tcp, sandboxes: [agent]}}
  - {{name: many names, allow: "*.wild.test", sandboxes: [agent]}}
  - {{name: the neighbour's, allow: theirs.test, sandboxes: [neighbour]}}
"""
CONFIG = f"""\
listen: ["127.0.0.1:{EXPLICIT}", "{GATEWAY}:{EXPLICIT}"]
admin: {{listen: "{GATEWAY}:{ADMIN}", anywhere: true}}
transparent: {{listen: ["0.0.0.0:3129", "[::]:3129"]}}
dns:
  listen: ["{GATEWAY}:5300", "[{GATEWAY6}]:5300", "10.66.2.1:5300", "[fd66:2::1]:5300"]
  servers: [{SERVER}]
  limits: {{parent_names: {NAMES_AT_MOST}/h}}
sandboxes:
  agent: {{source: [{SANDBOX}, "{SANDBOX6}"]}}
  neighbour: {{source: [{NEIGHBOUR}, "{NEIGHBOUR6}"]}}
limits: {{head_seconds: 1, drain_seconds: 1, connect_seconds: 3}}
audit: {{flush_interval: 0.02}}
upstream: {{ca: [roots/test-ca.pem]}}
policy: [policy.yaml]
state_dir: state
"""
UP = ("up", "--interface", "lan0", "--interface", "lan1", "--dns-port", "5300", "--open-port", str(EXPLICIT))


class GatewayWorld(Internet):
    """Two sandboxes with rules of their own, behind one gateway."""

    def prepare(self) -> None:
        """The proxy on the gateway, and the rules that lead to it."""
        (self.folder / "state").mkdir(mode=0o700)
        (self.folder / "policy.yaml").write_text(POLICY)
        (self.folder / "egress.yaml").write_text(CONFIG)
        self.start()
        self._stack.callback(self.stop)
        self.gateway(*UP)

    def start(self) -> None:
        """Start the proxy, and wait until it serves."""
        self.proxy = start_proxy(self.network.gateway, self.folder)
        self.proxy.says(r"admin +http")

    def stop(self) -> None:
        """End the proxy as an administrator does."""
        end_proxy(self.proxy)

    def kill(self) -> None:
        """End every process of the proxy at once, without a word."""
        for pid in tree(self.proxy.popen.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.proxy.__exit__(None, None, None)

    def gateway(self, *words: str) -> str:
        """Run `egress gateway`, and hold it to success."""
        done = self.network.gateway.egress("gateway", *words, apart=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def ca(self) -> Path:
        """What the sandboxes trust."""
        return self.folder / "state" / "ca" / "ca.pem"
