"""The values inside a secret's source: leaves, URLs, durations, programs, names.

INVARIANT secret-confinement: no message quotes what stands where a value might have been pasted.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, TypedDict
from urllib.parse import urlsplit

from pydantic import BeforeValidator, PlainValidator

from egress.config.fields import text, wrong
from egress.config.secret_sources import EnvSource, FileSource, StoreSource
from egress.config.wording import kind_of, quoted
from egress.policy import Refusal, parse_host

VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_LEAVES: Final = ("env", "file", "store")
_LEAF_HINT: Final = "write `{env: NAME}`, `{file: PATH}` or `{store: NAME}`, never the value itself"
_DURATION: Final = re.compile(r"([0-9]{1,6}) ?(s|min|h)\Z")
_SECONDS: Final = {"s": 1, "min": 60, "h": 3_600}
_LONGEST: Final = 4_096
_ARGUMENTS: Final = 100


class Leaf(TypedDict, total=False):
    """Where a value is that a source signs in with: `{env: NAME}`, `{file: PATH}` or `{store: NAME}`."""

    env: str
    file: str
    store: str


def leaf(value: object) -> EnvSource | FileSource | StoreSource:
    """Where a value is that a source signs in with."""
    if isinstance(value, (EnvSource, FileSource, StoreSource)):
        return value
    if not isinstance(value, dict):
        raise wrong("a value never stands in a file", _LEAF_HINT)
    if len(value) != 1 or next(iter(value)) not in _LEAVES:
        raise wrong("this does not say in one way where the value is", _LEAF_HINT)
    ((key, named),) = value.items()
    if key == "env":
        return EnvSource(variable(named))
    return FileSource(path(named)) if key == "file" else StoreSource(store_name(named))


def variable(value: object) -> str:
    """The name of an environment variable. People paste the value itself here, so it is not shown."""
    if not isinstance(value, str) or not VARIABLE.match(value):
        raise wrong(
            "this is not the name of an environment variable", "write its name, as in `GITHUB_TOKEN`, never its value"
        )
    return value


def path(value: object) -> Path:
    """A path, from the folder of the file that names it."""
    written = text(value)
    if not written or not written.isprintable():
        raise wrong(f"{quoted(written)} is not a path", "write the path of a file")
    return Path(written)


def store_name(value: object) -> str:
    """The name of a secret in our own store. Not shown either: a value may have been pasted."""
    if not isinstance(value, str) or not re.match(r"[A-Za-z][A-Za-z0-9_-]{0,63}\Z", value):
        raise wrong("this is not the name of a stored secret", "write its name, as `egress secret list` shows it")
    return value


def plain(value: object) -> str:
    """A name, an id or a path of a service: one line of printable text."""
    written = text(value)
    if not written.strip() or not written.isprintable() or len(written) > _LONGEST:
        raise wrong(
            f"this should be one line of 1 to {_LONGEST} printable characters", "write what the service calls it"
        )
    return written


def number_or_text(value: object) -> str:
    """An id that is a number to the service, and may be written as one."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else plain(value)


def argv(value: object) -> tuple[str, ...]:
    """A program and its arguments."""
    hint = "write the program and its arguments as a list: `[op, read, op://vault/github/token]`"
    if not isinstance(value, list):
        raise wrong(f"should be a list, not {kind_of(value)}", hint)
    odd = next((item for item in value if not isinstance(item, str)), None)
    if odd is not None:
        raise wrong(f"an argument is text, not {kind_of(odd)}", "put it in quotes")
    if len(value) > _ARGUMENTS or any("\0" in item for item in value):
        raise wrong(f"should be a list of at most {_ARGUMENTS} texts without NUL", hint)
    if not value or not value[0]:
        raise wrong("no program is named", hint)
    return tuple(value)


def duration(first: int, last: int) -> BeforeValidator:
    """A reader for `30s`, `5min` or `1h`, from `first` to `last` seconds."""

    def read(value: object) -> object:
        found = _DURATION.match(value) if isinstance(value, str) else None
        if found is None:
            said = quoted(value) if isinstance(value, (str, int, float)) else kind_of(value)
            raise wrong(f"{said} is not a time with its unit", "write `30s`, `5min` or `1h`")
        seconds = int(found[1]) * _SECONDS[found[2]]
        if not first <= seconds <= last:
            raise wrong(
                f"{quoted(value)} is outside the times from {first} to {last} seconds", "write `30s`, `5min` or `1h`"
            )
        return float(seconds)

    return BeforeValidator(read, json_schema_input_type=str)


def url(value: object) -> str:
    """A service's URL: https, or http at an address of the host itself."""
    written = text(value)
    hint = "write `https://vault.corp.example`"
    try:
        parts = urlsplit(written)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise wrong("this is not a URL", hint) from None
    if parts.username is not None or parts.password is not None:
        raise wrong("a URL here holds no user and no password", hint)
    if parts.scheme not in {"https", "http"} or isinstance(parse_host(host), Refusal) or port == 0:
        raise wrong("this is not the URL of a service", hint)
    if parts.query or parts.fragment or not written.isprintable() or " " in written:
        raise wrong("a URL here ends with its path", hint)
    if parts.scheme == "http" and not _is_own(host):
        message = "a credential goes over https, and over http to a loopback or link-local address alone"
        raise wrong(message, hint)
    return written.rstrip("/")


def _is_own(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_link_local


def one_or_more(value: object) -> object:
    """A list, or one text that stands for it."""
    if value == []:
        raise wrong("this list is empty", "name at least one, or remove the key")
    return [value] if isinstance(value, str) else value


type LeafField = Annotated[EnvSource | FileSource | StoreSource, PlainValidator(leaf, json_schema_input_type=Leaf)]
type VariableField = Annotated[str, PlainValidator(variable, json_schema_input_type=str)]
type SourcePathField = Annotated[Path, PlainValidator(path, json_schema_input_type=str)]
type StoreNameField = Annotated[str, PlainValidator(store_name, json_schema_input_type=str)]
type PlainField = Annotated[str, PlainValidator(plain, json_schema_input_type=str)]
type IdField = Annotated[str, PlainValidator(number_or_text, json_schema_input_type=str | int)]
type UrlField = Annotated[str, PlainValidator(url, json_schema_input_type=str)]
type ArgvField = Annotated[tuple[str, ...], PlainValidator(argv, json_schema_input_type=list[str])]
type PlainList = Annotated[list[PlainField], BeforeValidator(one_or_more, json_schema_input_type=str | list[str])]
TimeoutField = Annotated[float, duration(1, 60)]
KeepField = Annotated[float, duration(1, 86_400)]
RoleTimeField = Annotated[float, duration(900, 43_200)]
type AccessWord = Literal["read", "write", "admin"]
