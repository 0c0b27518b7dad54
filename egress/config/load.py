"""Loads policy files: read, check, combine by scope, compile. A file with any problem is not used at all."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from egress.config.checking import check
from egress.config.clock import wall_clock
from egress.config.document import read_document
from egress.config.policy_model import PolicyModel, RuleModel
from egress.config.preset_files import PresetLibrary
from egress.config.presets import Includer
from egress.config.reading import read_text
from egress.config.rules import RuleReader
from egress.config.secret_definitions import read_secrets
from egress.config.wording import kind_of, printable, quoted
from egress.errors import ConfigError, Problem
from egress.policy import Mode, Policy, Sandbox, Scope, ScopeRules, Verdict, compile_policy, expand

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from egress.config.document import Document
    from egress.config.machine import Machine
    from egress.config.presets import Inclusion
    from egress.config.secrets_model import SecretDefinition
    from egress.config.sources import PolicySource
    from egress.policy import Rule, TlsMode, Unfilled

_STRICTEST_FIRST = (Verdict.DENY, Verdict.ASK, Verdict.ALLOW)


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A policy ready to judge, the secrets that its rules may name, every file it was made of, and what to look at.

    `files` are those of presets and of the tools' configuration too. `includes` are the presets with their parameters.
    `policy` is as the files have it: where it depends on the sandbox, ask `of`, which gives it as it holds for one.
    `sandboxes` are those with labels, by name, that are asked about by their names alone.
    """

    policy: Policy
    secrets: Mapping[str, SecretDefinition]
    files: tuple[Path, ...]
    warnings: tuple[Problem, ...]
    includes: tuple[Inclusion, ...] = ()
    sandboxes: Mapping[str, Sandbox] = field(default_factory=dict)
    clock: Callable[[], float] = wall_clock
    _written: dict[Sandbox, Policy] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def rules(self) -> int:
        """How many rules there are, over all scopes."""
        return sum(len(scope.rules) for scope in self.policy.scopes)

    def of(self, sandbox: Sandbox | str) -> Policy:
        """The policy as it holds for one sandbox; the same object wherever it is the same for all.

        Raises ConfigError for a denial that cannot be written out for it.
        """
        known = self.sandboxes.get(sandbox, Sandbox(sandbox)) if isinstance(sandbox, str) else sandbox
        if known not in self._written:
            self._written[known] = policy_of(self.policy, known, clock=self.clock)
        return self._written[known]


def policy_of(
    policy: Policy, sandbox: Sandbox, *, whole: bool = False, clock: Callable[[], float] = wall_clock
) -> Policy:
    """A policy as it holds for one sandbox; itself if that is the same. `whole`: nothing may be left out of it.

    Raises ConfigError for what cannot be written out: a denial, or with `whole` anything.
    """
    scopes = written_out(policy.scopes, sandbox, whole=whole)
    if all(mine is theirs for mine, theirs in zip(scopes, policy.scopes, strict=True)):
        return policy
    return compile_policy(scopes, digest=policy.digest, clock=clock)


def written_out(scopes: Sequence[ScopeRules], sandbox: Sandbox, *, whole: bool = False) -> tuple[ScopeRules, ...]:
    """Rules as they hold for one sandbox. Raises ConfigError, as `policy_of` does."""
    found, unfilled = expand(scopes, sandbox)
    problems = [_unfilled(item, sandbox) for item in unfilled if whole or item.rule.verdict is not Verdict.ALLOW]
    if problems:
        raise ConfigError(problems)
    return found


def _unfilled(item: Unfilled, sandbox: Sandbox) -> Problem:
    rule = item.rule
    if item.missing is None:
        message = f"{quoted(item.text)} is no host with the values of the sandbox `{sandbox.name}`"
        return Problem(rule.file, rule.line, rule.verdict.value, message, "give it shorter values")
    message = f"{quoted(item.text)} cannot be filled in: the sandbox `{sandbox.name}` has no label `{item.missing}`"
    hint = "give it the label, or keep the rule to those that have it with `sandboxes`"
    return Problem(rule.file, rule.line, rule.verdict.value, message, hint)


