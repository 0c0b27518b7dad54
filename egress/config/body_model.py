"""The words of a rule's conditions on the body: methods, tools and arguments of MCP, operations of GraphQL."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, PlainValidator

from egress.config.fields import listed, text, wrong
from egress.config.wording import did_you_mean, kind_of, quoted

_OPERATIONS: Final = ("query", "mutation", "subscription")
_METHOD: Final = re.compile(r"[A-Za-z_*][A-Za-z0-9_/*.$-]*\Z")
_NAME: Final = re.compile(r"[_A-Za-z*][_0-9A-Za-z*]*\Z")
_LONGEST: Final = 200


def mcp_method(value: object) -> str:
    """A method of MCP, or a pattern of methods."""
    found = text(value)
    if not _METHOD.match(found) or len(found) > _LONGEST:
        raise wrong(f"{quoted(found)} is not a method of MCP", "write `tools/call`, or `notifications/*`")
    return found


def tool(value: object) -> str:
    """A tool's name, or a pattern of names."""
    found = text(value)
    if not found.strip() or not found.isprintable() or len(found) > _LONGEST:
        raise wrong(f"{quoted(found)} is not a tool's name", "write it as the server lists it, or `search_*`")
    return found


def argument(value: object) -> str:
    """A pattern for an argument that is text."""
    if not isinstance(value, str) or not value.isprintable():
        said = kind_of(value) if not isinstance(value, str) else quoted(value)
        raise wrong(f"should be a pattern for an argument that is text, not {said}", "write `repo: acme/*`")
    return value


def operation(value: object) -> str:
    """A kind of GraphQL operation."""
    found = text(value)
    if found not in _OPERATIONS:
        raise wrong(f"unknown word {quoted(found)}", did_you_mean(found, _OPERATIONS))
    return found


def operation_name(value: object) -> str:
    """An operation's name, or a pattern of names."""
    found = text(value)
    if not _NAME.match(found) or len(found) > _LONGEST:
        raise wrong(f"{quoted(found)} is not an operation's name", "write letters, digits and `_`, as in `GetIssues`")
    return found


def stated(value: object) -> object:
    """A mapping without a key that nothing stands after: such a condition could mean all or none."""
    if isinstance(value, dict):
        for key, item in value.items():
            if item is None or item == {}:
                raise wrong(f"nothing stands after {quoted(key)}", "give it a value, or remove it")
    return value


type _OperationWord = Literal["query", "mutation", "subscription"]
type _McpMethod = Annotated[str, PlainValidator(mcp_method, json_schema_input_type=str)]
type _Tool = Annotated[str, PlainValidator(tool, json_schema_input_type=str)]
type _Operation = Annotated[str, PlainValidator(operation, json_schema_input_type=_OperationWord)]
type _OperationName = Annotated[str, PlainValidator(operation_name, json_schema_input_type=str)]

type McpMethods = Annotated[list[_McpMethod], BeforeValidator(listed, json_schema_input_type=str | list[str])]
type Tools = Annotated[list[_Tool], BeforeValidator(listed, json_schema_input_type=str | list[str])]
type Argument = Annotated[str, PlainValidator(argument, json_schema_input_type=str)]
type Operations = Annotated[
    list[_Operation], BeforeValidator(listed, json_schema_input_type=_OperationWord | list[_OperationWord])
]
type OperationNames = Annotated[list[_OperationName], BeforeValidator(listed, json_schema_input_type=str | list[str])]
