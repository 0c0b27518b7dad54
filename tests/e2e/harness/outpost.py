"""A sandbox behind `egress gateway`, and the real proxy on that gateway; the world's namespace is its internet.

    sandbox  eth0 10.78.255.2, all of 10.78/16, fd78::2  --  lan0 10.78.255.1, fd78::1
    gateway  wan0 10.79.N.2, fd79:N::2                     --  10.79.N.1, fd79:N::1  the world, and every other address

The gateway forwards, and the world knows the way back: what does not come through was refused by the rules. That the
way is open without them is held before they are set.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from typing import TYPE_CHECKING

from harness.attacker import Attacker
from harness.namespace import Namespace
from harness.proxy import COMMAND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.world import World

TRANSPARENT, DNS = 3129, 5300
SANDBOX, GATEWAY, GATEWAY6 = "10.78.255.2", "10.78.255.1", "fd78::1"
# Where a datagram is sent once, before there are rules.
ANYWHERE = "93.184.216.88"
HEAD_SECONDS = 1.0
CONFIG = (
    "audit: {flush_interval: 0.02, denial_rows: 1000000}\n"
    f"limits: {{drain_seconds: 3, head_seconds: {HEAD_SECONDS}}}\n"
    f"transparent: {{listen: ['0.0.0.0:{TRANSPARENT}', '[::]:{TRANSPARENT}']}}\n"
)
_COUNT = itertools.count()
_RECENT = 1_000


class Machine(Namespace):
    """A namespace with nothing in it but loopback."""

    def _furnish(self, nameserver: str) -> None:
        self.ip("link", "set", "lo", "up")
        self.write_settings(nameserver)


class Outpost:
    """One sandbox, one gateway, one proxy. `number` is its own in its world."""

    def __init__(self, world: World, number: int, policy: str, env: Mapping[str, str]) -> None:
        # Imported late: the world imports this module.
        from harness.world import NAMESERVER4

        self.world = world
        self._nameserver = NAMESERVER4, 53
        self.gateway = Machine(NAMESERVER4)
        self.sandbox = Machine(GATEWAY)
        try:
            self._link(number)
            self._hold_open()
            dns = f"dns: {{listen: ['{GATEWAY}:{DNS}', '[{GATEWAY6}]:{DNS}']}}\n"
            self.proxy = world.start(policy, inside=self.gateway, listen="127.0.0.1:0", env=env, config=CONFIG + dns)
            self._confine()
            assert self.proxy.address
        except BaseException:
            self._remove()
            raise

    def _link(self, number: int) -> None:
        world, gateway, sandbox = self.world.namespace, self.gateway, self.sandbox
        gateway.ip("link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", sandbox.name)
        gateway.ip("link", "add", "wan0", "type", "veth", "peer", "name", f"out{number}", "netns", world.name)
        for machine, link, ipv4, ipv6 in (
            (sandbox, "eth0", f"{SANDBOX}/32", "fd78::2/64"),
            (gateway, "lan0", f"{GATEWAY}/16", f"{GATEWAY6}/64"),
            (gateway, "wan0", f"10.79.{number}.2/30", f"fd79:{number}::2/64"),
            (world, f"out{number}", f"10.79.{number}.1/30", f"fd79:{number}::1/64"),
        ):
            machine.ip("address", "add", ipv4, "dev", link)
            machine.ip("address", "add", ipv6, "dev", link, "nodad")
            machine.ip("link", "set", link, "up")
        # Any address of the sandboxes' range is this one's, so that a case may have a client of its own.
        sandbox.ip("route", "add", f"{GATEWAY}/32", "dev", "eth0", "src", SANDBOX)
        sandbox.ip("route", "add", "local", "10.78.0.0/16", "dev", "lo", "src", SANDBOX)
        sandbox.ip("route", "add", "default", "via", GATEWAY, "src", SANDBOX)
        sandbox.ip("-6", "route", "add", "default", "via", GATEWAY6)
        gateway.ip("route", "add", "default", "via", f"10.79.{number}.1")
        gateway.ip("-6", "route", "add", "default", "via", f"fd79:{number}::1")
        for name in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
            gateway.set(name, 1)

    def _hold_open(self) -> None:
        self._arrives(self.sandbox, (ANYWHERE, 443), "the sandbox reaches nobody even without rules")

    def flush(self) -> None:
        """Wait until what left the gateway before has been seen: packets on one link keep their order."""
        self._arrives(self.gateway, self._nameserver, "the gateway reaches nobody")

    def _arrives(self, machine: Machine, target: tuple[str, int], problem: str) -> None:
        # No message of DNS, so that nothing comes of it there.
        mark = b"egress outpost %d" % next(_COUNT)
        with machine.socket(kind=socket.SOCK_DGRAM) as sock:
            sock.sendto(mark, target)
        deadline = time.monotonic() + 5
        while not any(packet.data == mark for packet in self.world.tap.packets[-_RECENT:]):
            assert time.monotonic() < deadline, problem
            time.sleep(0.002)

    def _confine(self) -> None:
        done = self.gateway.run(
            [str(COMMAND), "gateway", "up", "--interface", "lan0", "--port", str(TRANSPARENT), "--dns-port", str(DNS)],
            env={"PATH": os.environ["PATH"]},
        )
        assert done.returncode == 0, done.stderr

    def client(self, target: tuple[str, int], source: str) -> Attacker:
        """Code in the sandbox that connects to `target`, and believes to be there."""
        return Attacker(self.sandbox, target, source)

    def close(self) -> None:
        """Stop the proxy, hold it to a clean end, and remove the machines."""
        try:
            self.proxy.close()
        finally:
            self._remove()

    def _remove(self) -> None:
        self.sandbox.close()
        self.gateway.close()
