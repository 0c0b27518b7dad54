"""Turns `secrets:` of a policy or server file into definitions. Values are never read here."""

from __future__ import annotations

import os.path
import re
from typing import TYPE_CHECKING

from egress.config.checking import check
from egress.config.policy_model import SecretModel
from egress.config.sandbox_fields import MARK
from egress.config.secret_sources import EnvSource, FileSource
from egress.config.secrets_model import Placeholder, SecretDefinition
from egress.config.templates import SECRET_NAME
from egress.config.wording import kind_of, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from egress.config.credential_model import PlaceholderModel
    from egress.config.document import Document
    from egress.config.wording import Place
    from egress.errors import Problem

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Files of the kernel's: another process's environment is no place for a secret of ours.
_KERNEL_FOLDERS = ("/proc/", "/sys/", "/dev/")


def read_secrets(
    value: object, document: Document, folder: Path
) -> tuple[dict[str, SecretDefinition | None], list[Problem]]:
    """Every secret that `secrets:` names, in order; None for one whose definition is in error."""
    if value is None:
        return {}, []
    if not isinstance(value, dict):
        message = f"should be a mapping of names, not {kind_of(value)}"
        return {}, [document.problem(("secrets",), message, "write `github: {env: GITHUB_TOKEN, hosts: [...]}`")]
    found: dict[str, SecretDefinition | None] = {}
    problems: list[Problem] = []
    for name, item in value.items():
        place: Place = ("secrets", name)
        if not SECRET_NAME.match(name):
            message = f"{quoted(name)} is not a name for a secret"
            problems.append(document.problem(place, message, "write letters, digits, `_` and `-`, as in `github`"))
        model, wrong = check(SecretModel, item, document, place, "secrets")
        definition = None
        if model is not None:
            source, unusable = _source(model, document, place, folder)
            wrong.extend((*unusable, *_templates(model, document, place)))
            if source is not None:
                definition = SecretDefinition(
                    name,
                    source,
                    tuple(model.hosts),
                    methods=None if model.methods is None else frozenset(model.methods),
                    paths=None if model.paths is None else tuple(model.paths),
                    placeholder=_placeholder(model.placeholder),
                )
        problems.extend(wrong)
        found[name] = definition
    problems.extend(_alike(found, document))
    return found, problems


def _alike(found: Mapping[str, SecretDefinition | None], document: Document) -> list[Problem]:
    """Placeholders that the proxy could not tell from one another, or that one variable cannot hold."""
    problems: list[Problem] = []
    earlier: dict[str, Placeholder] = {}
    for name, definition in found.items():
        placeholder = None if definition is None else definition.placeholder
        if placeholder is None:
            continue
        at = ("secrets", name, "placeholder")
        for other, theirs in earlier.items():
            if theirs.variable is not None and theirs.variable == placeholder.variable:
                message = f"the placeholder of {quoted(other)} is in the variable {quoted(theirs.variable)} already"
                problems.append(document.problem((*at, "env"), message, "name another variable"))
            if theirs.value and placeholder.value and _overlap(theirs.value, placeholder.value):
                message = f"this placeholder cannot be told from that of {quoted(other)}"
                problems.append(document.problem((*at, "value"), message, "write another, or none"))
        earlier[name] = placeholder
    return problems


def _overlap(one: str, other: str) -> bool:
    return one in other or other in one


def _templates(model: SecretModel, document: Document, place: Place) -> list[Problem]:
    message = "a secret is bound to paths that are written out, without templates"
    return [
        document.problem((*place, "paths", index), message, "name the paths")
        for index, path in enumerate(model.paths or ())
        if MARK in path
    ]


def _placeholder(model: PlaceholderModel | None) -> Placeholder | None:
    return None if model is None else Placeholder(model.env, model.value, model.like)


def _source(
    model: SecretModel, document: Document, place: Place, folder: Path
) -> tuple[EnvSource | FileSource | None, list[Problem]]:
    if (model.env is None) == (model.file is None):
        given = "both `env` and `file`" if model.env is not None else "neither `env` nor `file`"
        message = f"a secret has one source, and this one has {given}"
        return None, [document.problem(place, message, "write `env: GITHUB_TOKEN` or `file: /run/secrets/github`")]
    if model.env is not None:
        if _VARIABLE.match(model.env):
            return EnvSource(model.env), []
        # Not shown: people paste the value itself here.
        message = "this is not the name of an environment variable"
        return None, [
            document.problem((*place, "env"), message, "write its name, as in `GITHUB_TOKEN`, never its value")
        ]
    text = model.file or ""
    path = folder / text
    if not text or not text.isprintable() or os.path.realpath(path).startswith(_KERNEL_FOLDERS):
        message = f"{quoted(text)} is not a file that can hold a secret"
        return None, [document.problem((*place, "file"), message, "write the path of a file of mode 0600")]
    return FileSource(path), []
