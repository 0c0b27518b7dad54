"""The proxy and the gateway under test: their files, their start, the commands that steer them, what they tell."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.driver.authority import Authority
from bench.soaking.network import GATEWAY, Network, addresses

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

ROOT: Final = Path(__file__).parents[2]
START: Final = "from egress.cli.main import main; main()"
ADMIN: Final = 9180
UPSTREAM_IDLE: Final = 3
_PATIENCE: Final = 60.0
_POLICY: Final = """version: 1
secrets:
  key: {{file: key.txt, hosts: [api.example.com, two.example.com, gone.example.com]}}
rules:
  - {{name: inspected, allow: api.example.com, protocol: [https, wss], inject: {{Authorization: "Bearer ${{key}}"}}}}
  - {{name: vanishing, allow: gone.example.com, protocol: https, inject: {{Authorization: "Bearer ${{key}}"}}}}
  - {{name: HTTP/2, allow: two.example.com, protocol: https, http2: true, inject: {{Authorization: "Bearer ${{key}}"}}}}
  - {{name: plain, allow: web.example.com, protocol: http}}
  - {{name: reading, allow: read.example.com, methods: read-only}}
  - {{name: unopened, allow: tunnel.example.com, tls: tunnel}}
  - {{name: database, allow: "db.example.com:5432", protocol: tcp}}
  - {{name: changes with each reload, allow: reload-{number}.example.com}}
"""


class ProxyError(RuntimeError):
    """The proxy, or a command of it, did not do what it had to."""


class Proxy:
    """`egress run` behind `egress gateway up`. `secrets`: values that may be injected now."""

    def __init__(self, network: Network, folder: Path, workers: int) -> None:
        self.folder, self.state = folder, folder / "state"
        self._network, self._workers = network, workers
        self._processes: list[subprocess.Popen[bytes]] = []
        self.authority = Authority.make(folder / "roots", "soak CA")
        self.state.mkdir(mode=0o700)
        self.secrets: tuple[str, ...] = ()
        self.write_secret(0)
        self.write_policy(0)
        self._configure()

    def write_policy(self, number: int) -> None:
        """The policy, another one for each number."""
        _replace(self.folder / "policy.yaml", _POLICY.format(number=number))

    def write_secret(self, number: int) -> None:
        """Another value of the secret; the one before may be on its way still."""
        value = f"soak-secret-{number}-{'x' * 24}"
        _replace(self.folder / "key.txt", value)
        self.secrets = (*self.secrets[-1:], f"Bearer {value}")

    def _configure(self) -> None:
        known = "\n".join(
            f"  s{number}: {{source: [{', '.join(map(json.dumps, addresses(number)))}]}}"
            for number in range(1, len(self._network.sandboxes) + 1)
        )
        four, six = GATEWAY
        (self.folder / "egress.yaml").write_text(
            f"listen: ['{four}:3128', '[{six}]:3128']\ntransparent: {{listen: ['0.0.0.0:3129', '[::]:3129']}}\n"
            f"dns: {{listen: ['{four}:5300', '[{six}]:5300'], servers: ['9.9.9.9:53'],"
            f" limits: {{queries: 100000/min, parent_queries: 100000/min, parent_names: 100000/h}}}}\n"
            f"admin: 127.0.0.1:{ADMIN}\nworkers: {self._workers}\nwatch: false\npolicy: [policy.yaml]\n"
            f"state_dir: state\nupstream: {{ca: [{self.authority.certificate_file}]}}\n"
            f"limits: {{drain_seconds: 5, upstream_idle_seconds: {UPSTREAM_IDLE}, head_seconds: 10}}\n"
            f"sandboxes:\n{known}\n"
        )

    def start(self) -> None:
        """Start the internet, the proxy, and put the gateway's rules in force."""
        inside, internet = self._network.gateway, self._network.internet
        leaf = self.authority.issue("*.example.com")
        self._start(internet.command(sys.executable, "-m", "bench.soaking.internet", *map(str, leaf)), "internet.log")
        self._says("internet.log", "serves")
        config = str(self.folder / "egress.yaml")
        self._start(inside.command(sys.executable, "-c", START, "run", "--config", config), "proxy.log")
        self._says("proxy.log", "listening on")
        up = ("gateway", "up", "--interface", "br0", "--dns-port", "5300", "--open-port", "3128")
        done = subprocess.run(  # noqa: S603 - our own command
            inside.command(sys.executable, "-c", START, *up), env=_environment(), capture_output=True, check=False
        )
        if done.returncode:
            raise ProxyError(done.stderr.decode(errors="replace"))
        self._network.forget_soon()

    def _start(self, command: list[str], log: str) -> None:
        with (self.folder / log).open("wb") as out:
            self._processes.append(
                subprocess.Popen(  # noqa: S603 - our own programs
                    command, cwd=ROOT, env=_environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out
                )
            )

    def _says(self, log: str, text: str) -> None:
        process = self._processes[-1]
        for _ in range(int(_PATIENCE / 0.05)):
            if text in self.log(log):
                return
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            break
        raise ProxyError(f"it does not say `{text}`: {self.log(log)[-2_000:]}")

    def log(self, name: str = "proxy.log") -> str:
        """What it printed."""
        return (self.folder / name).read_text(errors="replace")

    @property
    def pid(self) -> int:
        """The supervisor."""
        return self._processes[1].pid

    async def tell(self, *words: str) -> str:
        """Run a command of `egress` beside it, for its output. Raises ProxyError with what it said."""
        process = await asyncio.create_subprocess_exec(
            *self._network.gateway.command(sys.executable, "-c", START, *words),
            cwd=self.folder,
            env={**_environment(), "EGRESS_STATE_DIR": str(self.state)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
        if process.returncode:
            raise ProxyError(f"`egress {' '.join(words)}` ended with {process.returncode}: {(err + out).decode()}")
        return out.decode()

    async def metrics(self) -> Mapping[str, float]:
        """The metrics, each line's name with its labels, and its value."""
        sock = self._network.gateway.socket()
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", ADMIN))
        reader, writer = await asyncio.open_connection(sock=sock)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        try:
            text = (await asyncio.wait_for(reader.read(-1), 10)).decode()
        finally:
            writer.close()
        return dict(_values(text))

    def stop(self) -> int:
        """End it as an administrator would; its exit status."""
        proxy = self._processes[1]
        proxy.terminate()
        try:
            return proxy.wait(40)
        except subprocess.TimeoutExpired:
            return -signal.SIGTERM

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in reversed(self._processes):
            if process.poll() is None:
                process.kill()
            process.wait()


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def _replace(path: Path, text: str) -> None:
    made = path.with_suffix(".new")
    made.write_text(text)
    made.chmod(0o600)
    made.replace(path)


def _values(text: str) -> Iterator[tuple[str, float]]:
    for found in re.finditer(r"^([a-z_]+(?:\{.*\})?) ([-+.\deE]+)\r?$", text, re.MULTILINE):
        yield found[1], float(found[2])
