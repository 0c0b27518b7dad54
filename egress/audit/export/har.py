"""HAR 1.2, the log that browsers' developer tools open: one entry for each request, tunnel or connection.

1. a row that was refused has status 403 unless another was sent, and its reason as the comment
2. DNS questions are none of these, and are left out
3. the record has no headers, cookies or bodies: these lists are empty, and sizes that are not known are -1
4. what HAR has no field for is in `_egress`, as the format asks for fields of one's own

http://www.softwareishard.com/blog/har-12-spec/
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from egress import __version__
from egress.audit.json_row import encode, ip_text, object_of, utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from egress.audit.reader import AuditRow

_UNKNOWN: Final = -1
_NONE: Final[list[dict[str, str]]] = []
_IMPLIED: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
# What no host has in a URL; the host as it is recorded is in `_egress`.
_ODD: Final = re.compile(r"[^A-Za-z0-9._-]")
_IN_URLS: Final = "/?#[]@!$&'()*+,;=:%~"


def har_log(rows: Iterable[AuditRow]) -> Iterator[str]:
    """The log, in pieces that make one JSON document."""
    yield f'{{"log": {{"version": "1.2", "creator": {encode({"name": "Egress", "version": __version__})}, "entries": ['
    comma = "\n"
    for row in rows:
        if row.protocol == "dns":
            continue
        yield comma + encode(har_entry(row))
        comma = ",\n"
    yield "\n]}}\n"


def har_entry(row: AuditRow) -> dict[str, Any]:
    """One entry. Times in milliseconds."""
    wait, receive = _timings(row)
    entry: dict[str, Any] = {
        "startedDateTime": utc(row.time_us),
        "time": wait + receive,
        "request": _request(row),
        "response": _response(row),
        "cache": {},
        "timings": {"send": 0, "wait": wait, "receive": receive},
        "comment": _comment(row),
        "_egress": _own(row),
    }
    if row.address is not None and row.verdict == "allow":
        entry["serverIPAddress"] = row.address
    return entry


def har_url(row: AuditRow) -> str:
    """An absolute URL that browsers can read, whatever is known of the destination and whatever the client wrote."""
    host = row.host or row.sni or "unknown.invalid"
    ip = ip_text(host)
    host = f"[{ip}]" if ip is not None and ":" in ip else _ODD.sub("_", host)
    scheme = row.scheme if row.scheme in _IMPLIED else "https"
    port = "" if row.port in (None, _IMPLIED.get(scheme)) else f":{row.port}"
    query = "" if row.query is None else f"?{quote(row.query, safe=_IN_URLS)}"
    # A path that does not begin with a slash (`OPTIONS *`, or a hostile one) would belong to the host.
    path = quote(f"/{(row.path or '').removeprefix('/')}", safe=_IN_URLS)
    return f"{scheme}://{host}{port}{path}{query}"


def _request(row: AuditRow) -> dict[str, Any]:
    return {
        "method": row.method or "CONNECT",
        "url": har_url(row),
        "httpVersion": "",
        "cookies": _NONE,
        "headers": _NONE,
        "queryString": [] if row.query is None else [_pair(item) for item in row.query.split("&")],
        "headersSize": _UNKNOWN,
        "bodySize": _UNKNOWN if row.bytes_up is None else row.bytes_up,
    }


def _pair(item: str) -> dict[str, str]:
    name, _, value = item.partition("=")
    return {"name": name, "value": value}


def _response(row: AuditRow) -> dict[str, Any]:
    status = row.status
    if status is None:
        status = 0 if row.verdict == "allow" else int(HTTPStatus.FORBIDDEN)
    response: dict[str, Any] = {
        "status": status,
        "statusText": _PHRASES.get(status, ""),
        "httpVersion": "",
        "cookies": _NONE,
        "headers": _NONE,
        "content": {"size": row.bytes_down or 0, "mimeType": "x-unknown"},
        "redirectURL": "",
        "headersSize": _UNKNOWN,
        "bodySize": _UNKNOWN if row.bytes_down is None else row.bytes_down,
    }
    if row.error is not None:
        response["_error"] = row.error
    return response


_PHRASES: Final = {int(status): status.phrase for status in HTTPStatus}


def _timings(row: AuditRow) -> tuple[float, float]:
    whole = max(row.duration_us or 0, 0) / 1000
    wait = min(max(row.first_byte_us or 0, 0) / 1000, whole)
    return wait, round(whole - wait, 3)


def _comment(row: AuditRow) -> str:
    words = [f"{row.verdict}: {row.reason}", *([row.detail] if row.detail else [])]
    return "; ".join([*words, *([f"error: {row.error}"] if row.error else [])])


def _own(row: AuditRow) -> dict[str, Any]:
    """What a reviewer looks for in the row and HAR has no field for."""
    place = None if row.file is None else f"{row.file}:{row.line}"
    own = {
        **{name: getattr(row, name) for name in ("id", "state", "sandbox", "client", "verdict", "reason", "scope")},
        **{
            name: getattr(row, name)
            for name in ("host", "rule", "policy_hash", "protocol", "lane", "road", "rewritten")
        },
        "place": place,
        "secrets": list(row.secrets),
        "labels": object_of(row.labels),
    }
    return {name: value for name, value in own.items() if value not in (None, [], {})}
