"""Where a secret's value comes from, and what a value must be. Reads, checks, and says what is wrong without quoting.

Every error here is a `CredentialError` that names the secret and its source, and holds no part of the value.
"""

from __future__ import annotations

import os
import re
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress.credentials.secret import Secret
from egress.errors import CredentialError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_BYTES = 64 * 1024
# Visible ASCII with spaces inside: a CR, LF or NUL would start a header of its own, and beyond ASCII a value's bytes
# depend on who reads it (RFC 9110, section 5.5).
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
# A key in PEM or JSON has lines; it stands in no header itself.
_LINES = re.compile(r"[ -~\t\r\n]*")
# A file changed within this time of being read may change again without its times telling (their grain is coarse).
_UNSETTLED_NS = 2_000_000_000

type Signature = tuple[int, int, int, int, int]


def checked(name: str, value: str, source: str) -> Secret:
    """`value` as a secret, if it can stand in a header field. `source` says where it came from, for the message."""
    if not value:
        raise CredentialError(f"secret `{name}`: {source} is empty", hint="put the value there")
    if _VALUE.fullmatch(value) is None:
        raise CredentialError(f"secret `{name}`: {source} {_fault(value)}", hint="put only the value itself there")
    return Secret(name, value)


def storable(name: str, value: str, source: str) -> Secret:
    """`value` as a secret that the store may hold: any text, such as a key in PEM.

    Whether it can stand in a header is asked of the header (`checked`).
    """
    if not value:
        raise CredentialError(f"secret `{name}`: {source} is empty", hint="put the value there")
    # Half of a surrogate pair is what a byte that is no UTF-8 became.
    if any("\ud800" <= char <= "\udfff" or char == "\0" for char in value):
        raise CredentialError(
            f"secret `{name}`: {source} is not text", hint="put text there, in UTF-8; encode the rest"
        )
    if len(value.encode()) > MAX_BYTES:
        raise CredentialError(f"secret `{name}`: {source} is larger than {MAX_BYTES // 1024} KiB", hint="shorten it")
    return Secret(name, value)


def fits_header(value: Secret) -> bool:
    """Whether the value can stand in a header field."""
    return _VALUE.fullmatch(value.reveal()) is not None


def without_line_end(data: str) -> str:
    """Text of a file or a pipe without its final line break, which editors and `echo` add."""
    return data[:-2] if data.endswith("\r\n") else data.removesuffix("\n")


def checked_leaf(name: str, value: str, source: str) -> Secret:
    """`value` as a leaf of the source of the secret `name`: as `checked`, but with lines, as a private key has them."""
    if len(value) > MAX_BYTES:
        raise CredentialError(f"secret `{name}`: {source} is larger than {MAX_BYTES // 1024} KiB", hint="shorten it")
    if not value.strip() or _LINES.fullmatch(value) is None:
        return checked(name, value, source)
    return Secret(name, value)


def _fault(value: str) -> str:
    if not value.isascii():
        return "holds a character outside ASCII"
    if not value.isprintable():
        return "holds a line break or another control character"
    return "begins or ends with a space"


@dataclass(frozen=True, slots=True)
class FileReading:
    """What reading a secret's file gave: the secret, whether others can read the file, and what tells of a change.

    `signature` None: the file changed just now, so read it again next time.
    """

    secret: Secret
    open_to_others: bool
    signature: Signature | None


def read_file(name: str, path: Path, check: Callable[[str, str, str], Secret] = checked) -> FileReading:
    """Read a secret's file: at most 64 KiB, one final line break taken off, and held against `check`.

    Links are followed, since Kubernetes mounts secrets as links; what is checked is the file that was opened.
    """
    source = f"file `{path}`"
    try:
        # O_NONBLOCK: a FIFO in the file's place must not hold up the request.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise CredentialError(
            f"secret `{name}`: cannot open {source}: {error.strerror}", hint="make it readable for the proxy's user"
        ) from error
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        # `fdopen` of a folder raises before it owns the descriptor.
        os.close(descriptor)
        raise CredentialError(f"secret `{name}`: {source} is no regular file", hint="name the file itself")
    with os.fdopen(descriptor, "rb") as file:
        secret = _secret(name, file.read(MAX_BYTES + 1), source, check)
    age = time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns)
    return FileReading(
        secret,
        open_to_others=bool(state.st_mode & (stat.S_IRWXG | stat.S_IRWXO)),
        signature=signature(state) if age > _UNSETTLED_NS else None,
    )


def signature(state: os.stat_result) -> Signature:
    """What differs between two versions of a file."""
    return (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


def _secret(name: str, data: bytes, source: str, check: Callable[[str, str, str], Secret]) -> Secret:
    if len(data) > MAX_BYTES:
        raise CredentialError(f"secret `{name}`: {source} is larger than {MAX_BYTES // 1024} KiB", hint="shorten it")
    return check(name, as_text(data), source)


def as_text(data: bytes) -> str:
    """What a file or a program gave, without one final line break."""
    # Editors and `echo` end a text with a line break that is not part of the value; a second one is a mistake.
    data = data[:-2] if data.endswith(b"\r\n") else data.removesuffix(b"\n")
    # Latin-1 gives each byte a character, so that a bad byte is refused by the check and never quoted by a decoder.
    return data.decode("latin-1")
