"""A row of the audit as a command for curl. Secrets are named, never known: `$GITHUB` stands for one."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from egress.audit import AuditRow

_METHOD: Final = re.compile(r"[A-Za-z]{1,20}")
_HOST: Final = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https", "grpc": "https"}
_NOT_A_NAME: Final = re.compile(r"[^A-Z0-9]+")


def curl(row: AuditRow) -> str | None:
    """The command; None for what curl cannot ask, such as a tunnel without an inside or a name that is none."""
    if row.host is None or not _HOST.fullmatch(row.host) or (row.method and not _METHOD.fullmatch(row.method)):
        return None
    scheme = None if row.protocol == "dns" else _SCHEMES.get(row.scheme or "https")
    if scheme is None:
        return None
    method = row.method if row.method not in {None, "GET", "CONNECT"} else None
    words = ["curl", "--head"] if method == "HEAD" else ["curl", *(("--request", method) if method else ())]
    command = shlex.join([*words, _url(row, scheme)])
    # Double quotes, so that the shell puts the value in; a name has letters, digits and `_` alone.
    headers = [f' --header "Authorization: Bearer ${variable(name)}"' for name in row.secrets]
    return command + "".join(headers)


def variable(secret: str) -> str:
    """The name of a shell's variable for a secret."""
    name = _NOT_A_NAME.sub("_", secret.upper()).strip("_") or "SECRET"
    return f"_{name}" if name[0].isdigit() else name


def notes(row: AuditRow) -> list[str]:
    """What the command does not say, since the record does not have it."""
    told = ["The record has neither the body nor the headers of a request."]
    if row.secrets:
        told.append("The header of a secret is assumed to be `Authorization: Bearer`; set the variable yourself.")
    if row.query and "***" in row.query:
        told.append("`***` stands for values of the query, which the record does not have.")
    return told


def _url(row: AuditRow, scheme: str) -> str:
    host = f"[{row.host}]" if ":" in (row.host or "") else row.host
    port = "" if row.port is None or row.port == {"http": 80, "https": 443}[scheme] else f":{row.port}"
    # What the record escaped is no longer what was sent; it becomes harmless text all the same.
    path = quote(row.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = "" if row.query is None else "?" + quote(row.query, safe="/%:@!$&'()*+,;=~-._?")
    return f"{scheme}://{host}{port}{path}{query}"
