"""The shape of one entry of `include:`: a preset's name, or a mapping with its name and parameters."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from egress.config.fields import listed, text


def _as_written(value: object) -> object:
    return value


# What a parameter may hold is said by the preset, so it is checked there, with the preset's words.
type _ParameterField = Annotated[object, PlainValidator(_as_written, json_schema_input_type=str | list[str])]


class IncludeModel(BaseModel):
    """A preset and its parameters. Every key but `preset` is a parameter."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True, defer_build=True)
    __pydantic_extra__: dict[str, _ParameterField]

    preset: Annotated[str, PlainValidator(text, json_schema_input_type=str)] = Field(
        description="The preset's name: one of yours (`--presets`), or one that comes with egress."
    )

    @property
    def parameters(self) -> dict[str, object]:
        """The parameters as written."""
        return dict(self.__pydantic_extra__ or {})


def _named(value: object) -> object:
    return {"preset": value} if isinstance(value, str) else value


type IncludeField = Annotated[IncludeModel, BeforeValidator(_named, json_schema_input_type=str | IncludeModel)]
type Includes = Annotated[list[IncludeField], BeforeValidator(listed, json_schema_input_type=str | list[IncludeField])]
