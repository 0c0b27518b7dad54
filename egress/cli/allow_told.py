"""What `egress allow` and `egress deny` say of a change: the diff, the rule's place, the verdicts that follow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from egress.cli.diff_text import show_diff
from egress.cli.policy_files import renamed
from egress.review.lint import Severity, check_loaded
from egress.review.placing import Standing, judge, speaks

if TYPE_CHECKING:
    from egress.cli.policy_files import PolicyFile
    from egress.config import LoadedPolicy
    from egress.errors import Problem
    from egress.review.edit import Edit, NewRule
    from egress.review.placing import Judged, Place


@dataclass(frozen=True, slots=True)
class Told:
    """What is said of a new rule. `void`: it answers for none of its own requests.

    `refused` are the errors of the lint that the file had not before: no start and no reload would use it.
    """

    lines: list[str]
    void: bool
    refused: list[Problem]


def told(rule: NewRule, edit: Edit, new: LoadedPolicy, name: str, file: PolicyFile, old: LoadedPolicy) -> Told:
    """What the policy says with the rule in it, for people; `void` where the rule answers for nothing."""
    judged = judge(rule, new)
    warnings = [renamed(warning, name, file.name) for warning in new.warnings]
    known = {warning.message for warning in old.warnings}
    own = f"rules[{edit.index}]"
    # The rules below the new one have moved, and what is said of them is not new.
    fresh = [warning for warning in warnings if warning.where.startswith(own) or warning.message not in known]
    lines = [f"warning: {warning}" for warning in fresh]
    shown = judged.shown
    if shown.request is not None:
        asked = f"{shown.request.protocol}://{shown.request.host}:{shown.request.port}{shown.request.path or ''}"
        lines.append(f"then {shown.request.method or 'a connection'} to {asked}: {shown.verdict} ({shown.reason})")
    if judged.standing is not Standing.EVERY:
        lines.append(f"note: {_what_overrules(judged, name, file)}")
    void = judged.standing is Standing.NONE or not speaks(rule, new, name, edit.line)
    return Told(lines, void, _new_errors(old, new, name, file))


def _new_errors(old: LoadedPolicy, new: LoadedPolicy, name: str, file: PolicyFile) -> list[Problem]:
    now = datetime.now(UTC)
    before, after = (check_loaded(each, now=now, kept=True).problems(Severity.ERROR) for each in (old, new))
    # The rules below the new one have moved; so errors are counted, not compared.
    return [renamed(problem, name, file.name) for problem in after] if len(after) > len(before) else []


def _what_overrules(judged: Judged, name: str, file: PolicyFile) -> str:
    request = None if judged.first is None else judged.first.request
    asked = "" if request is None else f" ({request.method or 'tcp'} on port {request.port})"
    what = f"not every request of the new rule gets what it says{asked}"
    if judged.other is not None:
        at = file.name if judged.other.file == name else judged.other.file
        return f"{what}: {at}:{judged.other.line}, of scope `{judged.other.scope}`, says otherwise"
    if judged.silent is not None:
        return f"{what}: no rule of scope `{judged.silent.scope}` allows it"
    return what


def show(file: PolicyFile, edit: Edit, where: Place) -> None:
    """Print the change, and why the rule stands where it does."""
    show_diff(file.text, edit.text, file.name)
    if where.before is not None:
        general = f"`{where.before.verdict}` on line {where.before.line}"
        typer.echo(f"it goes before the more general {general} of {file.name}")
