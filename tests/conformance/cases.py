"""The conformance data as values: requests.json and responses.json, with their short forms written out.

1. a character below U+0100 is the byte of that number
2. `{get}` and `{post}` are a request line and its Host; `{T}` stands before a target and is empty inside a tunnel
3. `{TEXT*NUMBER}` is TEXT so many times
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HOST = "origin.test"
ADDRESS = "93.184.216.34"
_REPEATED = re.compile(r"\{([^{}]+)\*(\d+)\}")


class Way(StrEnum):
    """How a request travels: inside TLS that the proxy opens, or in the clear, as a proxy is asked."""

    TLS = "tls"
    PLAIN = "plain"

    @property
    def port(self) -> int:
        """The default port of its scheme."""
        return 443 if self is Way.TLS else 80


class Outcome(StrEnum):
    """What must become of a request: passed on, refused by its head, or broken off at a body that is malformed."""

    REACHES = "reaches"
    REFUSED = "refused"
    BREAKS = "breaks"


@dataclass(frozen=True, slots=True)
class RequestCase:
    """What a client sends one way. `reaches`: the very bytes that the origin gets; `reason`: of the refusal.

    Without `page`, the connection may just end.
    """

    name: str
    way: Way
    send: bytes
    outcome: Outcome
    reaches: bytes = b""
    reason: str = ""
    page: bool = True

    @property
    def id(self) -> str:
        """The case's name and way."""
        return f"{self.name}-{self.way}"


@dataclass(frozen=True, slots=True)
class ResponseCase:
    """What an origin answers to `method`, and whether it then closes.

    `status`, `fields` and `body` are what the client gets: fields as `Name: value`, chunked bodies taken apart, with
    `trailers` behind and the statuses of `interim` answers before. `any_framing`: how the body's end is told may
    differ. `reason`: of the page that the client gets instead; without `page`, the connection just ends. `cut`: the
    answer must break off after `body`. `reused`: whether the next request uses the same upstream connection.
    """

    name: str
    method: str
    answer: bytes
    close: bool
    status: int = 0
    fields: tuple[bytes, ...] = ()
    body: bytes = b""
    trailers: tuple[bytes, ...] = ()
    interim: tuple[int, ...] = ()
    any_framing: bool = False
    reason: str = ""
    page: bool = True
    cut: bool = False
    reused: bool = False

    @property
    def id(self) -> str:
        """The case's name."""
        return self.name


def written_out(text: str, way: Way) -> bytes:
    """The bytes of a row's text."""
    scheme = f"http://{HOST}" if way is Way.PLAIN else ""
    text = _REPEATED.sub(lambda match: match[1] * int(match[2]), text)
    for name in ("get", "post"):
        text = text.replace(f"{{{name}}}", f"{name.upper()} {{T}}/ HTTP/1.1\r\nHost: {HOST}\r\n")
    text = text.replace("{T}", scheme).replace("{address}", ADDRESS)
    other = Way.PLAIN if way is Way.TLS else Way.TLS
    return text.replace("{port}", str(way.port)).replace("{other}", str(other.port)).encode("latin-1")


def request_cases() -> list[RequestCase]:
    """Every request, once for each way that it is meant for."""
    rows: list[dict[str, Any]] = [row for group in _read("requests.json").values() for row in group]
    return [_request(row, Way(way)) for row in rows for way in row.get("ways", list(Way))]


def response_cases() -> list[ResponseCase]:
    """Every answer of an origin."""
    return [_response(row) for group in _read("responses.json").values() for row in group]


def _read(name: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = json.loads((HERE / name).read_text())
    return found


def _request(row: dict[str, Any], way: Way) -> RequestCase:
    send = written_out(row["send"], way)
    (outcome,) = [outcome for outcome in Outcome if outcome in row]
    if outcome is Outcome.REACHES:
        return RequestCase(row["name"], way, send, outcome, reaches=written_out(row["reaches"], way))
    return RequestCase(row["name"], way, send, outcome, reason=row[outcome])


def _response(row: dict[str, Any]) -> ResponseCase:
    name, method = row["name"], row.get("to", "GET")
    answer, close = written_out(row["answer"], Way.TLS), row.get("close", False)
    if "refused" in row:
        return ResponseCase(name, method, answer, close, reason=row["refused"])
    given = row.get("passed") or row["cut"]
    return ResponseCase(
        name,
        method,
        answer,
        close,
        status=given["status"],
        fields=tuple(field.encode("latin-1") for field in given.get("fields", ())),
        body=given["body"].encode("latin-1"),
        trailers=tuple(field.encode("latin-1") for field in row.get("trailers", ())),
        interim=tuple(row.get("interim", ())),
        any_framing=row.get("framing") == "any",
        cut="cut" in row,
        reused="cut" not in row and row.get("again") != "new",
    )
