"""Where a tool's own configuration is looked for on this machine, and how its files and addresses are read.

1. Only what the machine's owner and the proxy's user wrote counts: never the working folder, which is often the
   sandbox's, and where a `.npmrc` of its own would open hosts of its choice.
2. A file is read like a policy file: one that every user can change is refused, and it is watched with the policy.
3. An address is never quoted: people put passwords into it.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from egress.config.reading import read_text
from egress.config.wording import printable
from egress.errors import Problem
from egress.policy import Refusal, parse_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_BYTES: Final = 1024 * 1024

_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Machine:
    """What readers look at. `root` stands before `/etc`; `pip` is the folder of the installed pip package, if any."""

    env: Mapping[str, str]
    root: Path = Path("/")
    prefix: Path = Path(sys.prefix)
    pip: Path | None = None

    @property
    def home(self) -> Path | None:
        """The home folder of the user that the proxy runs as."""
        home = self.env.get("HOME", "")
        return Path(home) if home.startswith("/") else None

    def config_home(self) -> Path | None:
        """`$XDG_CONFIG_HOME`, else `~/.config`."""
        named = self.env.get("XDG_CONFIG_HOME", "")
        if named.startswith("/"):
            return Path(named)
        return None if self.home is None else self.home / ".config"

    def config_dirs(self) -> tuple[Path, ...]:
        """`$XDG_CONFIG_DIRS`, else `/etc/xdg`."""
        named = [Path(text) for text in self.env.get("XDG_CONFIG_DIRS", "").split(":") if text.startswith("/")]
        return tuple(named) or (self.root / "etc" / "xdg",)


def this_machine() -> Machine:
    """The machine that we run on, as this process's user sees it."""
    spec = importlib.util.find_spec("pip")
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent
    return Machine(env=os.environ, pip=folder)


@dataclass(slots=True)
class Looking:
    """One tool's configuration as it is gathered: hosts, the files they came from, and what is wrong with them."""

    hosts: dict[str, None] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def named(self, variable: str, value: str) -> Path | None:
        """The file that a variable names, which must be a full path."""
        if value.startswith("/"):
            return Path(value)
        message = "the variable names a file of the working folder, which may be the sandbox's"
        self.wrong(variable, message, "write a full path")
        return None

    def text(self, path: Path | None) -> str | None:
        """The content of a file that is there; None for one that is not, or that must not be used."""
        if path is None or not os.path.lexists(path):
            return None
        found = read_text(path, limit=MAX_BYTES)
        self.files.append(path)
        self.problems.extend(found.problems)
        self.warnings.extend(found.warnings)
        return found.text

    def add(self, urls: Iterable[str], where: str) -> None:
        """Take the hosts of these addresses, with their ports. Folders and other schemes have none."""
        for url in urls:
            try:
                host = _host_and_port(url)
            except ValueError:
                message = "an address in the configuration has no host that can be read"
                self.wrong(where, message, "correct it there, or give the hosts as a parameter")
            else:
                if host is not None:
                    self.hosts[host] = None

    def wrong(self, where: str, message: str, hint: str) -> None:
        """Record a problem of a configuration file, or of a variable."""
        self.problems.append(Problem(printable(where), None, "", message, hint))


def _host_and_port(url: str) -> str | None:
    """`host:port` of an http or https address, None for other schemes. Raises ValueError."""
    parts = urlsplit(url.strip())
    if parts.scheme.lower() not in _PORTS:
        return None
    host = parse_host(parts.hostname or "")
    if isinstance(host, Refusal) or ":" in host.text:
        raise ValueError("no host")
    return f"{host.text}:{parts.port or _PORTS[parts.scheme.lower()]}"
