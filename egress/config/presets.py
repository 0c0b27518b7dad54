"""Includes presets: finds each, binds its parameters, reads its rules, and goes on with the presets that it includes.

1. A preset's rules stand after those of the file that includes it, in the order named; what a preset includes stands
   after the preset's own rules.
2. A parameter is one that the preset has, and of its kind; what is required must be given, or found in the
   configuration of the tool that the preset names.
3. A secret is one that the including file may name, and it goes where the preset's rules go, if it is bound there.
4. Bounded: how deep presets include presets, how many, and how many rules they make. A preset never includes itself.
5. A policy's `tls: tunnel` does not keep a preset's rules from being looked into where they need it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from egress.config.checking import check
from egress.config.policy_model import RuleModel
from egress.config.preset_parameters import Kind, Wrong, example, read_value
from egress.config.rules import RuleReader
from egress.config.substitution import Bound, Substitution
from egress.config.wording import did_you_mean, quoted
from egress.policy import TlsMode, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from egress.config.document import Document
    from egress.config.include_model import IncludeModel
    from egress.config.preset_files import Preset, PresetLibrary
    from egress.config.preset_model import ParameterModel
    from egress.config.preset_parameters import Value
    from egress.config.secrets_model import SecretDefinition
    from egress.config.wording import Place
    from egress.errors import Problem
    from egress.policy import Rule

MAX_DEPTH: Final = 4
MAX_INCLUDES: Final = 200
MAX_RULES: Final = 10_000

_HANDED_ON = re.compile(r"\$\{param\.([^{}]*)\}\Z")


@dataclass(frozen=True, slots=True)
class Inclusion:
    """One preset as it was included: by which file and line, and with which parameters in the end."""

    preset: str
    file: Path
    by: str
    line: int
    parameters: Mapping[str, Value]
    rules: Sequence[object]
    lists: Sequence[tuple[str, ...]]

    def content(self) -> dict[str, object]:
        """What of it decides, for the policy's digest."""
        return {"preset": self.preset, "parameters": self.parameters, "rules": self.rules, "lists": self.lists}


class _Request(NamedTuple):
    """A preset that is to be included, the place that says so, and the presets on the way there."""

    preset: str
    parameters: Mapping[str, object]
    document: Document
    place: Place
    chain: tuple[Path, ...]

    def problem(self, inner: Place, message: str, hint: str) -> Problem:
        """A problem at this include."""
        return self.document.problem((*self.place, *inner), message, hint)


