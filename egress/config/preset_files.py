"""Finds presets by name and reads them: the user's folders, then the presets that come with egress.

A preset of the user's wins over one of ours of the same name: which folders are looked in is said by a flag or by the
server's configuration, never by a policy file, and a preset that a later version brings must not take its place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from egress.config.checking import check
from egress.config.document import read_document
from egress.config.machine import this_machine
from egress.config.preset_model import PresetModel
from egress.config.preset_parameters import Kind, Wrong, read_value
from egress.config.reading import read_text
from egress.config.sources import SHIPPED
from egress.config.tool_hosts import find_tool_hosts
from egress.config.wording import one_of, printable, quoted
from egress.errors import Problem

if TYPE_CHECKING:
    from pathlib import Path

    from egress.config.document import Document
    from egress.config.machine import Machine
    from egress.config.preset_model import ParameterModel
    from egress.config.tool_hosts import Tool, ToolHosts
    from egress.config.wording import Place

SHIPPED_PRESETS: Final = SHIPPED / "presets"

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")
_KEYS = frozenset({"version", "preset", "include", "rules"})


@dataclass(frozen=True, slots=True)
class Preset:
    """A preset as its file says it."""

    path: Path
    document: Document
    model: PresetModel

    @property
    def parameters(self) -> dict[str, ParameterModel]:
        """The parameters by name."""
        return self.model.preset.parameters or {}

    @property
    def rules(self) -> list[object]:
        """The rules as written."""
        rules = self.document.data.get("rules")
        return rules if isinstance(rules, list) else []


def is_preset(text: str, file: str) -> bool:
    """Whether the text is that of a preset, and not of a policy."""
    document, _ = read_document(text, file)
    return document is not None and "preset" in document.data


def shipped_presets() -> dict[str, Path]:
    """The presets that come with egress, by name."""
    return {path.stem: path.resolve() for path in sorted(SHIPPED_PRESETS.glob("*.yaml"))}


@dataclass(slots=True)
class PresetLibrary:
    """Every preset that can be named. A file is read once, and a tool's configuration looked at once."""

    folders: tuple[Path, ...] = ()
    machine: Machine | None = None
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    _presets: dict[Path, Preset | None] = field(default_factory=dict)
    _tools: dict[Tool, ToolHosts] = field(default_factory=dict)

    def check_folders(self) -> None:
        """Record folders that are none: a mistyped one must not leave its place to presets of other folders."""
        for folder in self.folders:
            if not folder.is_dir():
                self.problems.append(Problem(printable(str(folder)), None, "", "no such folder", "check `--presets`"))

    def names(self) -> set[str]:
        """The names of all presets."""
        return {path.stem for folder in self.folders for path in folder.glob("*.yaml")} | set(shipped_presets())

    def find(self, name: str) -> Path | Wrong:
        """The file of the preset with this name."""
        if not _NAME.match(name):
            return Wrong(f"{quoted(name)} is not a preset's name", "write the name alone, as in `github`")
        own = [folder / f"{name}.yaml" for folder in self.folders if (folder / f"{name}.yaml").exists()]
        if len(own) > 1:
            both = " and ".join(quoted(path) for path in own)
            return Wrong(f"two presets have this name: {both}", "rename one of them")
        if own:
            return own[0]
        shipped = shipped_presets().get(name)
        return Wrong(f"no preset is named {quoted(name)}", "") if shipped is None else shipped

    def read(self, path: Path) -> Preset | None:
        """The preset of this file; None for one that is in error, which is recorded once."""
        if path not in self._presets:
            self._presets[path] = self._read(path)
        return self._presets[path]

    def tool_hosts(self, tool: Tool) -> ToolHosts:
        """The hosts that a tool is configured with on this machine."""
        if tool not in self._tools:
            found = find_tool_hosts(tool, self.machine or this_machine())
            self.problems.extend(found.problems)
            self.warnings.extend(found.warnings)
            self._tools[tool] = found
        return self._tools[tool]

    def _read(self, path: Path) -> Preset | None:
        found = read_text(path)
        problems = list(found.problems)
        self.warnings.extend(found.warnings)
        document = model = None
        if found.text is not None:
            document, wrong = read_document(found.text, printable(str(path)))
            problems += wrong
        if document is not None:
            problems += _foreign_keys(document)
            top = {key: value for key, value in document.data.items() if key in _KEYS - {"rules"}}
            model, wrong = check(PresetModel, top, document, (), "preset")
            problems += wrong
            if model is not None:
                problems += _header_problems(model, document)
        self.problems.extend(problems)
        return Preset(path, document, model) if document is not None and model is not None and not problems else None


def _foreign_keys(document: Document) -> list[Problem]:
    problems = []
    for key in document.data:
        if key not in _KEYS:
            message = f"a preset states {one_of(sorted(_KEYS - {'version'})).replace(' or ', ' and ')} only"
            hint = "take a secret's name as a parameter of type `secret`" if key == "secrets" else "remove it"
            problems.append(document.problem((key,), message, hint))
    rules = document.data.get("rules")
    if rules is not None and not isinstance(rules, list):
        problems.append(document.problem(("rules",), "should be a list", "begin each rule with `- `"))
    return problems


def _header_problems(model: PresetModel, document: Document) -> list[Problem]:
    problems = []
    for name, parameter in (model.preset.parameters or {}).items():
        place: Place = ("preset", "parameters", name)
        message, hint = _parameter_wrong(parameter)
        if message:
            problems.append(document.problem(place, message, hint))
        if parameter.default is not None:
            value = read_value(parameter.type, parameter.default, parameter.words or ())
            if isinstance(value, Wrong):
                problems.append(document.problem((*place, "default"), value.message, value.hint))
    return problems


def _parameter_wrong(parameter: ParameterModel) -> tuple[str, str]:  # noqa: PLR0911  one return a fault
    said = [parameter.required is True, parameter.default is not None, parameter.optional is True]
    if (parameter.words is not None) != (parameter.type is Kind.WORD):
        return "`words` belong to a parameter of type `word`, which needs them", "write `words: [read, write]`"
    if parameter.tool is not None and parameter.type is not Kind.HOSTS:
        return "`from` belongs to a parameter of type `hosts`", "remove it"
    if parameter.tool is not None and (parameter.required or parameter.default is not None):
        return "`from` gives the value that `required` and `default` would", "keep `from`"
    if parameter.tool is None and sum(said) != 1:
        return "a parameter states one of `required`, `default` and `optional`", "write `required: true`"
    if parameter.optional and parameter.tool is None and parameter.type not in {Kind.SECRET, Kind.NETWORKS, Kind.HOSTS}:
        # Of these alone is it plain what a rule says without them: no header, no range, no target.
        return f"a parameter of type `{parameter.type}` cannot be optional", "give it a `default`"
    if parameter.type is Kind.SECRET and parameter.default is not None:
        return "a preset names no secret of its own", "write `required: true` or `optional: true`"
    return "", ""
