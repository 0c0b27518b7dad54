"""Findings of the lint for people: by file, a line each with its hint below, in colour on a terminal.

Every value is a `rich.text.Text`, never markup, and is escaped: text of a file must not act on the terminal.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.text import Text

from egress.cli.safe_text import safe
from egress.review.lint import Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.review.lint import Checked, Finding

# Of one code in one file no more than these are shown; the other formats hold all.
SHOWN: Final = 20

_STYLES: Final = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
_LINE_WIDTH: Final = 5
_SEVERITY_WIDTH: Final = max(map(len, Severity))


def print_findings(findings: Sequence[Finding]) -> None:
    """Print the findings below the names of their files, in the order given."""
    console = _console()
    for file, group in groupby(findings, key=lambda finding: finding.file):
        console.print(Text(safe(file), "bold"))
        seen: Counter[str] = Counter()
        for finding in group:
            seen[finding.code] += 1
            if seen[finding.code] <= SHOWN:
                _print(console, finding)
        for code, count in seen.items():
            if count > SHOWN:
                console.print(Text(f"{'':>{_LINE_WIDTH}}  {count - SHOWN} more of {code}: see --format json", "dim"))


def print_summary(name: str, checked: Checked) -> None:
    """Print one line: whether the policy can be used, and how much was found."""
    counts = [_count(checked.count(severity), severity.value) for severity in Severity if checked.count(severity)]
    if checked.usable:
        verdict = Text("ok", "green")
        counts.insert(0, _count(checked.rules or 0, "rule"))
    else:
        verdict = Text("refused", "bold red")
    _console().print(Text.assemble(f"{safe(name)}: ", verdict, f" ({', '.join(counts)})"))


def _print(console: Console, finding: Finding) -> None:
    line = "" if finding.line is None else str(finding.line)
    where = f"{finding.where}: " if finding.where else ""
    severity = Text(f"{finding.severity.value:<{_SEVERITY_WIDTH}}", _STYLES[finding.severity])
    start = Text.assemble((f"{line:>{_LINE_WIDTH}}", "dim"), "  ", severity, "  ", (finding.code.value, "bold"), "  ")
    console.print(Text.assemble(start, safe(f"{where}{finding.message}")))
    if finding.hint:
        console.print(Text(f"{'':{len(start)}}{safe(finding.hint)}", "dim"))


def _console() -> Console:
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
