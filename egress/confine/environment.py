"""The environment that sends a client's traffic to the proxy and lets it trust the proxy's CA, for many clients.

None of this confines anything: a program may ignore every variable. It makes well-behaved clients work; what holds
the others is the network around them.

Three kinds of variable: where the proxy is; a bundle that replaces a client's own roots (so it holds the public ones
too); our CA alone, for clients that add it to theirs. docs/guides/clients.md has the source for each.
"""

from __future__ import annotations

import json
import re
import shlex
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

# Both cases: curl reads `http_proxy` in lower case only, others only the upper.
_PROXY = (
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    # Set, so that a proxy written in ~/.npmrc does not win; npm's "proxy" is the one for http.
    "npm_config_proxy",
    "npm_config_https_proxy",
)
# Set even if empty: an inherited exception would let a client pass by the proxy, unseen and unhelped.
_NO_PROXY = ("NO_PROXY", "no_proxy")
_BUNDLE = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HTTPLIB2_CA_CERTS",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "npm_config_cafile",
)
_CA = ("NODE_EXTRA_CA_CERTS", "DENO_CERT")
# Node 22.21 and 24.5 or later look at the proxy variables only if told to.
_SWITCHES = {"NODE_USE_ENV_PROXY": "1"}

PROXY_VARIABLES = _PROXY
BUNDLE_VARIABLES = _BUNDLE
CA_VARIABLES = _CA
VARIABLES = (*_PROXY, *_NO_PROXY, *_BUNDLE, *_CA, *_SWITCHES)

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


def child_environment(proxy_url: str, bundle: Path, ca: Path, *, no_proxy: Sequence[str] = ()) -> Mapping[str, str]:
    """The variables to set for a process that is to use the proxy, by name.

    `proxy_url` is `http://HOST:PORT`; `bundle` holds the public roots and our CA, `ca` our CA alone, both absolute and
    readable by the process. `no_proxy` names hosts that it may reach directly, by its network's leave.
    """
    return {
        **dict.fromkeys(_PROXY, proxy_url),
        **dict.fromkeys(_NO_PROXY, ",".join(no_proxy)),
        **dict.fromkeys(_BUNDLE, str(bundle)),
        **dict.fromkeys(_CA, str(ca)),
        **_SWITCHES,
    }


def set_text(variables: Mapping[str, str], shell: Shell) -> str:
    """Text that sets `variables` in `shell`, one a line, safe to evaluate whatever the values hold.

    Raises `ValueError` for a value that the format cannot carry: one with a NUL, or in dotenv with a line break.
    """
    if any("\0" in value for value in variables.values()):
        raise ValueError("a variable cannot hold a NUL")
    match shell:
        case Shell.SH:
            return _lines(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
        case Shell.FISH:
            return _lines(f"set -gx {name} {_fish(value)}" for name, value in variables.items())
        case Shell.POWERSHELL:
            return _lines(f"$Env:{name} = {_powershell(value)}" for name, value in variables.items())
        case Shell.JSON:
            return json.dumps(dict(variables), indent=2) + "\n"
        case Shell.DOTENV:
            return _lines(f"{name}={_dotenv(value)}" for name, value in variables.items())
        case _:
            assert_never(shell)


def unset_text(names: Iterable[str], shell: Shell) -> str:
    """Text that removes the variables `names` in `shell`. In JSON a removed variable is null, in dotenv empty."""
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
        case _:
            assert_never(shell)


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
