"""Reads host list files: one target a line, `#` begins a comment, blank lines are nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from egress.config.reading import MAX_LIST_BYTES, read_text
from egress.config.wording import printable
from egress.errors import Problem
from egress.policy import Target, TargetError, parse_target

if TYPE_CHECKING:
    from pathlib import Path

    from egress.policy import Verdict

_MAX_PROBLEMS: Final = 50


class HostList(NamedTuple):
    """A list file's targets with their lines, and what reading it said."""

    targets: tuple[tuple[int, Target], ...]
    content: tuple[str, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def read_host_list(path: Path, verdict: Verdict) -> HostList:
    """Read a list of targets for a rule of this verdict. Problems name the list file and its line."""
    found = read_text(path, limit=MAX_LIST_BYTES)
    if found.text is None:
        return HostList((), (), tuple(found.problems), tuple(found.warnings))
    read = parse_host_list(found.text, printable(str(path)), verdict)
    return read._replace(warnings=(*found.warnings, *read.warnings))


def parse_host_list(text: str, name: str, verdict: Verdict) -> HostList:
    """The targets in the text of a list."""
    warnings: list[Problem] = []
    targets: list[tuple[int, Target]] = []
    content: list[str] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.split("\n"), start=1):
        entry = line.split("#", 1)[0].strip(" \t\r")
        if not entry:
            continue
        parsed = parse_target(entry, verdict=verdict)
        if isinstance(parsed, TargetError):
            problems.append(Problem(name, number, "", printable(parsed.message), printable(parsed.hint)))
            if len(problems) == _MAX_PROBLEMS:
                problems.append(
                    Problem(name, number, "", "more problems follow", "is this a list of hosts, one a line?")
                )
                break
        else:
            targets.append((number, parsed))
            content.append(entry)
    if not targets and not problems:
        warnings.append(Problem(name, None, "", "the list is empty", "the rule that names it matches nothing"))
    return HostList(tuple(targets), tuple(content), tuple(problems), tuple(warnings))