@dataclass(slots=True)
class Includer:
    """Gathers the rules of all presets that one policy file includes."""

    library: PresetLibrary
    secrets: Mapping[str, SecretDefinition | None]
    tls: TlsMode | None
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    inclusions: list[Inclusion] = field(default_factory=list)

    def include(self, document: Document, entries: Sequence[IncludeModel]) -> None:
        """Read the presets that `include:` of this document names."""
        for index, entry in enumerate(entries):
            self._include(_Request(entry.preset, entry.parameters, document, ("include", index), ()))

    def _include(self, request: _Request) -> None:
        path = self._find(request)
        preset = None if path is None else self.library.read(path)
        if path is not None:
            self.files.append(path)
        if preset is None:
            return
        values = self._bind(preset, request)
        if values is None:
            return
        self._read_rules(preset, values, request)
        for index, entry in enumerate(preset.model.include or ()):
            handed = self._hand_on(entry.parameters, values, preset, ("include", index))
            if handed is not None:
                chain = (*request.chain, preset.path)
                self._include(_Request(entry.preset, handed, preset.document, ("include", index), chain))

    def _find(self, request: _Request) -> Path | None:
        found = self.library.find(request.preset)
        if isinstance(found, Wrong):
            hint = found.hint or did_you_mean(request.preset, self.library.names())
            self._problem(request, ("preset",), found.message, hint)
            return None
        if found in request.chain:
            way = " > ".join(path.stem for path in (*request.chain, found))
            self._problem(
                request, (), f"the preset {quoted(request.preset)} includes itself: {way}", "break the circle"
            )
        elif len(request.chain) >= MAX_DEPTH:
            self._problem(request, (), f"presets include presets more than {MAX_DEPTH} deep", "include fewer at once")
        elif len(self.inclusions) >= MAX_INCLUDES:
            self._problem(request, (), f"more than {MAX_INCLUDES} presets are included", "include fewer")
        else:
            return found
        return None

    def _bind(self, preset: Preset, request: _Request) -> dict[str, Bound] | None:
        """The preset's parameters with their values; None if one is wrong or missing."""
        before = len(self.problems)
        for name in request.parameters:
            if name not in preset.parameters:
                message = f"the preset {quoted(request.preset)} has no parameter {quoted(name)}"
                self._problem(request, (name,), message, did_you_mean(name, preset.parameters) or "remove it")
        values = {
            name: Bound(parameter.type, self._value(name, parameter, request), parameter.words or ())
            for name, parameter in preset.parameters.items()
        }
        return values if len(self.problems) == before else None

    def _value(self, name: str, parameter: ParameterModel, request: _Request) -> Value | None:
        if name in request.parameters:
            return self._given(name, parameter, request)
        if parameter.default is not None:
            value = read_value(parameter.type, parameter.default, parameter.words or ())
            return None if isinstance(value, Wrong) else value
        if parameter.tool is not None:
            return self._found(name, parameter, request)
        if parameter.required:
            hint = f"write `{{preset: {request.preset}, {example(name, parameter.type, parameter.words or ())}}}`"
            self._problem(request, (), f"the preset {quoted(request.preset)} needs {quoted(name)}", hint)
        return None

    def _given(self, name: str, parameter: ParameterModel, request: _Request) -> Value | None:
        value = read_value(parameter.type, request.parameters[name], parameter.words or ())
        if isinstance(value, Wrong):
            inner: Place = (name,) if value.index is None else (name, value.index)
            self._problem(request, inner, value.message, value.hint)
            return None
        if parameter.type is Kind.SECRET and value not in self.secrets:
            hint = did_you_mean(str(value), self.secrets) or "define it under `secrets`"
            self._problem(request, (name,), f"no secret is named {quoted(value)}", hint)
        return value

    def _found(self, name: str, parameter: ParameterModel, request: _Request) -> Value | None:
        """The hosts that a tool is configured with on this machine."""
        if parameter.tool is None:
            return None
        found = self.library.tool_hosts(parameter.tool)
        self.files.extend(found.files)
        value = read_value(parameter.type, list(found.hosts)) if found.hosts else None
        if value is not None and not isinstance(value, Wrong):
            return value
        why = found.why if value is None else value.message
        message = f"{quoted(name)} of the preset {quoted(request.preset)} is not given, and {why}"
        if parameter.optional:
            hint = f"what it would allow is left out; write `{{preset: {request.preset}, {example(name, Kind.HOSTS)}}}`"
            self.warnings.append(request.problem((), message, hint))
        elif not found.problems:
            hint = f"write `{{preset: {request.preset}, {example(name, Kind.HOSTS)}}}`"
            self._problem(request, (), message, hint)
        return None

    def _hand_on(
        self, written: Mapping[str, object], values: Mapping[str, Bound], preset: Preset, place: Place
    ) -> dict[str, object] | None:
        """An inner include's parameters; None if it is left out, because hosts that it is for are not known."""
        handed: dict[str, object] = {}
        for name, item in written.items():
            match = _HANDED_ON.match(item) if isinstance(item, str) else None
            if match is None:
                handed[name] = item
                continue
            bound = values.get(match[1])
            if bound is None:
                message = f"no parameter is named {quoted(match[1])}"
                self.problems.append(preset.document.problem((*place, name), message, did_you_mean(match[1], values)))
            elif bound.value is not None:
                handed[name] = bound.value
            elif bound.kind is Kind.HOSTS:
                return None
        return handed

    def _read_rules(self, preset: Preset, values: Mapping[str, Bound], request: _Request) -> None:
        substitution = Substitution(preset.document, values)
        filled = [(index, substitution.rule(rule, ("rules", index))) for index, rule in enumerate(preset.rules)]
        reader = RuleReader(substitution.result(), preset.path.parent, self.secrets, None)
        problems = substitution.problems
        kept = [(index, rule) for index, rule in filled if rule is not None]
        for index, item in kept if not problems else ():
            place = ("rules", index)
            model, wrong = check(RuleModel, item, reader.document, place, "rules")
            problems += wrong
            rule = None if model is None else reader.read(model, place)
            if rule is not None:
                self.rules.append(self._within_tls(rule))
        problems += reader.problems
        if problems:
            hint = f"look at the preset, {preset.document.file}"
            problems.insert(
                0, request.problem((), f"the preset {quoted(request.preset)} cannot be used like this", hint)
            )
        self.problems += problems
        if len(self.rules) > MAX_RULES:
            self._problem(request, (), f"presets make more than {MAX_RULES} rules", "include fewer")
        self.warnings += reader.warnings
        self.files += reader.files
        given = {name: bound.value for name, bound in values.items() if bound.value is not None}
        self.inclusions.append(
            Inclusion(
                preset=request.preset,
                file=preset.path,
                by=request.document.file,
                line=request.document.line(request.place),
                parameters=given,
                rules=[rule for _, rule in kept],
                lists=reader.contents,
            )
        )

    def _within_tls(self, rule: Rule) -> Rule:
        if self.tls is TlsMode.TUNNEL and rule.tls is None and rule.verdict is Verdict.ALLOW:
            return replace(rule, tls=TlsMode.AUTO)
        return rule

    def _problem(self, request: _Request, inner: Place, message: str, hint: str) -> None:
        self.problems.append(request.problem(inner, message, hint))
