"""Writes the generated parts of docs/performance.md, and leaves the prose between them as it is.

A generated part stands between `<!-- NAME: begin (generated) -->` and `<!-- NAME: end -->`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bench.driver import tables
from bench.driver.contenders import Lane

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bench.driver.report import Report


def sections(report: Report) -> dict[str, str]:
    """Every generated part by name."""
    found = {
        "machine": tables.machine(report),
        "absent": tables.absent(report),
        "targets": tables.targets(report),
        "best": tables.best(report),
    }
    for lane in Lane:
        found[f"{lane} requests"] = tables.requests(report, lane)
        if lane is not Lane.PLAIN:
            found[f"{lane} bodies"] = tables.bodies(report, lane)
    return found | {table: tables.beside(report, table) for table in tables.EXTRAS}


def fill(text: str, found: Mapping[str, str]) -> str:
    """The document with these parts in their places; raises KeyError if a part has no place."""
    for name, part in found.items():
        place = re.compile(
            rf"(<!-- {re.escape(name)}: begin \(generated\) -->\n).*?(<!-- {re.escape(name)}: end -->)", re.DOTALL
        )
        text, count = place.subn(lambda match, part=part: f"{match[1]}{part}\n{match[2]}", text)
        if count != 1:
            raise KeyError(name)
    return text


def write(path: Path, report: Report) -> None:
    """Fill the document."""
    path.write_text(fill(path.read_text(), sections(report)))
