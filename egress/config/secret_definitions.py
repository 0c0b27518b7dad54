"""Turns `secrets:` of a policy or server file into definitions. Values are never read here."""

from __future__ import annotations

import os.path
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from egress.config.checking import EXAMPLES, check
from egress.config.plain_sources import FETCHED
from egress.config.policy_model import SecretModel
from egress.config.sandbox_fields import MARK
from egress.config.secret_sources import CommandSource, EnvSource, FileSource, StoreSource
from egress.config.secrets_model import Placeholder, SecretDefinition
from egress.config.source_fields import VARIABLE
from egress.config.templates import SECRET_NAME
from egress.config.wording import kind_of, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.config.credential_model import PlaceholderModel
    from egress.config.document import Document
    from egress.config.secret_sources import SecretSource
    from egress.config.wording import Place
    from egress.errors import Problem

SOURCES: Final = ("env", "file", *FETCHED.values())
# Those that are no models of their own.
_WORDS: Final = frozenset({"env", "file", "store", "command"})
_FILE_HINT: Final = "write the path of a file of mode 0600"
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
            wrong.extend((*unusable, *_hosts(model, document, place), *_templates(model, document, place)))
            if source is not None and not wrong:
                definition = SecretDefinition(
                    name,
                    source,
                    tuple(model.hosts or ()),
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


def _hosts(model: SecretModel, document: Document, place: Place) -> list[Problem]:
    """A secret of our own store is bound there."""
    if model.hosts is not None or model.store is not None:
        return []
    return [document.problem(place, "`hosts` is missing", EXAMPLES["hosts"])]


def _source(
    model: SecretModel, document: Document, place: Place, folder: Path
) -> tuple[SecretSource | None, list[Problem]]:
    given = [key for key in SOURCES if getattr(model, key) is not None]
    if len(given) != 1:
        said = " and ".join(f"`{key}`" for key in given) or "none"
        message = f"a secret has one source, and this one has {said}"
        return None, [document.problem(place, message, "write `env: GITHUB_TOKEN` or `file: /run/secrets/github`")]
    problems = [
        document.problem((*place, key), f"`{key}` is for a `command`", "remove it")
        for key in ("timeout", "keep")
        if getattr(model, key) is not None and model.command is None
    ]
    (key,) = given
    at = (*place, key)
    wrong = None if key in _WORDS else getattr(model, key).problem()
    if wrong is not None:
        inner, message, hint = wrong
        return None, [*problems, document.problem((*at, inner) if inner else at, message, hint)]
    source, unusable = _anchored(_made(key, model), folder)
    problems.extend(
        document.problem(at, f"{quoted(text)} is not a file that can hold a secret", _FILE_HINT) for text in unusable
    )
    if key == "env" and not VARIABLE.match(model.env or ""):
        # Not shown: people paste the value itself here.
        message = "this is not the name of an environment variable"
        hint = "write its name, as in `GITHUB_TOKEN`, never its value"
        problems.append(document.problem(at, message, hint))
    return None if problems else source, problems


def _made(key: str, model: SecretModel) -> SecretSource:
    match key:
        case "env":
            return EnvSource(model.env or "")
        case "file":
            return FileSource(Path(model.file or ""))
        case "store":
            return StoreSource(model.store or "")
        case "command":
            stated = {"seconds": model.timeout, "keep_seconds": model.keep}
            return CommandSource(
                model.command or (), **{name: said for name, said in stated.items() if said is not None}
            )
        case _:
            source: SecretSource = getattr(model, key).source()
            return source


def _anchored[Source](source: Source, folder: Path) -> tuple[Source, list[str]]:
    """The source with its paths from the file's folder, and those that must not be read."""
    if isinstance(source, CommandSource) and "/" in source.argv[0]:
        program = (folder / source.argv[0]).absolute()
        return replace(source, argv=(str(program), *source.argv[1:])), _unusable(program, source.argv[0])
    changed: dict[str, object] = {}
    unusable: list[str] = []
    for field in fields(source):  # type: ignore[arg-type]
        value = getattr(source, field.name)
        if isinstance(value, Path):
            changed[field.name] = folder / value
            text = "" if value == Path() else str(value)
            unusable.extend(_unusable(folder / value, text))
        elif is_dataclass(value):
            changed[field.name], inner = _anchored(value, folder)
            unusable.extend(inner)
    return (replace(source, **changed) if changed else source), unusable  # type: ignore[type-var]


def _unusable(path: Path, text: str) -> list[str]:
    usable = text and text.isprintable() and not os.path.realpath(path).startswith(_KERNEL_FOLDERS)
    return [] if usable else [text]
