"""Filters with a name, kept in the user's configuration folder: `@NAME` wherever a filter is written.

The file is JSON, a text by name, with mode 0600: what somebody looks for in an audit is nobody else's.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from egress.audit.filters import Filter, FilterError, parse_filter
from egress.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_MOST: Final = 500
_MOST_BYTES: Final = 2_000_000
_DEEPEST: Final = 8
# A quoted text is passed over; else a word that begins with `@`.
_NAMED: Final = re.compile(r'"(?:[^"\\]|\\.)*"|(?<!\S)(?P<minus>-?)@(?P<name>\S*)')


def saved_file(environ: Mapping[str, str] | None = None) -> Path:
    """Where the filters of this user are kept. Raises AuditError for a user without a home."""
    environ = os.environ if environ is None else environ
    folder = environ.get("XDG_CONFIG_HOME") or ""
    try:
        home = Path(folder) if folder.startswith("/") else Path(environ.get("HOME") or "~").expanduser() / ".config"
    except RuntimeError as error:
        raise AuditError("this user has no home, in which filters are kept", hint="set HOME") from error
    return home / "egress" / "filters.json"


def saved_filters(file: Path) -> dict[str, str]:
    """The texts by name; empty if there is no file. Raises AuditError."""
    try:
        with file.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise AuditError(f"{file} cannot be read: {error.strerror}") from error
    try:
        found = json.loads(data) if len(data) <= _MOST_BYTES else None
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise AuditError(f"{file} is no JSON object of filters by name", hint="mend it, or move it away")
    return found


def save_filter(file: Path, name: str, text: str) -> None:
    """Keep `text` under `name`, in the place of what was there. Raises AuditError."""
    if not NAME.fullmatch(name):
        raise AuditError(f"`{name}` is no name for a filter", hint="up to 40 letters, digits, `_`, `.` and `-`")
    kept = {**saved_filters(file), name: text}
    if len(kept) > _MOST:
        raise AuditError(f"there are {_MOST} saved filters already", hint=f"delete some in {file}")
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(kept, stream, indent=2, sort_keys=True)
            stream.write("\n")
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise AuditError(f"{file} cannot be written: {error.strerror}") from error


def read_with_saved(text: str, now_us: int, saved: Mapping[str, str], deep: int = 0) -> Filter:
    """`parse_filter`, with `@NAME` for what is saved under a name. Raises FilterError, with places in `text`."""
    wanted = Filter()
    rest = text
    for found in _NAMED.finditer(text):
        name = found["name"]
        if name is None:
            continue
        start, end = found.span()
        if found["minus"]:
            raise FilterError("a saved filter cannot be turned around", start, end)
        if name not in saved:
            known = f"saved are {', '.join(sorted(saved))}" if saved else "none is saved yet"
            raise FilterError(f"no filter is saved as `{name}`; {known}", start, end)
        if deep >= _DEEPEST:
            raise FilterError(f"`@{name}` names itself", start, end)
        try:
            wanted &= read_with_saved(saved[name], now_us, saved, deep + 1)
        except FilterError as error:
            raise FilterError(f"the saved filter `{name}`: {error}", start, end) from error
        # Spaces of the same length, so that places in the rest stay what they are.
        rest = f"{rest[:start]}{' ' * (end - start)}{rest[end:]}"
    return parse_filter(rest, now_us) & wanted
