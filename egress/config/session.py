"""Reads the policy that a sandbox is registered with: its scope `session`, which can only narrow.

It is text that somebody hands in, not a file of ours, so it names nothing of this machine: no file of hosts, no
preset, no secret. It injects nothing, and does not report in place of refusing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from egress.config.checking import check
from egress.config.document import read_document
from egress.config.policy_model import HostFile, PolicyModel, RuleModel
from egress.config.rules import RuleReader
from egress.config.wording import kind_of
from egress.errors import ConfigError, Problem
from egress.policy import Mode, Scope, ScopeRules

if TYPE_CHECKING:
    from egress.config.document import Document
    from egress.policy import Rule

SESSION_BYTES: Final = 32 * 1024
_NOT_HERE: Final = ("secrets", "include", "resolvers")


def read_session(text: str, name: str) -> ScopeRules:
    """The scope of the sandbox `name`. Raises ConfigError with every problem."""
    file = f"session of {name}"
    if len(text.encode("utf-8", "surrogatepass")) > SESSION_BYTES:
        message = f"the policy is larger than {SESSION_BYTES // 1024} KB"
        raise ConfigError([Problem(file, None, "", message, "keep long lists in the files that all sandboxes have")])
    document, problems = read_document(text, file)
    if document is None:
        raise ConfigError(problems)
    top = {key: value for key, value in document.data.items() if key not in {"rules", *_NOT_HERE}}
    model, found = check(PolicyModel, top, document, (), "")
    problems += found
    for key in _NOT_HERE:
        if key in document.data:
            message = f"the policy of a session has no `{key}`"
            problems.append(document.problem((key,), message, "keep it in the files that all sandboxes have"))
    if model is not None and model.mode is Mode.REPORT:
        problems.append(document.problem(("mode",), "a session can only narrow, and this lets pass", "remove it"))
    reader = _rules(document, model, problems)
    if problems or model is None:
        raise ConfigError(problems)
    return ScopeRules(Scope.SESSION, reader, default=model.default, tls=model.tls, narrows=True)


def _rules(document: Document, top: PolicyModel | None, problems: list[Problem]) -> tuple[Rule, ...]:
    written = document.data.get("rules", [])
    if not isinstance(written, list):
        problems.append(
            document.problem(("rules",), f"should be a list, not {kind_of(written)}", "write `- deny: ...`")
        )
        return ()
    reader = RuleReader(document, Path(), {}, None if top is None else top.tls)
    rules: list[Rule] = []
    for index, item in enumerate(written):
        place = ("rules", index)
        model, found = check(RuleModel, item, document, place, "rules")
        problems += found
        if model is None:
            continue
        stranger = _stranger(model)
        if stranger:
            problems.append(document.problem(place, f"the policy of a session has no `{stranger}`", "remove it"))
        elif (rule := reader.read(model, place)) is not None:
            rules.append(rule)
    problems += reader.problems
    return tuple(rules)


def _stranger(model: RuleModel) -> str:
    """What a rule of a session must not have; empty: nothing."""
    if any(isinstance(getattr(model, verb), HostFile) for verb in ("allow", "deny", "ask")):
        return "file"
    return next((key for key in ("inject", "swap", "sign") if getattr(model, key) is not None), "")
