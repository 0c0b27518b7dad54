"""The world of the real clients: nginx at allowed.test, recorders elsewhere, and one proxy that injects a key."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.nginx import Nginx
from harness.world import ALLOWED4, World

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess
    from types import TracebackType
    from typing import Self

    from harness.nginx import Seen
    from harness.proxy import Row

KEY = "egress-canary-51f0c8a7e2d94b"
FLUSH = 0.3

POLICY = """\
version: 1
default: deny
secrets:
  key: {env: EGRESS_TEST_KEY, hosts: [allowed.test, stream.test]}
rules:
  - name: real clients
    allow: allowed.test:443
    inject: {X-Api-Key: "${key}"}
  - name: HTTP/2 for those who speak it
    allow: stream.test:443
    http2: true
    inject: {X-Api-Key: "${key}"}
  - name: plain http
    allow: allowed.test:80
"""


@dataclass
class Window:
    """What happened since a moment: audit rows of the proxy, requests at nginx."""

    station: Station
    rows_before: int
    seen_before: int

    def seen(self, count: int = 0) -> list[Seen]:
        """What nginx saw; waits for `count` requests."""
        return self.station.nginx.wait_seen(self.seen_before + count)[self.seen_before :]

    def rows(self, count: int) -> list[Row]:
        """The audit rows; waits for `count` of them, and a moment more for any that are too many."""
        deadline = time.monotonic() + 3
        while len(found := self.station.proxy.rows()[self.rows_before :]) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        if len(found) <= count:
            time.sleep(FLUSH)
        return self.station.proxy.rows()[self.rows_before :]

    def verdicts(self, count: int) -> list[str]:
        """The verdicts of the rows."""
        return [str(row["verdict"]) for row in self.rows(count)]


class Station:
    """`run` runs a client in the namespace, pointed at the proxy; `home` is its home folder.

    `lane` carries every connection; "": what each rule needs.
    """

    def __init__(self, folder: Path, lane: str = "") -> None:
        self.lane = lane
        self.world = World(folder / "world", everywhere=False)
        self.home = folder / "home"
        self.home.mkdir()
        try:
            self.nginx = Nginx(self.world.namespace, self.world.authority, folder / "nginx", ALLOWED4)
            self.nginx.root.joinpath("index.html").write_text("hello from allowed\n")
            with self.world.carried_by(lane):
                self.proxy = self.world.start(POLICY, env={"EGRESS_TEST_KEY": KEY})
            self.env = self.world.client_env(self.proxy, self.home)
            assert self.proxy.address
        except BaseException:
            self.world.close()
            raise

    def window(self) -> Window:
        """From now on; what came before has been flushed."""
        time.sleep(FLUSH)
        return Window(self, len(self.proxy.rows()), len(self.nginx.seen()))

    def run(self, *command: str, timeout: float = 60, cwd: Path | None = None, **env: str) -> CompletedProcess[str]:
        """Run a client; it may not know the key, whatever it prints."""
        done = self.world.namespace.run(command, env={**self.env, **env}, timeout=timeout, cwd=cwd or self.home)
        assert KEY not in done.stdout + done.stderr, f"{command[0]} was shown the key"
        return done

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            assert KEY not in self.proxy.log + self.proxy.out, "the key is in the proxy's log"
            lanes = {row["lane"] for row in self.proxy.rows()}
            assert not self.lane or lanes <= {self.lane}, f"lanes {lanes} carried what was {self.lane}'s"
            self.proxy.close()
        finally:
            self.nginx.close()
            self.world.close()
