"""The shape of a preset file: a header that says what it allows and risks, its parameters, and rules."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PlainValidator

from egress.config.fields import text, wrong
from egress.config.include_model import Includes  # noqa: TC001  pydantic reads it at run time
from egress.config.policy_model import Strict
from egress.config.preset_parameters import PARAMETER_NAME, WORD, Kind
from egress.config.tool_hosts import Tool
from egress.config.wording import did_you_mean, kind_of, one_of, quoted


def _sentence(value: object) -> str:
    written = text(value)
    if not written.strip() or not written.isprintable():
        raise wrong("should be one line of printable text", "write it in one line")
    return written


def _kind(value: object) -> Kind:
    words = [kind.value for kind in Kind]
    if not isinstance(value, str):
        raise wrong(f"should be {one_of(words)}, not {kind_of(value)}")
    if value not in words:
        raise wrong(f"unknown word {quoted(value)}", did_you_mean(value, words))
    return Kind(value)


def _tool(value: object) -> Tool:
    words = [tool.value for tool in Tool]
    if not isinstance(value, str) or value not in words:
        raise wrong(f"should be {one_of(words)}", "write the tool whose configuration names the hosts")
    return Tool(value)


def _parameter_name(value: object) -> str:
    name = text(value)
    if not PARAMETER_NAME.match(name) or name == "preset":
        raise wrong(f"{quoted(name)} is not a name for a parameter", "write lower-case letters, digits and `_`")
    return name


def _choice(value: object) -> str:
    written = text(value)
    if not WORD.match(written):
        raise wrong(f"{quoted(written)} is not a word", "write letters, digits, `.`, `_` and `-`")
    return written


def _version(value: object) -> int:
    if value == 1 and isinstance(value, int) and not isinstance(value, bool):
        return 1
    raise wrong("this version of egress reads presets of version 1", "write `version: 1`")


def _as_written(value: object) -> object:
    return value


type _Version = Annotated[int, PlainValidator(_version)]
type _Sentence = Annotated[str, PlainValidator(_sentence)]
type _ParameterName = Annotated[str, PlainValidator(_parameter_name)]
type _Choice = Annotated[str, PlainValidator(_choice)]


class ParameterModel(Strict):
    """One parameter. It is required, or has a default, or may be left out."""

    type: Annotated[Kind, PlainValidator(_kind)]
    about: _Sentence
    required: bool | None = None
    optional: bool | None = None
    default: Annotated[object, PlainValidator(_as_written)] = None
    words: list[_Choice] | None = None
    tool: Annotated[Tool | None, PlainValidator(_tool)] = Field(None, alias="from")


class HeaderModel(Strict):
    """What people read before they include a preset."""

    title: _Sentence
    allows: _Sentence
    risks: _Sentence
    parameters: dict[_ParameterName, ParameterModel] | None = None


class PresetModel(Strict):
    """A preset file without its rules: what it states. A preset defines no secrets and states no defaults."""

    version: _Version
    preset: HeaderModel
    include: Includes | None = None
