"""A whole run: its samples, its extra rows, who took part, and the machine; kept in a file to be read again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Self

from bench.driver.extras import Row
from bench.driver.rounds import Results

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OURS: Final = frozenset({"egress, tunnel lane", "egress, http lane", "egress, mitm lane"})


@dataclass(frozen=True, slots=True)
class Report:
    """What a run found. `versions`: of those who took part; `absent`: why the others did not."""

    machine: dict[str, str]
    rounds: int
    seconds: float
    quick: bool
    versions: dict[str, str]
    absent: dict[str, str]
    results: Results
    extras: tuple[Row, ...]

    def rows(self, table: str) -> list[Row]:
        """The extra rows of one table."""
        return [row for row in self.extras if row.table == table]

    def write(self, path: Path) -> None:
        """Keep it."""
        kept = {
            "machine": self.machine,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "quick": self.quick,
            "versions": self.versions,
            "absent": self.absent,
            "results": self.results.as_json(),
            "extras": [asdict(row) for row in self.extras],
        }
        path.write_text(json.dumps(kept))

    @classmethod
    def read(cls, path: Path) -> Self:
        """What was kept."""
        kept: Mapping[str, object] = json.loads(path.read_text())
        results = Results.from_json(kept["results"])  # type: ignore[arg-type]
        extras = tuple(Row(row["table"], tuple(row["cells"]), row["value"]) for row in kept["extras"])  # type: ignore[attr-defined]
        rest = {name: kept[name] for name in ("machine", "rounds", "seconds", "quick", "versions", "absent")}
        return cls(**rest, results=results, extras=extras)  # type: ignore[arg-type]