@dataclass(slots=True)
class _File:
    """One policy file on its way from text to rules."""

    source: PolicySource
    document: Document | None = None
    model: PolicyModel | None = None
    secrets: dict[str, SecretDefinition | None] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)
    lists: list[tuple[str, ...]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    includes: list[Inclusion] = field(default_factory=list)


@dataclass(slots=True)
class _Loading:
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def load_policy(
    sources: Sequence[PolicySource],
    *,
    secrets: Mapping[str, SecretDefinition] | None = None,
    presets: Sequence[Path] = (),
    machine: Machine | None = None,
    clock: Callable[[], float] = wall_clock,
) -> LoadedPolicy:
    """Load policy files, several of one scope as one list in the order given.

    `secrets` are those of the server's configuration, `presets` folders of the user's own presets. `machine` is where
    presets look for a tool's configuration; None for this one. `clock` tells seconds since 1970, by which rules expire.
    Raises ConfigError with every problem of every file.
    """
    (loaded,) = load_policies([sources], secrets=secrets, presets=presets, machine=machine, clock=clock)
    return loaded


def load_policies(
    groups: Sequence[Sequence[PolicySource]],
    *,
    secrets: Mapping[str, SecretDefinition] | None = None,
    presets: Sequence[Path] = (),
    machine: Machine | None = None,
    clock: Callable[[], float] = wall_clock,
) -> list[LoadedPolicy]:
    """A policy for each group of files; a file that stands in many is read once, and its rules are shared.

    Of several groups no file stands alone, so that only those of scope `org` define secrets, as they do beside others.
    Raises ConfigError with every problem of every file.
    """
    state = _Loading()
    library = PresetLibrary(tuple(presets), machine)
    library.check_folders()
    distinct = dict.fromkeys(source for group in groups for source in group)
    files = {source: _open(source, state) for source in distinct}
    alone = len(groups) == 1 and len(groups[0]) == 1
    known = _gather_secrets(list(files.values()), dict(secrets or {}), state, alone=alone)
    for file in files.values():
        _read_rules(file, known, state)
        _include(file, known, library, state)
    members = [[files[source] for source in group] for group in groups]
    for group in members:
        _check_report(group, state)
    state.problems.extend(library.problems)
    state.warnings.extend(library.warnings)
    if state.problems:
        raise ConfigError(_in_order(state.problems))
    defined = {name: definition for name, definition in known.items() if definition is not None}
    warnings = tuple(dict.fromkeys(state.warnings))
    shared: dict[tuple[PolicySource, ...], ScopeRules] = {}
    return [_loaded(group, defined, warnings, shared, clock) for group in members]


def _loaded(
    files: list[_File],
    secrets: Mapping[str, SecretDefinition],
    warnings: tuple[Problem, ...],
    shared: dict[tuple[PolicySource, ...], ScopeRules],
    clock: Callable[[], float],
) -> LoadedPolicy:
    return LoadedPolicy(
        policy=compile_policy(_by_scope(files, shared), digest=_digest(files), clock=clock),
        secrets=secrets,
        files=tuple(dict.fromkeys(path for file in files for path in file.files)),
        warnings=warnings,
        includes=tuple(inclusion for file in files for inclusion in file.includes),
        clock=clock,
    )


def _open(source: PolicySource, state: _Loading) -> _File:
    found = read_text(source.path)
    state.problems.extend(found.problems)
    state.warnings.extend(found.warnings)
    file = _File(source, files=[source.path])
    if found.text is not None:
        file.document, problems = read_document(found.text, printable(str(_told_as(source.path))))
        state.problems.extend(problems)
    if file.document is not None:
        # Rules and secrets are checked one by one, so that an error in one does not hide what the others say.
        top = {key: value for key, value in file.document.data.items() if key not in {"rules", "secrets"}}
        file.model, problems = check(PolicyModel, top, file.document, (), "")
        state.problems.extend(problems)
        folder = source.path.parent
        file.secrets, problems = read_secrets(file.document.data.get("secrets"), file.document, folder)
        state.problems.extend(problems)
    return file


def _told_as(path: Path) -> Path:
    """The path by which problems, rules and the audit name a file: where a link leads, if it leads out of its folder.

    Within its folder (as a ConfigMap has it) the link is the lasting name.
    """
    real = Path(os.path.realpath(path))
    return path if real.is_relative_to(os.path.realpath(path.parent)) else real


def _gather_secrets(
    files: list[_File], server: dict[str, SecretDefinition], state: _Loading, *, alone: bool
) -> dict[str, SecretDefinition | None]:
    known: dict[str, SecretDefinition | None] = dict(server)
    owners = dict.fromkeys(server, "the server's configuration")
    for file in files:
        if file.document is None or not file.secrets:
            continue
        if not alone and file.source.scope is not Scope.ORG:
            # Else a team's file could name any file or variable of the proxy's and have it sent to a host of its own.
            message = f"a policy of scope `{file.source.scope}` beside others may name secrets, not define them"
            hint = "define them in the org policy or in the server's configuration"
            state.problems.append(file.document.problem(("secrets",), message, hint))
        for name, definition in file.secrets.items():
            if name in owners:
                message = f"this secret is defined already, in {owners[name]}"
                state.problems.append(file.document.problem(("secrets", name), message, "keep one definition"))
            else:
                known[name] = definition
                owners[name] = file.document.file
    return known


def _read_rules(file: _File, known: Mapping[str, SecretDefinition | None], state: _Loading) -> None:
    document = file.document
    if document is None:
        return
    written = document.data.get("rules")
    if written is None:
        written = []
    if not isinstance(written, list):
        message = f"should be a list, not {kind_of(written)}"
        state.problems.append(document.problem(("rules",), message, "begin each rule with `- `"))
        return
    reader = RuleReader(document, file.source.path.parent, known, _stated_tls(file))
    for index, item in enumerate(written):
        place = ("rules", index)
        model, problems = check(RuleModel, item, document, place, "rules")
        state.problems.extend(problems)
        rule = None if model is None else reader.read(model, place)
        if rule is not None:
            file.rules.append(rule)
    state.problems.extend(reader.problems)
    state.warnings.extend(reader.warnings)
    file.files.extend(reader.files)
    file.lists = reader.contents
    if file.model is not None and file.model.default is Verdict.ALLOW:
        message = "what no rule refuses is allowed, to every host there is"
        state.warnings.append(document.problem(("default",), message, "write `default: deny` and allow what is needed"))


def _check_report(files: list[_File], state: _Loading) -> None:
    """A scope may forbid the report mode to those below it."""
    ranks = list(Scope)
    forbids = [file for file in files if file.model is not None and file.model.report_below is False]
    for file in files:
        if file.document is None or file.model is None or file.model.mode is not Mode.REPORT:
            continue
        message = "what this file would refuse passes and is only recorded"
        state.warnings.append(file.document.problem(("mode",), message, "write `mode: enforce` when it is ready"))
        for higher in forbids:
            if ranks.index(higher.source.scope) < ranks.index(file.source.scope) and higher.document is not None:
                message = f"{higher.document.file} forbids the report mode in the scopes below its own"
                state.problems.append(file.document.problem(("mode",), message, "write `mode: enforce`, or remove it"))


def _include(
    file: _File, known: Mapping[str, SecretDefinition | None], library: PresetLibrary, state: _Loading
) -> None:
    """The rules of presets, after the file's own."""
    if file.document is None or file.model is None or file.model.include is None:
        return
    includer = Includer(library, known, _stated_tls(file))
    includer.include(file.document, file.model.include)
    state.problems.extend(includer.problems)
    state.warnings.extend(includer.warnings)
    file.rules.extend(includer.rules)
    file.files.extend(includer.files)
    file.includes.extend(includer.inclusions)


def _in_order(problems: list[Problem]) -> list[Problem]:
    """Each problem once, by file in the order of reading, then by line."""
    order = {name: index for index, name in enumerate(dict.fromkeys(problem.file for problem in problems))}
    return sorted(dict.fromkeys(problems), key=lambda problem: (order[problem.file], problem.line or 0))


def _stated_tls(file: _File) -> TlsMode | None:
    return None if file.model is None else file.model.tls


def _by_scope(files: list[_File], shared: dict[tuple[PolicySource, ...], ScopeRules]) -> list[ScopeRules]:
    """Several files of one scope are one list, with the strictest `default` and `tls` that any of them states.

    `shared` are those of other groups, which are the same where their files are.
    """
    scopes = []
    for scope in Scope:
        members = [file for file in files if file.source.scope is scope]
        if not members:
            continue
        sources = tuple(file.source for file in members)
        if sources in shared:
            scopes.append(shared[sources])
            continue
        defaults = {file.model.default for file in members if file.model is not None}
        stated = [file.model.tls for file in members if file.model is not None and file.model.tls is not None]
        rules = tuple(rule for file in members for rule in file.rules)
        default = next((verdict for verdict in _STRICTEST_FIRST if verdict in defaults), None)
        modes = {Mode.ENFORCE if file.model is None or file.model.mode is None else file.model.mode for file in members}
        mode = Mode.REPORT if modes == {Mode.REPORT} else Mode.ENFORCE
        shared[sources] = ScopeRules(scope, rules, default=default, tls=max(stated, default=None), mode=mode)
        scopes.append(shared[sources])
    return scopes


def _digest(files: list[_File]) -> str:
    """SHA-256 (hex) over what the files say: scopes, values, list entries, presets with their parameters.

    In order; comments and layout aside.
    """
    content = [
        {
            "scope": file.source.scope,
            "policy": file.document.data if file.document else None,
            "lists": file.lists,
            "includes": [inclusion.content() for inclusion in file.includes],
        }
        for file in files
    ]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
