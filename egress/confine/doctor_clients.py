"""Whether the clients that are installed here trust the proxy's CA: each makes one real TLS handshake.

They connect to a server of ours on loopback, whose certificate the CA signed for 127.0.0.1, with the variables that
`egress env` prints, the proxy's left out. A client trusts the CA if its request arrives: what its exit status and its
words mean differs from client to client.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from cryptography.hazmat.primitives import serialization

from egress.certs import BUNDLE_NAME, Authority
from egress.confine.doctor import Check, Finding, ok, problem, skipped, warning
from egress.confine.environment import PROXY_VARIABLES, child_environment
from egress.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_SECONDS: Final = 6.0
_LONGEST: Final = 200
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_PYTHON: Final = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)"
_NODE: Final = "require('https').get(process.argv[1], r => r.resume()).on('error', e => { throw e })"
_JAVA: Final = """public class Probe {
    public static void main(String[] args) throws Exception {
        new java.net.URL(args[0]).openConnection().getInputStream().close();
    }
}
"""
_SET: Final = 'eval "$(egress env)" in the shell that starts it; docs/guides/clients.md'
# The program, what it is called with before the URL, and what to do where it does not trust the CA.
CLIENTS: Final[Mapping[str, tuple[str, tuple[str, ...], str]]] = {
    "curl": ("curl", ("-sS", "--max-time", "5", "-o", "/dev/null"), _SET),
    "python": ("python3", ("-I", "-c", _PYTHON), _SET),
    "node": ("node", ("-e", _NODE), _SET),
    "git": ("git", ("-c", "credential.helper=", "ls-remote"), _SET),
    "java": (
        "java",
        ("-XX:TieredStopAtLevel=1", "Probe.java"),
        "import the CA into a trust store, and name that in JAVA_TOOL_OPTIONS; docs/guides/clients.md",
    ),
}


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients of one machine. `state_dir` and `ca_dir`: the proxy's; `path`: where programs are looked for."""

    state_dir: Path
    ca_dir: Path
    env: Mapping[str, str]
    path: str | None = None

    def checks(self) -> list[Check]:
        """One for each client."""
        return [Check(f"client-{name}", partial(self._look, name)) for name in CLIENTS]

    def _look(self, name: str) -> Finding:
        program, arguments, fix = CLIENTS[name]
        found = shutil.which(program, path=self.path)
        if found is None:
            return skipped(f"{program} is not installed here")
        bundle = (self.state_dir / BUNDLE_NAME).absolute()
        try:
            tempfile.gettempdir()
            authority = Authority.load(self.ca_dir.absolute())
        except StateError as error:
            return skipped(error.message, error.hint)
        except OSError:
            return skipped("there is no folder for temporary files", "mount a tmpfs on /tmp")
        if not bundle.exists():
            return problem(f"`{bundle}` is not there, which clients trust", "`egress run` and `egress env` write it")
        given = {**self.env, **child_environment("", bundle, authority.certificate_path), "GIT_TERMINAL_PROMPT": "0"}
        with tempfile.TemporaryDirectory(prefix="egress-doctor-") as folder, _Server(authority, Path(folder)) as server:
            (Path(folder) / "Probe.java").write_text(_JAVA)
            told = _called(
                [found, *arguments, server.url], {k: v for k, v in given.items() if k not in PROXY_VARIABLES}, folder
            )
        return ok(f"{program} trusts the CA") if server.asked.is_set() else _refused(program, told, fix)


def _refused(program: str, told: str | None, fix: str) -> Finding:
    if told is None:
        return skipped(f"{program} said nothing for {_SECONDS:.0f} s", "run it again while the machine has less to do")
    return warning(f"{program} does not trust the CA: {told}", fix)


def _called(command: list[str], env: Mapping[str, str], folder: str) -> str | None:
    """Run it; what it said that tells most, or None where it did not end."""
    try:
        done = subprocess.run(  # noqa: S603 - a client of this machine, with our own arguments
            command, env=env, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        return None
    said = [line.strip() for line in (done.stderr or done.stdout).decode(errors="replace").splitlines()]
    # Lines of a stack are no words.
    said = [line for line in said if line and not line.startswith(("at ", "^"))]
    telling = [line for line in said if "certif" in line.lower()] or said
    return telling[0][:_LONGEST] if telling else f"it ended with {done.returncode}"


@dataclass(slots=True, eq=False)
class _Server:
    """A TLS server on loopback that takes connections, one after the other, until it is left."""

    authority: Authority
    folder: Path
    asked: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    _sock: socket.socket = field(default_factory=socket.socket)

    def __enter__(self) -> Self:
        context = _context(self.authority, self.folder / "leaf.pem")
        self._sock.bind(("127.0.0.1", 0))
        self._sock.listen()
        self.url = f"https://127.0.0.1:{self._sock.getsockname()[1]}/"
        threading.Thread(target=self._serve, args=(context,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # Wakes the thread that waits in accept(), which a close alone would not.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def _serve(self, context: ssl.SSLContext) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), sock:
                sock.settimeout(_SECONDS)
                with context.wrap_socket(sock, server_side=True) as tls:
                    # Only who has verified our certificate says anything.
                    if tls.recv(4096):
                        self.asked.set()
                        tls.sendall(_ANSWER)


def _context(authority: Authority, path: Path) -> ssl.SSLContext:
    leaf = authority.leaf("127.0.0.1")
    key = leaf.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.touch(mode=0o600)
    path.write_bytes(leaf.certificate_pem + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    path.unlink()
    return context
