"""Loads policy files: read, check, combine by scope, compile. A file with any problem is not used at all."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from egress.config.clock import wall_clock
from egress.config.loaded import LoadedPolicy
from egress.config.policy_file import Loading, PolicyFile, open_file, read_includes, read_rules
from egress.config.preset_files import PresetLibrary
from egress.errors import ConfigError, Problem
from egress.policy import Mode, Scope, ScopeRules, Verdict, compile_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from egress.config.machine import Machine
    from egress.config.secrets_model import SecretDefinition
    from egress.config.sources import PolicySource

_STRICTEST_FIRST = (Verdict.DENY, Verdict.ASK, Verdict.ALLOW)


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
    state = Loading()
    library = PresetLibrary(tuple(presets), machine)
    library.check_folders()
    distinct = dict.fromkeys(source for group in groups for source in group)
    files = {source: open_file(source, state) for source in distinct}
    alone = len(groups) == 1 and len(groups[0]) == 1
    known = _gather_secrets(list(files.values()), dict(secrets or {}), state, alone=alone)
    for file in files.values():
        read_rules(file, known, state)
        read_includes(file, known, library, state)
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
    files: list[PolicyFile],
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


def _gather_secrets(
    files: list[PolicyFile], server: dict[str, SecretDefinition], state: Loading, *, alone: bool
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


def _check_report(files: list[PolicyFile], state: Loading) -> None:
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


def _in_order(problems: list[Problem]) -> list[Problem]:
    """Each problem once, by file in the order of reading, then by line."""
    order = {name: index for index, name in enumerate(dict.fromkeys(problem.file for problem in problems))}
    return sorted(dict.fromkeys(problems), key=lambda problem: (order[problem.file], problem.line or 0))


def _by_scope(files: list[PolicyFile], shared: dict[tuple[PolicySource, ...], ScopeRules]) -> list[ScopeRules]:
    """Several files of one scope are one list, with the strictest `default` and `tls` that any of them states.

    Of `resolvers`, the first that is stated.

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
        asked = (tuple(file.model.resolvers or ()) for file in members if file.model is not None)
        resolvers = next(filter(None, asked), ())
        shared[sources] = ScopeRules(
            scope, rules, default=default, tls=max(stated, default=None), mode=mode, resolvers=resolvers
        )
        scopes.append(shared[sources])
    return scopes


def _digest(files: list[PolicyFile]) -> str:
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
