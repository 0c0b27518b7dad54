"""What a confined command may see: worked out from the configuration, outside, before anything is hidden.

1. hidden      state folder, CA, audit, key of the store, files that secrets are read from, sockets of other programs
2. read-only   whatever steers the proxy: policies, presets, lists, the configuration, roots for upstreams, and programs
              that it asks for secrets, with the files that they are given: it runs them unconfined, also while the
              command runs
3. closed      folders of such files and of the audit, unless the command works in them or lives there
4. refused     a start in which the command's folder is itself one of the hidden, and a policy that it could replace
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from egress.audit.database import beside
from egress.audit.signing import KEY_NAME
from egress.config import KeyCommand, KeyFile, default_key_source
from egress.config.secret_sources import CommandSource
from egress.confine.exec_plan import ConfineError, View
from egress.confine.exec_readable import exchangeable, replaceable, shadowed, written_after
from egress.confine.exec_sockets import foreign_sockets
from egress.errors import ConfigError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from egress.config import LoadedPolicy, SecretDefinition, ServerConfig
    from egress.confine.exec_plan import User


def view_of(
    config: ServerConfig, loaded: LoadedPolicy, user: User, allowed: Iterable[Path], kept: Iterable[Path]
) -> View:
    """The view of a command that is started in this folder. Raises ConfigError or ConfineError."""
    folder = Path.cwd()
    hidden = _real(_own_files(config, loaded.secrets))
    for place in hidden:
        if place == folder or place in folder.parents:
            raise ConfineError(f"the command cannot work in `{place}`, which is kept from it", hint="change to another")
    commands = list(_commands(config, loaded.secrets))
    steering = [*steering_files(config, loaded), *_run_files(commands)]
    if problems := (*replaceable(steering, user), *shadowed([argv[0] for argv in commands], user)):
        raise ConfigError(problems)
    read_only = [path for path in _real(steering) if path not in hidden]
    shown = [path.absolute() for path in (*kept, *allowed)]
    # What it could not write to or work in any more must not be closed.
    needed = {place for path in (folder, Path(user.home), *shown) for place in (path, *path.parents)}
    # Beside the audit, a journal that is none of SQLite's would be played back into it.
    record = Path(os.path.realpath(config.audit.path))
    written = [path for path in (*read_only, record) if exchangeable(path, user)]
    closed = dict.fromkeys(path.parent for path in written if path.parent not in needed)
    loose = [path for path in written if path.parent in needed and path != record]
    if config.watch and loose:
        raise ConfigError(written_after(loose))
    sockets = foreign_sockets(Path(user.home), (folder, *shown), allowed)
    return View(folder, (*hidden, *sockets), tuple(read_only), tuple(shown), tuple(closed), tuple(loose))


def steering_files(config: ServerConfig, loaded: LoadedPolicy) -> Iterator[Path]:
    """The files that decide what the proxy lets out, as they were named."""
    named = [*loaded.files, *config.presets, *config.upstream.ca, *([] if config.file is None else [config.file])]
    yield from dict.fromkeys(path for path in named if path.exists())


def _commands(config: ServerConfig, secrets: Mapping[str, SecretDefinition]) -> Iterator[Sequence[str]]:
    """What the proxy runs for values of secrets and for the store's key, as it is named."""
    for definition in secrets.values():
        if isinstance(definition.source, CommandSource):
            yield definition.source.argv
    if isinstance(config.secrets_key, KeyCommand):
        yield config.secrets_key.argv


def _run_files(commands: Iterable[Sequence[str]]) -> Iterator[Path]:
    """The programs, and files that they are given: a script, for its interpreter."""
    for program, *arguments in commands:
        found = shutil.which(program)
        files = filter(os.path.isfile, arguments)
        yield from map(Path, files if found is None else (found, *files))


def secret_files(secrets: Mapping[str, SecretDefinition]) -> Iterator[Path]:
    """The files that values of secrets are read from, also by way of other sources."""
    for definition in secrets.values():
        yield from _paths(definition.source)


def _own_files(config: ServerConfig, secrets: Mapping[str, SecretDefinition]) -> Iterator[Path]:
    yield config.state_dir
    yield config.ca_dir
    yield config.audit.path
    yield from (beside(config.audit.path, suffix) for suffix in ("-wal", "-shm", "-journal"))
    yield config.audit.path.parent / KEY_NAME
    yield from secret_files(secrets)
    if config.upstream.proxy is not None:
        yield from _paths(config.upstream.proxy.password)
    # A user without a home has no such file.
    with contextlib.suppress(StateError):
        key = config.secrets_key or default_key_source(os.environ, user=os.geteuid())
        if isinstance(key, KeyFile):
            yield key.path


def _paths(source: object) -> Iterator[Path]:
    if not is_dataclass(source):
        return
    for one in fields(source):
        value = getattr(source, one.name)
        if isinstance(value, Path):
            yield value
        else:
            yield from _paths(value)


def _real(paths: Iterable[Path]) -> list[Path]:
    """Without links, those that are there."""
    return list(dict.fromkeys(Path(os.path.realpath(path)) for path in paths if os.path.lexists(path)))
