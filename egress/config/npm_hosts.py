"""The hosts of npm's registries: its variables, the user's and the machine's npmrc, else what npm itself says.

The project's npmrc is not read: the project is the sandbox's.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from egress.config.machine import Looking, Machine

NPM_SECONDS: Final = 10.0

_VARIABLE = re.compile(r"\$\{([^{}]+)\}")
_PREFIX = "npm_config_"
_UNSET = frozenset({"", "null", "undefined"})


def find_npm_hosts(machine: Machine, found: Looking) -> str:
    """Gather the hosts of npm's registries into `found`. Returns why there are none."""
    stated = {
        name.lower().removeprefix(_PREFIX).replace("_", "-"): value
        for name, value in machine.env.items()
        if name.lower().startswith(_PREFIX)
    }
    settings: dict[str, tuple[str, str]] = {}
    for path in _files(machine, stated):
        for key, value in _settings(found.text(path) or ""):
            settings[key] = (value, str(path))
    for key, value in stated.items():
        settings[key] = (value, f"{_PREFIX}{key}")
    for key, (value, where) in settings.items():
        if key.endswith(":registry") or key == "registry":
            _add(value, where, machine.env, found)
    if "registry" not in settings:
        _ask_npm(machine, found)
    return "npm is not installed here, and no npmrc names a registry"


def _files(machine: Machine, stated: Mapping[str, str]) -> Iterator[Path]:
    """The machine's npmrc and the user's, which wins."""
    named = stated.get("globalconfig", "")
    if named.startswith("/"):
        yield machine.root / named[1:]
    else:
        yield from (machine.root / place / "npmrc" for place in ("etc", "usr/etc", "usr/local/etc"))
    named = stated.get("userconfig", "")
    if named.startswith("/"):
        yield machine.root / named[1:]
    elif machine.home is not None:
        yield machine.home / ".npmrc"


def _settings(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.lstrip().startswith((";", "#")):
            yield key.strip(), value.strip().strip("\"'")


def _add(value: str, where: str, env: Mapping[str, str], found: Looking) -> None:
    missing = [name for name in _VARIABLE.findall(value) if name not in env]
    if missing:
        found.wrong(where, f"the registry names the variable `{missing[0]}`, which is not set", "set it, or remove it")
    elif value not in _UNSET:
        found.add([_VARIABLE.sub(lambda match: env[match[1]], value)], where)


def _ask_npm(machine: Machine, found: Looking) -> None:
    """The registry that npm uses where nothing is configured."""
    program = shutil.which("npm", path=machine.env.get("PATH", ""))
    if program is None or not program.startswith("/"):
        return
    # Without our environment: it holds secrets, and npm runs what its configuration names. From the top folder: an
    # npmrc of the working folder is the sandbox's.
    names = ("PATH", "HOME", "XDG_CONFIG_HOME")
    env = {name: machine.env[name] for name in names if name in machine.env}
    env |= {name: value for name, value in machine.env.items() if name.lower().startswith(_PREFIX)}
    env |= {"npm_config_update_notifier": "false", "npm_config_logs_max": "0"}
    try:
        done = subprocess.run(  # noqa: S603  npm, by its full path
            [program, "config", "get", "registry"],
            env=env,
            cwd=machine.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=NPM_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        found.wrong("npm", f"npm did not say within {NPM_SECONDS:.0f} seconds which registry it uses", _GIVE)
        return
    answer = done.stdout[:4096].decode("utf-8", "replace").strip()
    if done.returncode != 0:
        found.wrong("npm", "npm could not say which registry it uses", _GIVE)
    elif answer not in _UNSET:
        found.add([answer], "npm")


_GIVE: Final = "give the hosts as a parameter"
