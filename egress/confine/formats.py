"""How variables are written down: for shells, for programs, and for what starts containers.

Every format is quoted by its own rules, so that what reads it gets the value and nothing else happens.
"""

from __future__ import annotations

import json
import re
import shlex
from base64 import b64encode
from enum import StrEnum
from typing import TYPE_CHECKING, Final, assert_never

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path, PurePath

# The names of the ConfigMaps that `k8s` prints.
ENVIRONMENT_MAP: Final = "egress-environment"
TRUST_MAP: Final = "egress-trust"

_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]*")
# PowerShell takes each of these for an apostrophe.
_POWERSHELL_QUOTES = re.compile("(['\u2018\u2019\u201a\u201b])")


class Shell(StrEnum):
    """How the variables are written down."""

    SH = "sh"
    FISH = "fish"
    POWERSHELL = "powershell"
    JSON = "json"
    DOTENV = "dotenv"
    ENV_FILE = "env-file"
    DOCKER = "docker"
    K8S = "k8s"
    K8S_ENV = "k8s-env"


def set_text(variables: Mapping[str, str], shell: Shell) -> str:
    """Text that sets `variables` in `shell`, one a line, safe to evaluate whatever the values hold.

    For docker, the options of `docker run` in one line; for k8s, a ConfigMap for `envFrom`. Raises `ValueError` for a
    value that the format cannot carry: one with a NUL, or in dotenv and env-file with a line break.
    """
    if any("\0" in value for value in variables.values()):
        raise ValueError("a variable cannot hold a NUL")
    line = _SET.get(shell)
    if line is not None:
        return _lines(line(name, value) for name, value in variables.items())
    return _WHOLE[shell](variables)


def unset_text(names: Iterable[str], shell: Shell) -> str:
    """Text that removes the variables `names` in `shell`. In JSON a removed variable is null, in dotenv empty.

    Raises `ValueError` for formats that describe a container: there is nothing to undo in it.
    """
    match shell:
        case Shell.SH:
            return _lines(f"unset {name}" for name in names)
        case Shell.FISH:
            return _lines(f"set -e {name}" for name in names)
        case Shell.POWERSHELL:
            return _lines(f"Remove-Item -ErrorAction SilentlyContinue Env:{name}" for name in names)
        case Shell.JSON:
            return json.dumps(dict.fromkeys(names), indent=2) + "\n"
        case Shell.DOTENV:
            return _lines(f"{name}=" for name in names)
        case Shell.ENV_FILE | Shell.DOCKER | Shell.K8S | Shell.K8S_ENV:
            raise ValueError(f"{shell.value} has nothing to unset: start the container without it")
        case _:
            assert_never(shell)


def config_map(name: str, contents: Mapping[str, bytes]) -> str:
    """A ConfigMap as a YAML document; what is no text goes to `binaryData`."""
    texts, binary = {}, {}
    for key, value in contents.items():
        try:
            texts[key] = value.decode()
        except UnicodeDecodeError:
            binary[key] = b64encode(value).decode("ascii")
    lines = [f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}"]
    for field, values in (("data", texts), ("binaryData", binary)):
        if values:
            lines += [f"{field}:", *(f"  {_yaml(key)}: {_yaml(value)}" for key, value in values.items())]
    return _lines(lines)


def mount(source: Path, target: PurePath) -> str:
    """The option of `docker run` that shows a container a folder it cannot write."""
    fields = ("type=bind", f"source={source}", f"target={target}", "readonly")
    # The option's value is a row of CSV.
    row = ",".join('"' + field.replace('"', '""') + '"' if set(field) & set(',"') else field for field in fields)
    return f"--mount {shlex.quote(row)}"


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _fish(value: str) -> str:
    # In fish's single quotes, backslash and quote are the only characters with a meaning.
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _powershell(value: str) -> str:
    doubled = _POWERSHELL_QUOTES.sub(r"\1\1", value)
    return f"'{doubled}'"


def _dotenv(value: str) -> str:
    # Plain values stay bare: `docker run --env-file` would take quotes for a part of the value.
    if _PLAIN.fullmatch(value):
        return value
    if any(not character.isprintable() for character in value):
        raise ValueError("dotenv cannot hold a line break or another control character")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")
    return f'"{escaped}"'


def _env_file(value: str) -> str:
    # Docker takes the rest of the line as it is: no quotes, no escapes.
    if any(not character.isprintable() for character in value):
        raise ValueError("env-file cannot hold a line break or another control character")
    return value


def _kubernetes(value: str) -> str:
    # `$(NAME)` would be replaced by the value of a variable; `$$` is a dollar sign.
    return value.replace("$", "$$")


def _yaml(text: str) -> str:
    """A double-quoted scalar, which is JSON's string but for characters that YAML wants escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)


_SET: Final[Mapping[Shell, Callable[[str, str], str]]] = {
    Shell.SH: lambda name, value: f"export {name}={shlex.quote(value)}",
    Shell.FISH: lambda name, value: f"set -gx {name} {_fish(value)}",
    Shell.POWERSHELL: lambda name, value: f"$Env:{name} = {_powershell(value)}",
    Shell.DOTENV: lambda name, value: f"{name}={_dotenv(value)}",
    Shell.ENV_FILE: lambda name, value: f"{name}={_env_file(value)}",
}
_WHOLE: Final[Mapping[Shell, Callable[[Mapping[str, str]], str]]] = {
    Shell.JSON: lambda variables: json.dumps(dict(variables), indent=2) + "\n",
    Shell.DOCKER: lambda variables: " ".join(f"--env {shlex.quote(f'{own}={it}')}" for own, it in variables.items()),
    Shell.K8S: lambda variables: config_map(ENVIRONMENT_MAP, {own: it.encode() for own, it in variables.items()}),
    Shell.K8S_ENV: lambda variables: (
        "env:\n" + _lines(f"  - {{name: {own}, value: {_yaml(_kubernetes(it))}}}" for own, it in variables.items())
    ),
}
