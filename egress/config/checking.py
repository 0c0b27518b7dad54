"""Holds a part of a document against its model, and turns every error that pydantic found into a `Problem`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAliasType, get_args

from pydantic import BaseModel, ValidationError

from egress.config.later import later_message
from egress.config.policy_model import RuleModel
from egress.config.scalars import is_unread
from egress.config.wording import did_you_mean, kind_of, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import ErrorDetails

    from egress.config.document import Document
    from egress.config.wording import Place
    from egress.errors import Problem

EXAMPLES = {
    "version": "write `version: 1`",
    "hosts": "write `hosts: [api.example.com]`, the hosts that it may be sent to",
    "file": "write `{file: lists/hosts.txt}`",
}


def check[Model: BaseModel](
    model: type[Model], value: object, document: Document, place: Place, section: str
) -> tuple[Model | None, list[Problem]]:
    """`value` as the model, or None, and all problems. `section` is where keys of later versions are looked up."""
    if is_unread(value):
        return None, []
    if not isinstance(value, dict):
        message = f"should be a mapping of keys, not {kind_of(value)}"
        return None, [document.problem(place, message, _mapping_hint(value))]
    problems = _empty_values(model, value, document, place)
    try:
        found = model.model_validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False)
        told = (
            _problem(model, detail, document, place, section) for detail in details if not is_unread(detail["input"])
        )
        problems.extend(told)
        return None, problems
    return (None if problems else found), problems


def _mapping_hint(value: object) -> str:
    """For text like `allow:a.example.com`."""
    return "write a space after the colon: `key: value`" if isinstance(value, str) and ":" in value else ""


def _key_hint(section: str, key: str, known: set[str]) -> str:
    """What to do about an unknown key: most are misspelt, some stand at the wrong place."""
    if not key.isascii() and any(character.isspace() for character in key):
        return "it holds a space that is none to YAML; write plain spaces"
    if key.startswith("-"):
        return "write a space after the `-` that begins a rule"
    if not section and key not in known and key in RuleModel.model_fields:
        return "it belongs to a rule: indent it under the `- ` of one"
    return did_you_mean(key, known)


def _empty_values(model: type[BaseModel], value: dict[str, object], document: Document, place: Place) -> list[Problem]:
    """A key with nothing after it: not the same as no key, since a condition without values could mean all or none."""
    return [
        document.problem((*place, key), "nothing stands after this key", "give it a value, or remove it")
        for key, item in value.items()
        if item is None and key in model.model_fields and not model.model_fields[key].is_required()
    ]


def _problem(model: type[BaseModel], detail: ErrorDetails, document: Document, place: Place, section: str) -> Problem:
    inner = tuple(part for part in detail["loc"] if part not in {"<list>", "<file>", "<text>", "<form>", "[key]"})
    at = (*place, *inner)
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            key = str(inner[-1])
            later = later_message(section, key) if len(inner) == 1 else None
            known = _keys_at(model, inner[:-1])
            message, hint = later or ("unknown key", _key_hint(section if len(inner) == 1 else "-", key, known))
            return document.problem(at, message, hint)
        case "missing":
            key = str(inner[-1])
            return document.problem(at[:-1], f"`{key}` is missing", EXAMPLES.get(key, f"write `{key}: ...`"))
        case "wrong":
            return document.problem(at, str(context["message"]), str(context["hint"]))
        case "list_type":
            return document.problem(at, f"should be a list, not {kind_of(detail['input'])}", "write `[a, b]`")
        case "dict_type" | "model_type":
            return document.problem(at, f"should be a mapping, not {kind_of(detail['input'])}", "write `{key: value}`")
        case _:
            return document.problem(at, _plain(detail))


def _plain(detail: ErrorDetails) -> str:
    """Pydantic's own sentence in our form: lower case, no period, our words for types."""
    message = detail["msg"].rstrip(".")
    message = message[:1].lower() + message[1:]
    for theirs, ours in (
        ("input should be", "should be"),
        ("a valid ", "a "),
        ("a boolean", "true or false"),
        ("integer", "whole number"),
    ):
        message = message.replace(theirs, ours)
    given = detail["input"]
    shown = quoted(given) if isinstance(given, (str, int, float)) else kind_of(given)
    return f"{message}, not {shown}"


def _keys_at(model: type[BaseModel], inner: Place) -> set[str]:
    """The keys that the model (or a model inside it) has at a place."""
    models: list[type[BaseModel]] = [model]
    for part in inner:
        if isinstance(part, str):
            named = [m.model_fields[part].annotation for m in models if part in m.model_fields]
            # A key that is no field is the key of a mapping; the models stay those of its values.
            models = [deep for annotation in named for deep in _models_in(annotation)] if named else models
    return {entry.alias or name for found in models for name, entry in found.model_fields.items()}


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif isinstance(annotation, TypeAliasType):
        yield from _models_in(annotation.__value__)
    else:
        for argument in get_args(annotation):
            yield from _models_in(argument)
