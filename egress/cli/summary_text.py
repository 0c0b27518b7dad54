"""A summary of the audit as people read it: aligned tables, or Markdown. Text from the record is made harmless here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from egress.audit import printable
from egress.audit.figures import show_bytes
from egress.cli.audit_rows import utc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from egress.audit.summary import Group, Summary

_TITLES: Final = {
    "verdicts": ("Verdicts", ("verdict",)),
    "hosts": ("Hosts", ("host",)),
    "rules": ("Rules", ("place", "rule")),
    "sandboxes": ("Sandboxes", ("sandbox",)),
    "secrets": ("Secrets", ("secret",)),
    "denied": ("Refused most", ("reason", "destination")),
}
_FIGURES: Final = ("requests", "refused", "bytes")
# A sandbox can ask for ever new names; a job's summary page takes a mebibyte, and shows nothing of what is longer.
_HOSTS_AT_MOST: Final = 1_000
_TICKS = re.compile("`+")


def _rows(name: str, groups: Sequence[Group]) -> Iterator[tuple[str, ...]]:
    for group in groups:
        what = [printable(part) for part in group.what]
        if name == "rules":
            what = [f"{what[0]}:{what[1]}", what[2]]
        elif name == "denied":
            port = f":{what[3]}" if what[3] else ""
            what = [what[0], f"{what[1]} {what[2]}{port}".strip()]
        yield *what, f"{group.count:,}", f"{group.refused:,}", show_bytes(group.size)


def _told(found: Summary, unused: list[str] | None) -> Iterator[tuple[str, list[str]]]:
    """What stands below the tables: a title and lines each."""
    if found.new_hosts:
        named = [printable(host) for host in found.new_hosts[:_HOSTS_AT_MOST]]
        more = f"; the first {len(named):,} by name, see --format json" if len(named) < len(found.new_hosts) else ""
        yield f"New hosts ({len(found.new_hosts):,}{more})", named
    if unused is not None:
        yield f"Rules that never spoke ({len(unused):,})", [printable(place) for place in unused]


def tables(found: Summary, unused: list[str] | None) -> Iterator[str]:
    """Lines for a terminal."""
    yield _headline(found)
    for name, (title, columns) in _TITLES.items():
        rows = [(*columns, *_FIGURES), *_rows(name, found.groups[name])]
        if len(rows) == 1:
            continue
        widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
        yield ""
        yield f"{title}{_more(found, name)}"
        for row in rows:
            cells = [
                cell.ljust(width) if place < len(columns) else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            yield f"  {'  '.join(cells)}".rstrip()
    for title, lines in _told(found, unused):
        yield ""
        yield title
        yield from (f"  {line}" for line in lines)


def markdown(found: Summary, unused: list[str] | None) -> Iterator[str]:
    """Lines of Markdown, fit for a CI job's summary page."""
    yield "## Egress"
    yield ""
    yield _headline(found)
    for name, (title, columns) in _TITLES.items():
        rows = list(_rows(name, found.groups[name]))
        if not rows:
            continue
        heads = (*columns, *_FIGURES)
        yield ""
        yield f"### {title}{_more(found, name)}"
        yield ""
        yield _cells(heads)
        yield _cells(["---"] * len(columns) + ["---:"] * len(_FIGURES))
        yield from (_cells([*map(_code, row[: len(columns)]), *row[len(columns) :]]) for row in rows)
    for title, lines in _told(found, unused):
        yield ""
        yield f"### {title}"
        yield ""
        yield from (f"- {_code(line)}" for line in lines)


def _headline(found: Summary) -> str:
    if not found.count:
        return "No rows."

    first, last = utc(found.first_us or 0), utc(found.last_us or 0)
    figures = f"{found.count - found.refused:,} allowed, {found.refused:,} refused"
    return f"{found.count:,} requests from {first} to {last}: {figures}."


def _more(found: Summary, name: str) -> str:
    left_out = found.more.get(name, 0)
    return f" (and {left_out:,} more)" if left_out else ""


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    """Text from the record as Markdown shows it and no more: no link, no table's bar, no HTML."""
    if not text:
        return ""
    fence = "`" * (1 + max((len(run) for run in _TICKS.findall(text)), default=0))
    padding = " " if "`" in text else ""
    return f"{fence}{padding}{text.replace('|', chr(92) + '|')}{padding}{fence}"
