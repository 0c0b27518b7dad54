"""OCSF 1.6.0, the schema that security lakes read: one event a line.

1. a request is HTTP Activity (4002), a DNS question DNS Activity (4003); what is not looked into (a tunnel, TCP) is
   Network Activity (4001)
2. all have the profile `security_control`: what was decided is `action_id` and `disposition_id`
3. what the schema has no attribute for is in `unmapped`; what it could take only with values that are not known (`tls`
   without a version) is there too

https://schema.ocsf.io/1.6.0/classes/http_activity
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from egress import __version__
from egress.audit.json_row import encode, ip_text, object_of, utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from egress.audit.reader import AuditRow

VERSION: Final = "1.6.0"
_NETWORK: Final = 4
_ACTIVITIES: Final = {
    "CONNECT": 1,
    "DELETE": 2,
    "GET": 3,
    "HEAD": 4,
    "OPTIONS": 5,
    "POST": 6,
    "PUT": 7,
    "TRACE": 8,
    "PATCH": 9,
}
_DNS: Final = "dns"
_TRAFFIC: Final = 6
_ADDRESSES: Final = frozenset({"A", "AAAA"})
_NO_ERROR, _SERVER_ERROR, _NO_NAME = 0, 2, 3
_CODES: Final = {_NO_ERROR: "NoError", _SERVER_ERROR: "ServError", _NO_NAME: "NXDomain"}
# What the resolver says of a name that it found, and that leads nowhere.
_UNRESOLVED: Final = {"the name does not exist": _NO_NAME, "no address": _NO_ERROR}
_OPEN, _CLOSE, _FAIL, _REFUSE, _OTHER = 1, 2, 4, 5, 99
_TCP: Final = 6
_OUTBOUND: Final = 2
_MOST_PORT: Final = 65_535
# Action and disposition: allowed; blocked; observed and logged, of what a policy in `mode: report` would have denied.
_ALLOWED, _BLOCKED, _OBSERVED = (1, 1), (2, 2), (3, 17)
_ACTIONS: Final = {1: "Allowed", 2: "Denied", 3: "Observed"}
_DISPOSITIONS: Final = {1: "Allowed", 2: "Blocked", 17: "Logged"}
_INFORMATIONAL, _LOW = 1, 2
_UNKNOWN, _SUCCESS, _FAILURE = 0, 1, 2
_UNMAPPED: Final = ("sandbox", "state", "protocol", "lane", "road", "scope", "rewritten", "sni", "error", "secrets")


def ocsf_events(rows: Iterable[AuditRow]) -> Iterator[str]:
    """One event a line."""
    for row in rows:
        yield encode(ocsf_event(row)) + "\n"


def ocsf_event(row: AuditRow) -> dict[str, Any]:
    """The event of a row; attributes without a value are left out."""
    is_dns = row.protocol == _DNS
    is_http = not is_dns and row.method is not None and row.path is not None
    activity = _TRAFFIC if is_dns else _http_activity(row) if is_http else _network_activity(row)
    class_uid = _NETWORK * 1000 + (3 if is_dns else 2 if is_http else 1)
    action, disposition = _decided(row)
    event = {
        "activity_id": activity,
        "activity_name": row.method if is_http and activity == _OTHER else None,
        "category_uid": _NETWORK,
        "class_uid": class_uid,
        "type_uid": class_uid * 100 + activity,
        "severity_id": _INFORMATIONAL if row.verdict == "allow" and row.error is None else _LOW,
        "time": row.time_us // 1000,
        "duration": None if row.duration_us is None else row.duration_us // 1000,
        "message": row.detail,
        "status_id": _status(row),
        "status_code": row.reason,
        "status_detail": row.error,
        "action_id": action,
        "action": _ACTIONS[action],
        "disposition_id": disposition,
        "disposition": _DISPOSITIONS[disposition],
        "firewall_rule": _rule(row),
        "policy": None if row.policy_hash is None else {"uid": row.policy_hash},
        "metadata": _metadata(row),
        "src_endpoint": _client(row),
        "unmapped": _unmapped(row),
        **(_dns(row) if is_dns else _connection(row)),
        **(_http(row) if is_http else {}),
    }
    return _some(event) or {}


def _some(values: dict[str, Any]) -> dict[str, Any] | None:
    """What there is of them; None if nothing is."""
    found = {name: value for name, value in values.items() if value is not None}
    return found or None


def _http_activity(row: AuditRow) -> int:
    return _ACTIVITIES.get(row.method or "", _OTHER)


def _network_activity(row: AuditRow) -> int:
    if row.verdict != "allow":
        return _REFUSE
    if row.state == "open":
        return _OPEN
    return _CLOSE if row.error is None else _FAIL


def _decided(row: AuditRow) -> tuple[int, int]:
    if row.verdict != "allow":
        return _BLOCKED
    return _OBSERVED if row.reason == "would-deny" else _ALLOWED


def _status(row: AuditRow) -> int:
    if row.verdict != "allow" or row.error is not None:
        return _FAILURE
    return _UNKNOWN if row.state == "open" else _SUCCESS


def _rule(row: AuditRow) -> dict[str, Any] | None:
    place = None if row.file is None else f"{row.file}:{row.line}"
    return _some({"name": row.rule, "uid": place})


def _metadata(row: AuditRow) -> dict[str, Any]:
    labels = [f"{name}:{value}" for name, value in object_of(row.labels).items()]
    return {
        "version": VERSION,
        "product": {"name": "Egress", "vendor_name": "Egress", "version": __version__},
        "profiles": ["security_control"],
        "log_name": "requests",
        "uid": row.id,
        "sequence": row.seq,
        "original_time": utc(row.time_us),
        **({"labels": labels} if labels else {}),
    }


def _client(row: AuditRow) -> dict[str, Any]:
    """The sandbox by its name, and the address from which it came; a unix socket has none."""
    host, _, port = row.client.rpartition(":")
    ip = ip_text(host.strip("[]"))
    if ip is None:
        return {"name": row.sandbox, "uid": row.client}
    return {"name": row.sandbox, "ip": ip, **({"port": int(port)} if _is_port(port) else {})}


def _server(row: AuditRow) -> dict[str, Any] | None:
    named = ip_text(row.host)
    endpoint = _some({"hostname": None if named else row.host, "ip": ip_text(row.address) or named})
    if endpoint is not None and row.port is not None and _is_port(str(row.port)):
        endpoint["port"] = row.port
    return endpoint


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) <= _MOST_PORT


def _connection(row: AuditRow) -> dict[str, Any]:
    return {
        "dst_endpoint": _server(row),
        "connection_info": {"direction_id": _OUTBOUND, "protocol_num": _TCP, "protocol_name": "tcp"},
        "traffic": _some({"bytes_out": row.bytes_up, "bytes_in": row.bytes_down}),
    }


def _dns(row: AuditRow) -> dict[str, Any]:
    """The question, and as far as the row has it, the answer: of a denial it does not have the response code."""
    code = None
    if row.verdict == "allow":
        code = _NO_ERROR if row.error is None else _UNRESOLVED.get(row.error.rpartition(": ")[2], _SERVER_ERROR)
    told = row.address if row.method in _ADDRESSES and code == _NO_ERROR else None
    return {
        "query": None if row.host is None else _some({"hostname": row.host, "type": row.method}),
        "answers": None if told is None else [{"rdata": told, "type": row.method}],
        "rcode_id": code,
        "rcode": None if code is None else _CODES[code],
        "connection_info": {"direction_id": _OUTBOUND},
    }


def _http(row: AuditRow) -> dict[str, Any]:
    url = {"hostname": row.host, "path": row.path, "query_string": row.query, "scheme": row.scheme}
    if row.port is not None and _is_port(str(row.port)):
        url |= {"port": row.port}  # type: ignore[dict-item]
    method = row.method if row.method in _ACTIVITIES else None
    return {
        "http_request": _some({"http_method": method, "url": _some(url)}),
        "http_response": None if row.status is None else _response(row),
    }


def _response(row: AuditRow) -> dict[str, Any] | None:
    latency = None if row.first_byte_us is None else row.first_byte_us // 1000
    return _some({"code": row.status, "body_length": row.bytes_down, "latency": latency})


def _unmapped(row: AuditRow) -> dict[str, Any] | None:
    own = {name: getattr(row, name) for name in _UNMAPPED}
    known = row.protocol == _DNS or row.method is None or row.method in _ACTIVITIES
    method = None if known else row.method
    return _some({**own, "secrets": list(row.secrets) or None, "method": method})
