"""What a confined command is given and what is kept from it, as values. Made outside, carried out inside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from egress.errors import EgressError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Where the proxy listens in the command's own network namespace, whatever listens there outside.
PROXY_ADDRESS: Final = ("127.0.0.1", 3128)
PROXY_URL: Final = f"http://{PROXY_ADDRESS[0]}:{PROXY_ADDRESS[1]}"
# What the process with number 1 is called inside; the kernel keeps 15 characters.
INIT_NAME: Final = "egress init"
# In the command's own `/run`: what its clients trust.
TRUST_FOLDER: Final = "/run/egress"
BUNDLE: Final = f"{TRUST_FOLDER}/ca-bundle.pem"
CA: Final = f"{TRUST_FOLDER}/egress-ca.pem"


class ConfineError(EgressError):
    """This machine, or this user on it, cannot confine a command; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class User:
    """Whom the command runs as. `change`: whether that is another user than ours, which takes root."""

    uid: int
    gid: int
    name: str
    home: str
    change: bool


@dataclass(frozen=True, slots=True)
class View:
    """What the command sees of the file system, beside what every command does (see `exec_mounts`).

    `folder`: where it starts. `hidden`: files and folders that seem empty. `read_only`: files that it may read. What is
    in either cannot be replaced from inside, nor can a folder on the way to it. `kept`: what is shown of folders that
    are otherwise empty, as /tmp is. `closed`: folders of read-only files, in which it writes nothing. `loose`:
    read-only files whose folder it needs: who replaces one outside makes a file that it can write.
    """

    folder: Path
    hidden: tuple[Path, ...] = ()
    read_only: tuple[Path, ...] = ()
    kept: tuple[Path, ...] = ()
    closed: tuple[Path, ...] = ()
    loose: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is needed to start the command. `trust`: the files of TRUST_FOLDER, by path.

    `terminal`: it gets a terminal of its own in place of ours, of this size (lines, columns).
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    user: User
    view: View
    trust: Mapping[str, bytes] = field(repr=False)
    terminal: tuple[int, int] | None = None
