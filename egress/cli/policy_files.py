"""Reads, tries and replaces the policy file that `egress allow` and `egress deny` edit.

1. tried first      the new text is loaded under another name in the file's own folder, so that lists are found
2. all or nothing   the file is replaced by a rename; whoever reads it sees the old text or the new one
3. the same file    mode and owner stay; of a symbolic link the file it ends at is replaced, and the link stays
4. nobody's work    a file that changed since it was read is left as it is
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from egress.config.wording import printable
from egress.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from egress.cli.loading import Surroundings
    from egress.config import LoadedPolicy, PolicySource


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy file as it was read. `name` is its path as messages show it."""

    source: PolicySource
    data: bytes

    @property
    def name(self) -> str:
        """The file as messages and rules name it."""
        return printable(str(self.source.path))

    @property
    def text(self) -> str:
        """The file's text; it was loaded before, so it is UTF-8."""
        return self.data.decode("utf-8")


def read(source: PolicySource) -> PolicyFile:
    """The file's bytes. Raises ConfigError."""
    try:
        return PolicyFile(source, source.path.read_bytes())
    except OSError as error:
        raise _failed(source.path, "cannot be read", error) from error


@dataclass(frozen=True, slots=True)
class Trial:
    """A new text for a file, and what is loaded with it."""

    file: PolicyFile
    text: str
    sources: Sequence[PolicySource]
    around: Surroundings

    def look[Result](self, look: Callable[[LoadedPolicy, str], Result]) -> Result:
        """What `look` finds in the policy with the new text in the file's place; it gets the name that this has.

        Raises ConfigError with every problem of the new text, under the file's own name and the new lines.
        """
        path = self.file.source.path
        other = path.parent / f".{secrets.token_hex(8)}.tried.yaml"
        name = printable(str(other))
        try:
            _write_new(other, self.text.encode("utf-8"), 0o600)
            changed = [replace(each, path=other) if each == self.file.source else each for each in self.sources]
            return look(self.around.load(changed), name)
        except ConfigError as error:
            raise ConfigError([renamed(problem, name, self.file.name) for problem in error.problems]) from error
        except OSError as error:
            raise _failed(path, "the new text cannot be tried in its folder", error) from error
        finally:
            other.unlink(missing_ok=True)


def renamed(problem: Problem, other: str, name: str) -> Problem:
    """The problem of a text that was tried under another name, as one of the file itself."""
    return replace(problem, file=name) if problem.file == other else problem


def replace_file(file: PolicyFile, text: str) -> None:
    """Put the new text in the file's place. Raises ConfigError and leaves the file as it was."""
    path = file.source.path
    try:
        real = Path(os.path.realpath(path, strict=True))
        state = real.stat()
        if real.read_bytes() != file.data:
            message = "the file has changed since it was read, so it is left as it is"
            raise ConfigError([Problem(file.name, None, "", message, "run the command again")])
        _replace(real, text.encode("utf-8"), state)
    except OSError as error:
        raise _failed(path, "cannot be replaced", error) from error


def _replace(real: Path, data: bytes, state: os.stat_result) -> None:
    temporary = real.with_name(f".{real.name}.{secrets.token_hex(8)}")
    try:
        _write_new(temporary, data, stat.S_IMODE(state.st_mode), owner=(state.st_uid, state.st_gid))
        os.replace(temporary, real)  # noqa: PTH105 -- overwrites
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    folder = os.open(real.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write_new(path: Path, data: bytes, mode: int, *, owner: tuple[int, int] | None = None) -> None:
    # O_EXCL: whoever guesses the name cannot have us write through a link of theirs.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        made = os.fstat(file.fileno())
        if owner is not None and owner != (made.st_uid, made.st_gid):
            os.fchown(file.fileno(), *owner)
        # After the owner: a change of owner takes bits of the mode away.
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())


def _failed(path: Path, message: str, error: OSError) -> ConfigError:
    reason = (error.strerror or "unknown error").lower()
    hint = "run the command as the user that owns the file, and check the folder's mode"
    return ConfigError([Problem(printable(str(path)), None, "", f"{message} ({reason})", hint)])
