"""One policy file on its way from text to rules: opened and checked, its rules read, its presets after them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from egress.config.checking import check
from egress.config.document import read_document
from egress.config.policy_model import PolicyModel, RuleModel
from egress.config.presets import Includer
from egress.config.reading import read_text
from egress.config.rules import RuleReader
from egress.config.secret_definitions import read_secrets
from egress.config.wording import kind_of, printable
from egress.policy import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.config.document import Document
    from egress.config.preset_files import PresetLibrary
    from egress.config.presets import Inclusion
    from egress.config.secrets_model import SecretDefinition
    from egress.config.sources import PolicySource
    from egress.errors import Problem
    from egress.policy import Rule, TlsMode


@dataclass(slots=True)
class PolicyFile:
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
class Loading:
    """What loading found wrong, and what doubtful, in all files so far."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def open_file(source: PolicySource, state: Loading) -> PolicyFile:
    """The file with what it says beside its rules: document, defaults, secrets."""
    found = read_text(source.path)
    state.problems.extend(found.problems)
    state.warnings.extend(found.warnings)
    file = PolicyFile(source, files=[source.path])
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


def read_rules(file: PolicyFile, known: Mapping[str, SecretDefinition | None], state: Loading) -> None:
    """The file's own rules. `known` are the secrets that they may name."""
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


def read_includes(
    file: PolicyFile, known: Mapping[str, SecretDefinition | None], library: PresetLibrary, state: Loading
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


def _stated_tls(file: PolicyFile) -> TlsMode | None:
    return None if file.model is None else file.model.tls
