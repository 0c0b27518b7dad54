"""Runs a fuzz target: inputs from a pool that grows by what is new, findings made small, counts by kind of answer.

New is an input with a kind of answer that was not there yet, or one that takes a branch of our code that none took
before.
"""

from __future__ import annotations

import json
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Protocol

from fuzz.coverage import Branches
from fuzz.mutation import smallest

if TYPE_CHECKING:
    from collections.abc import Sequence

CORPUS = Path(__file__).parent / "corpus"
_POOL_AT_MOST = 1000


class Target(Protocol):
    """What a fuzzer tests. `check` raises for a finding, else gives the kind of answer that it saw."""

    @property
    def name(self) -> str:
        """Its name, and its corpus's."""

    @property
    def seeds(self) -> tuple[bytes, ...]:
        """What to begin with."""

    def generate(self, chance: Random, pool: Sequence[bytes]) -> bytes:
        """Another input."""

    def check(self, data: bytes, chance: Random) -> str:
        """Hold an input to what must hold."""


@dataclass(slots=True)
class Report:
    """What a run came to: inputs by kind of answer, an input for each kind, and each finding with its input."""

    name: str
    kinds: Counter[str] = field(default_factory=Counter)
    examples: dict[str, bytes] = field(default_factory=dict)
    findings: dict[str, bytes] = field(default_factory=dict)
    branches: int = 0

    @property
    def count(self) -> int:
        """How many inputs there were."""
        return self.kinds.total()

    def __str__(self) -> str:
        found = f"{len(self.kinds)} kinds, {self.branches} branches, {len(self.findings)} findings"
        lines = [f"{self.name}: {self.count} inputs, {found}"]
        lines += [f"  finding: {what}\n    {data!r}" for what, data in self.findings.items()]
        return "\n".join(lines)


def corpus_of(name: str) -> tuple[bytes, ...]:
    """The committed inputs of a target."""
    path = CORPUS / f"{name}.json"
    return tuple(text.encode("latin-1") for text in json.loads(path.read_text())) if path.exists() else ()


def write_corpus(name: str, inputs: Sequence[bytes]) -> None:
    """Commit inputs: one a line, sorted by size."""
    rows = [json.dumps(data.decode("latin-1")) for data in sorted(set(inputs), key=lambda data: (len(data), data))]
    (CORPUS / f"{name}.json").write_text("[\n" + ",\n".join(rows) + "\n]\n")


def fuzz(target: Target, seed: int, *, rounds: int | None = None, seconds: float | None = None) -> Report:
    """Run for so many rounds or seconds, after the corpus. A failure repeats with the same seed and rounds."""
    chance = Random(seed)  # noqa: S311 -- repeatable by intent
    report = Report(target.name)
    committed = corpus_of(target.name)
    pool = [*target.seeds, *committed]
    deadline = None if seconds is None else time.monotonic() + seconds
    with Branches() as branches:
        for data in (*target.seeds, *committed):
            _try(target, data, chance, report)
        while (rounds is None or report.count < rounds) and (deadline is None or time.monotonic() < deadline):
            data = target.generate(chance, pool)
            before = branches.count
            new = _try(target, data, chance, report) or branches.count > before
            if new and len(pool) < _POOL_AT_MOST:
                pool.append(data)
                # One for each way of our code that no other input took, beside one for each kind of answer.
                report.examples.setdefault(f"branch {branches.count}", data)
    report.branches = branches.count
    return report


def _try(target: Target, data: bytes, chance: Random, report: Report) -> bool:
    """Check one input; whether its kind of answer is new."""
    try:
        kind = target.check(data, chance)
    except Exception as error:  # noqa: BLE001 -- whatever is raised is a finding
        what = _described(error)
        if what not in report.findings:
            report.findings[what] = smallest(data, lambda part: _raises(target, part, what))
        kind = "finding"
    new = kind not in report.kinds
    report.kinds[kind] += 1
    if new or len(data) < len(report.examples[kind]):
        report.examples[kind] = data
    return new


def _described(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''} ({last.name}: {last.line})"


def _raises(target: Target, data: bytes, what: str) -> bool:
    try:
        target.check(data, Random(0))  # noqa: S311 -- repeatable by intent
    except Exception as error:  # noqa: BLE001 -- as above
        return _described(error) == what
    return False
