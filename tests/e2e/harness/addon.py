"""The addon under stock mitmdump, with nothing else of ours in front."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness.namespace import HarnessError
from harness.proxy import START_SECONDS, ProxyProcess

if TYPE_CHECKING:
    from harness.namespace import Namespace
    from harness.proxy import Start

MITMDUMP = Path(sys.executable).with_name("mitmdump")
SCRIPT = Path(__file__).parents[3] / "egress" / "mitm" / "addon.py"


class AddonProcess(ProxyProcess):
    """mitmdump with the script; `script` is a copy that a test may break. Options come as `name=value`."""

    def __init__(self, namespace: Namespace, folder: Path, start: Start) -> None:
        host, _, port = start.listen.rpartition(":")
        self._listen = host, int(port)
        super().__init__(namespace, folder, start)

    @property
    def script(self) -> Path:
        """The script that mitmdump has loaded."""
        return self.folder / "addon.py"

    def _command(self, start: Start) -> list[str]:
        self.script.write_text(SCRIPT.read_text())
        config = self.folder / "egress.yaml"
        upstream = f"upstream: {{ca: {start.upstream_ca}}}\nstate_dir: {self.state}\n"
        config.write_text(start.config + upstream)
        host, port = self._listen
        settings = (f"egress_policy={self.policy_file}", f"egress_config={config}", *start.extra)
        return [
            str(MITMDUMP),
            *("--listen-host", host, "--listen-port", str(port), "-s", str(self.script)),
            *("--set", f"confdir={self.folder / 'confdir'}"),
            *(word for setting in settings for word in ("--set", setting)),
        ]

    def _wait_ready(self) -> tuple[str, int]:
        # mitmdump listens before its scripts are running, so the port alone says nothing.
        while time.monotonic() < self.started + START_SECONDS and self.process.poll() is None:
            if "egress is in charge" in self.out + self.log:
                return self._listen
            time.sleep(0.05)
        told = f"{self.log} {self.out}"
        self.kill()
        raise HarnessError(f"mitmdump did not start: {told}")
