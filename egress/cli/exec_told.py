"""What `egress exec` tells when its command has ended: what was denied, by host and reason, and what to do about it."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from egress.audit import AuditReader, parse_filter, printable
from egress.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.audit import AuditRow
    from egress.config import ServerConfig

_MOST_ROWS: Final = 2_000
_MOST_LINES: Final = 10
# What a rule for the host would change.
_BY_RULE: Final = frozenset({"host-not-allowed"})
_CLOCKS_APART_US: Final = 1_000_000


def told(server: ServerConfig, began: float) -> Iterator[str]:
    """The lines; none if nothing was denied. `began`: when the command was started, in seconds since 1970."""
    counts: Counter[tuple[str, str]] = Counter()
    try:
        with AuditReader(server.audit.path) as reader:
            wanted = parse_filter(f"sandbox:{server.sandboxes[0].name} verdict:deny,ask", int(time.time() * 1_000_000))
            for row in reader.newest(wanted, limit=_MOST_ROWS):
                if row.time_us >= began * 1_000_000 - _CLOCKS_APART_US:
                    counts[_destination(row), row.reason] += row.count
    except AuditError as error:
        yield f"egress: what was denied cannot be told: {error.message}"
        return
    if counts:
        yield from _lines(server, counts)


def _lines(server: ServerConfig, counts: Counter[tuple[str, str]]) -> Iterator[str]:
    yield f"egress: denied {counts.total():,} {'request' if counts.total() == 1 else 'requests'}"
    width = max(len(where) for (where, _), _ in counts.most_common(_MOST_LINES))
    for (where, reason), count in counts.most_common(_MOST_LINES):
        yield f"  {count:>6,}  {where:<{width}}  {reason}"
    if len(counts) > _MOST_LINES:
        yield f"  and {len(counts) - _MOST_LINES:,} other destinations or reasons"
    host = next((where.rpartition(":")[0] for (where, why), _ in counts.most_common() if why in _BY_RULE), None)
    if host:
        yield f"  to allow one: egress allow {host} --policy FILE, with a policy file of yours"
    yield f"  all of it: egress audit --filter 'sandbox:{server.sandboxes[0].name}' --audit {server.audit.path}"


def _destination(row: AuditRow) -> str:
    host = printable(row.host or row.sni or row.address or "?")
    return f"{host}:{row.port}" if row.port else host
