"""The policy at hand while the audit is viewed: what it says of a row now, and a rule for a row put into its file.

The same machinery as `egress explain ID` and `egress allow ID`; only who shows it and asks is another.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import typer

from egress.cli import policy_files
from egress.cli.allow_rule import Conditions
from egress.cli.allow_told import told
from egress.cli.diff_text import diff_lines
from egress.cli.explain_row import question_of
from egress.cli.explain_text import answer_rows
from egress.cli.loading import find
from egress.config import shipped_policies
from egress.config.document import read_document
from egress.errors import ConfigError, EgressError, Problem
from egress.policy import Verdict
from egress.review import explain
from egress.review.edit import insert_rule
from egress.review.placing import Standing, judge, place
from egress.review.row_rule import rule_for, widenings
from egress.viewer.ports import Proposal, Today

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.audit import AuditRow
    from egress.cli.loading import Surroundings
    from egress.cli.policy_files import PolicyFile
    from egress.config import LoadedPolicy
    from egress.review.edit import NewRule
    from egress.review.placing import Place
    from egress.viewer.ports import Wish


@dataclass(frozen=True, slots=True)
class _Change:
    file: PolicyFile
    text: str


class PolicyDesk:
    """The policies that `--policy` names; rules go to the last of them. Loads them once at the start, to be sure."""

    def __init__(self, texts: Sequence[str], around: Surroundings) -> None:
        self._around = around
        self._sources = around.sources(find(texts))
        self._is_shipped = self._sources[-1].path in shipped_policies().values()
        around.load(self._sources)

    @property
    def file(self) -> str:
        """The last file, as messages name it."""
        return policy_files.read(self._sources[-1]).name

    def closed(self) -> str | None:
        """Why no rule can be written."""
        path = self._sources[-1].path
        if self._is_shipped:
            return f"`{path.stem}` comes with egress and is not changed; copy it, and name the copy"
        real = path.resolve()
        # The file is replaced by a rename, so its folder is what must be writable; a file without the bit is not ours.
        if not (os.access(real, os.W_OK) and os.access(real.parent, os.W_OK)):
            return f"{path} or its folder is read-only"
        return None

    def today(self, row: AuditRow) -> Today:
        """What the policies say now to what the row asked."""
        question = question_of(row)
        if question is None:
            return Today("unknown", (("note", "what was refused before it could be read cannot be asked again"),))
        loaded = self._around.load([*self._sources, *self._around.own_policies(row.sandbox)])
        answer = explain(question, loaded, pins=self._around.pins)
        return Today(answer.verdict.value, tuple(answer_rows(answer)))

    def propose(self, row: AuditRow, wish: Wish) -> Proposal:
        """The change that puts the rule into the file, and what the policies then say."""
        rules = widenings(rule_for(asdict(row), Verdict(wish.verb)))
        choices = tuple(_shown(rule) for rule in rules)
        rule = _on(rules[min(wish.choice, len(rules) - 1)], wish)
        file = policy_files.read(self._sources[-1])
        loaded = self._around.load(self._sources)
        if (said := _said_already(rule, loaded)) is not None:
            return Proposal(choices, (), (), said)
        where = _place(rule, loaded, file)
        if where.conflict is not None:
            line = f"{file.name}:{where.conflict.line}"
            return Proposal(choices, (), (), f"{line} says `{where.conflict.verdict}` to the same; change that rule")
        edit = insert_rule(file.text, file.name, rule, where.index)
        trial = policy_files.Trial(file, edit.text, self._sources, self._around)
        then = trial.look(lambda new, name: told(rule, edit, new, name, file, loaded))
        refused = "; ".join(map(str, then.refused)) or ("the rule would change nothing" if then.void else None)
        notes = list(then.lines)
        if where.before is not None:
            notes.append(f"it goes before the more general `{where.before.verdict}` on line {where.before.line}")
        diff = tuple(diff_lines(file.text, edit.text, file.name))
        return Proposal(choices, diff, tuple(notes), refused, _Change(file, edit.text))

    def write(self, proposal: Proposal) -> None:
        """Put the new text in the file's place."""
        if proposal.refused is not None or not isinstance(proposal.change, _Change):
            raise EgressError("this change is not to be written")
        policy_files.replace_file(proposal.change.file, proposal.change.text)


def _on(rule: NewRule, wish: Wish) -> NewRule:
    try:
        return Conditions(None, None, None, None, wish.ttl or None, wish.reason or None).on(rule)
    except typer.BadParameter as error:
        raise EgressError(error.message) from error


def _shown(rule: NewRule) -> str:
    unread = rule.protocol in {("tcp",), ("dns",)}
    method = rule.protocol[0] if unread else ", ".join(rule.methods) or "any method"
    path = ", ".join(rule.paths) or ("" if unread else "any path")
    ports = f" port {', '.join(rule.ports)}" if rule.ports else ""
    where = f"{', '.join(rule.targets)}{ports}"
    return "  ".join(part for part in (method, where, path) if part)


def _said_already(rule: NewRule, loaded: LoadedPolicy) -> str | None:
    judged = judge(rule, loaded)
    if judged.standing is not Standing.EVERY:
        return None
    by = judged.shown.rule
    word: Literal["allowed", "denied"] = "allowed" if rule.verdict is Verdict.ALLOW else "denied"
    return f"it is {word} already{'' if by is None else f', by {by.file}:{by.line}'}"


def _place(rule: NewRule, loaded: LoadedPolicy, file: PolicyFile) -> Place:
    document, problems = read_document(file.text, file.name)
    if document is None:  # it was loaded a moment ago
        raise ConfigError(problems or [Problem(file.name, None, "", "the file cannot be read")])
    return place(rule, loaded, document)
