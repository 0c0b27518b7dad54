"""The hosts of Python's package indexes: what pip or uv are configured with, else pip's built-in default.

Read as pip and uv read it: variables win over the environment's file, that over the user's, that over the machine's.
The built-in default counts where neither states an index of its own. It is taken from the installed pip's source as
data: importing pip would change the process's logging. A project's `uv.toml` or `pyproject.toml` is not read: the
project is the sandbox's.
"""

from __future__ import annotations

import ast
import configparser
import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.config.machine import Looking, Machine

_SECTIONS = ("global", "install", "download", "wheel", "lock", "index")
_YES = frozenset({"1", "true", "yes", "on", "t", "y"})
_UV_NAME = re.compile(r"[A-Za-z0-9._-]+=(?=[a-z+]+:)")


@dataclass(slots=True)
class _Indexes:
    """What the tools are configured with: addresses with the place of each."""

    main: list[tuple[str, str]] = field(default_factory=list)
    more: list[tuple[str, str]] = field(default_factory=list)
    none: bool = False


def find_pip_hosts(machine: Machine, found: Looking) -> str:
    """Gather the hosts of the configured indexes into `found`. Returns why there are none."""
    indexes = _Indexes()
    _read_pip(machine, found, indexes)
    _read_uv(machine, found, indexes)
    for url, where in (*indexes.main, *indexes.more):
        found.add([url], where)
    built_in = _built_in(machine)
    if not indexes.none and (not indexes.main or any(url.startswith(built_in[:1]) for url, _ in indexes.main)):
        found.add(built_in, "pip")
    return "neither pip nor uv is installed or configured here"


def _read_pip(machine: Machine, found: Looking, indexes: _Indexes) -> None:
    settings: dict[tuple[str, str], tuple[str, str]] = {}
    for path in _pip_files(machine, found):
        text = found.text(path)
        if text is not None:
            for place, value in _pip_settings(text, str(path), found):
                settings[place] = (value, str(path))

    def stated(key: str) -> list[tuple[str, str]]:
        variable = f"PIP_{key.upper().replace('-', '_')}"
        if machine.env.get(variable):
            return [(machine.env[variable], variable)]
        return [settings[section, key] for section in _SECTIONS if (section, key) in settings]

    indexes.none = any(value.strip().lower() in _YES for value, _ in stated("no-index"))
    if not indexes.none:
        indexes.main += stated("index-url")
    for key in ("find-links",) if indexes.none else ("extra-index-url", "find-links"):
        indexes.more += [(url, where) for value, where in stated(key) for url in value.split()]


def _pip_files(machine: Machine, found: Looking) -> Iterator[Path | None]:
    """Every configuration file of pip, the one that wins last."""
    named = machine.env.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    yield from (folder / "pip" / "pip.conf" for folder in machine.config_dirs())
    yield machine.root / "etc" / "pip.conf"
    if not named or not Path(named).exists():
        if machine.home is not None:
            yield machine.home / ".pip" / "pip.conf"
        folder = machine.config_home()
        if folder is not None:
            yield folder / "pip" / "pip.conf"
    yield machine.prefix / "pip.conf"
    if named:
        yield found.named("PIP_CONFIG_FILE", named)


def _pip_settings(text: str, where: str, found: Looking) -> Iterator[tuple[tuple[str, str], str]]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text)
    except configparser.Error:
        # Not the parser's own words: they quote the line, and a line may hold a password.
        found.wrong(where, "the file cannot be read as pip's configuration", "correct it, or give the hosts")
        return
    for section in parser.sections():
        for key, value in parser.items(section):
            yield (section, key.replace("_", "-").removeprefix("--")), value


def _read_uv(machine: Machine, found: Looking, indexes: _Indexes) -> None:
    env = machine.env
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        indexes.main += [(_UV_NAME.sub("", url), name) for url in env.get(name, "").split()]
    for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"):
        indexes.more += [(_UV_NAME.sub("", url), name) for url in env.get(name, "").replace(",", " ").split()]
    for path in _uv_files(machine, found):
        text = found.text(path)
        if text is None:
            continue
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            found.wrong(str(path), "the file is not TOML", "correct it, or give the hosts as a parameter")
            continue
        for table in (data, data.get("pip")):
            if isinstance(table, dict):
                _uv_table(table, str(path), indexes)


def _uv_files(machine: Machine, found: Looking) -> list[Path | None]:
    """The user's file and the machine's; both count, and a file named by a variable stands alone."""
    if machine.env.get("UV_NO_CONFIG", "").lower() in _YES:
        return []
    if machine.env.get("UV_CONFIG_FILE"):
        return [found.named("UV_CONFIG_FILE", machine.env["UV_CONFIG_FILE"])]
    folders = [*machine.config_dirs()]
    home = machine.config_home()
    if home is not None:
        folders.append(home)
    return [machine.root / "etc" / "uv" / "uv.toml", *(folder / "uv" / "uv.toml" for folder in folders)]


def _uv_table(table: dict[str, object], where: str, indexes: _Indexes) -> None:
    for url in _texts(table.get("index-url")):
        indexes.main.append((url, where))
    for key in ("extra-index-url", "find-links"):
        indexes.more += [(url, where) for url in _texts(table.get(key))]
    entries = table.get("index")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            kind = indexes.main if entry.get("default") is True else indexes.more
            kind.extend((url, where) for url in _texts(entry.get("url")))


def _texts(value: object) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, str)]


def _built_in(machine: Machine) -> tuple[str, ...]:
    """The index that the installed pip uses where none is configured, and the host that it serves files from."""
    if machine.pip is None:
        return ()
    try:
        tree = ast.parse((machine.pip / "_internal" / "models" / "index.py").read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ()
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            if names == ["PyPI"]:
                return _index_of(node.value)
    return ()


def _index_of(call: ast.Call) -> tuple[str, ...]:
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    texts = [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]
    return tuple(text if "://" in text else f"https://{text}" for text in texts)
