"""The record in figures: by verdict, host, rule, sandbox and secret; what was denied most; hosts that are new.

All counts come from the database in a few questions over the rows that a filter gives; memory is bounded by how many
different hosts, rules and so on there are, of which the most frequent are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from egress.audit.filter_sql import where

if TYPE_CHECKING:
    import sqlite3

    from egress.audit.filters import Filter

MOST_GROUPS: Final = 10


@dataclass(frozen=True, slots=True)
class Group:
    """Alike rows: what they have in common, how many they are, how many were refused, and the bytes of both ways."""

    what: tuple[str, ...]
    count: int
    refused: int
    size: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A record in figures. Times in microseconds, None where there are no rows. `more`: groups left out, by table.

    `groups` are the most frequent of each table: `verdicts`, `hosts`, `rules` (file, line, name), `sandboxes`,
    `secrets`, and `denied` (reason, method, host, port). `new_hosts` were asked for in no row before the filter's
    `since`, and are empty without one. `rules_hit` are (file, line) of all rules that spoke.
    """

    first_us: int | None
    last_us: int | None
    groups: dict[str, tuple[Group, ...]]
    new_hosts: tuple[str, ...] = ()
    rules_hit: frozenset[tuple[str, int | None]] = frozenset()
    more: dict[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(group.count for group in self.groups["verdicts"])

    @property
    def refused(self) -> int:
        """How many of them were refused."""
        return sum(group.refused for group in self.groups["verdicts"])


_FIGURES = (
    "sum(count), sum(CASE WHEN verdict <> 'allow' THEN count ELSE 0 END), "
    "sum(coalesce(bytes_up, 0) + coalesce(bytes_down, 0)) FROM requests{join}"
    " WHERE seq >= ? AND {where} GROUP BY {keys} ORDER BY sum(count) DESC, {keys}"
)
_HOST: Final = "coalesce(host, '')"
_TABLES: Final = {
    "verdicts": (("verdict",), "", "1"),
    "hosts": ((_HOST,), "", "host IS NOT NULL"),
    "rules": (("coalesce(file, '')", "coalesce(line, 0)", "coalesce(rule, '')"), "", "file IS NOT NULL"),
    "sandboxes": (("sandbox",), "", "1"),
    "secrets": (
        ("json_each.value",),
        ", json_each(CASE WHEN json_valid(secrets) THEN secrets ELSE '[]' END)",
        "secrets <> '[]'",
    ),
    "denied": (("reason", "coalesce(method, '')", _HOST, "coalesce(port, '')"), "", "verdict <> 'allow'"),
}


def summarize(connection: sqlite3.Connection, wanted: Filter, first: int) -> Summary:
    """The figures of the rows from `seq` `first` on that meet the filter. Raises sqlite3.Error."""
    condition, parameters = where(wanted)
    asked = [first, *parameters]
    found: dict[str, tuple[Group, ...]] = {}
    more: dict[str, int] = {}
    for name, (keys, join, also) in _TABLES.items():
        figures = _FIGURES.format(join=join, where=f"{condition} AND {also}", keys=", ".join(keys))
        rows = connection.execute(f"SELECT {', '.join(keys)}, {figures}", asked).fetchall()
        groups = [Group(tuple(map(str, row[: len(keys)])), *row[len(keys) :]) for row in rows]
        found[name] = tuple(groups[:MOST_GROUPS])
        if len(groups) > MOST_GROUPS:
            more[name] = len(groups) - MOST_GROUPS
    times = f"SELECT min(time_us), max(time_us) FROM requests WHERE seq >= ? AND {condition}"  # noqa: S608 -- constants
    hit = f"SELECT DISTINCT file, line FROM requests WHERE seq >= ? AND {condition} AND file IS NOT NULL"  # noqa: S608 -- constants
    first_us, last_us = connection.execute(times, asked).fetchone()
    return Summary(
        first_us,
        last_us,
        found,
        new_hosts=_new_hosts(connection, wanted, condition, asked),
        rules_hit=frozenset(connection.execute(hit, asked).fetchall()),
        more=more,
    )


def _new_hosts(
    connection: sqlite3.Connection, wanted: Filter, condition: str, asked: list[str | int]
) -> tuple[str, ...]:
    if wanted.since_us is None:
        return ()
    hosts = f"SELECT DISTINCT host FROM requests WHERE seq >= ? AND {condition} AND host IS NOT NULL"  # noqa: S608 -- constants
    new = f"{hosts} EXCEPT SELECT DISTINCT host FROM decisions WHERE time_us < ? ORDER BY host"  # noqa: S608 -- constants
    return tuple(str(host) for (host,) in connection.execute(new, [*asked, wanted.since_us]))
