"""What a request's body asks for, read from its bytes once the whole of it is here, and the conditions on it.

A server that reads a body in another way than we do would do what no rule allowed, so a body counts as read only where
all servers read it alike; one that does not is as one that nobody can read:

1. an allow holds if every message, or every operation, of the body is one that it names, and there is one
2. a deny or ask holds if any of them is, in any spelling, and on every body that cannot be read

A body is none that can be read unless the request is one of the transport: POST, `application/json` in UTF-8, without
a coding; for GraphQL also a GET whose query holds the document.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final

from egress.policy.graphql import operations_of
from egress.policy.mcp import CALL, messages_of
from egress.policy.parameters import header_pairs, loose_header, nominated, query_pairs
from egress.policy.request import Body
from egress.policy.strict_json import read_json
from egress.policy.vocabulary import Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from egress.policy.parameters import Pair
    from egress.policy.request import McpMessage, Operation, Request
    from egress.policy.strict_json import Json
    from egress.policy.values import GraphqlCondition, McpCondition

UNREADABLE: Final = Body()

_JSON: Final = re.compile(r'application/json(?:[ \t]*;[ \t]*charset=(?:utf-8|"utf-8"))?', re.IGNORECASE)
_HTTP: Final = frozenset({Protocol.HTTP, Protocol.HTTPS})
# Members of a GraphQL request. Others choose a stored document, which we have not got.
_MEMBERS: Final = frozenset({"query", "operationName", "variables", "extensions"})
_PERSISTED: Final = "persistedquery"
# What servers take from the URL before the body.
_OF_THE_URL: Final = frozenset(
    {"query", "operationname", "variables", "extensions", "id", "doc_id", "docid", "documentid", "queryid", "hash"}
)
_TAIL: Final = re.compile(r"[\[.\s].*", re.DOTALL)
_MOST_BATCHED: Final = 20
_UPWARDS: Final = re.compile(r"(?:\A|[/\\])\.{1,2}(?:[/\\]|\Z)|%2[ef]|%5c|[\x00-\x1f\x7f-\x9f]", re.IGNORECASE)


def read_body(request: Request, data: bytes | None) -> Body:
    """What the request's whole body asks for. None: it is too large, or never to be seen. Never raises."""
    if data is None or request.protocol not in _HTTP:
        return UNREADABLE
    headers: dict[str, list[str]] = {}
    pairs = header_pairs(request.headers)
    for name, text in pairs:
        headers.setdefault(loose_header(name), []).append(text)
    if request.method == "GET" and not data:
        return Body(graphql=_asked_in_url(request))
    if request.method != "POST" or not _is_json(headers) or not _type_goes_up(pairs):
        return UNREADABLE
    try:
        value = read_json(data)
    except ValueError:
        return UNREADABLE
    return Body(messages_of(value, headers), None if _url_interferes(request) else _operations(value))


class BodyConditions:
    """The conditions of one rule on the body, ready to be asked."""

    __slots__ = ("_allows", "_graphql", "_mcp")

    def __init__(self, mcp: McpCondition | None, graphql: GraphqlCondition | None, *, allows: bool) -> None:
        self._allows = allows
        self._mcp = mcp
        self._graphql = graphql

    def readable(self, body: Body | None) -> bool:
        """Whether the body can be read in each language that the rule asks about."""
        return (
            body is not None
            and (self._mcp is None or body.mcp is not None)
            and (self._graphql is None or body.graphql is not None)
        )

    def hold(self, body: Body | None) -> bool:
        """Whether all of them hold. None: the body is not known."""
        if body is None:
            return not self._allows
        return self._mcp_holds(body.mcp) and self._graphql_holds(body.graphql)

    def _mcp_holds(self, messages: Sequence[McpMessage] | None) -> bool:
        stated = self._mcp
        if stated is None:
            return True
        if not messages:
            return not self._allows
        return self._met(self._is_named(message, stated) for message in messages)

    def _graphql_holds(self, operations: Sequence[Operation] | None) -> bool:
        stated = self._graphql
        if stated is None:
            return True
        if not operations:
            return not self._allows
        return self._met(self._is_operation(operation, stated) for operation in operations)

    def _met(self, each: Iterable[bool]) -> bool:
        return all(each) if self._allows else any(each)

    def _is_named(self, message: McpMessage, stated: McpCondition) -> bool:
        methods = stated.methods
        if methods is None and (stated.tools is not None or stated.arguments):
            methods = (CALL,)
        if methods is not None and not self._like(message.method, methods):
            return False
        if message.method != CALL:
            return True
        if stated.tools is not None and not self._like(message.tool, stated.tools):
            return False
        return all(self._argument(message, name, pattern) for name, pattern in stated.arguments)

    def _argument(self, message: McpMessage, name: str, pattern: str) -> bool:
        if self._allows:
            value = dict(message.arguments).get(name)
            return value is not None and not _leaves(pattern, value) and self._like(value, (pattern,))
        values = [value for key, value in message.arguments if _loose(key) == _loose(name)]
        return any(value is None or _leaves(pattern, value) or self._like(value, (pattern,)) for value in values)

    def _is_operation(self, operation: Operation, stated: GraphqlCondition) -> bool:
        if stated.operations is not None and operation.kind not in stated.operations:
            return False
        return stated.names is None or self._like(operation.name, stated.names)

    def _like(self, text: str | None, patterns: Sequence[str]) -> bool:
        if text is None:
            return False
        if not self._allows:
            loose = _loose(text)
            return any(_matches(_loose(pattern), loose) for pattern in patterns)
        return any(_matches(pattern, text) for pattern in patterns)


def told(body: Body) -> str:
    """What was judged, in a few words that are safe to print; of texts of the client's only what a name may hold."""
    asked = [
        message.method if message.tool is None else f"{message.method} {message.tool}" for message in body.mcp or ()
    ]
    asked += [
        operation.kind if operation.name is None else f"{operation.kind} {operation.name}"
        for operation in body.graphql or ()
    ]
    shown = ", ".join(_UNPRINTED.sub("?", text[:_TOLD_LENGTH]) for text in asked[:_TOLD_AT_MOST])
    more = len(asked) - _TOLD_AT_MOST
    return f"{shown} and {more} more" if more > 0 else shown


_UNPRINTED: Final = re.compile(r"[^A-Za-z0-9_./ $-]")
_TOLD_LENGTH: Final = 64
_TOLD_AT_MOST: Final = 3


def _is_json(headers: Mapping[str, Sequence[str]]) -> bool:
    kinds, codings = headers.get("content-type", ()), headers.get("content-encoding", ())
    coded = any(coding.lower() != "identity" for coding in codings) or len(codings) > 1
    return len(kinds) == 1 and not coded and _JSON.fullmatch(kinds[0]) is not None


def _type_goes_up(pairs: Sequence[Pair]) -> bool:
    """Whether the server gets the type, under its own name: of a body without one it guesses what it is."""
    return any(name == "content-type" for name, _ in pairs) and "content-type" not in nominated(pairs)


def _operations(value: Json) -> tuple[Operation, ...] | None:
    batch = value if isinstance(value, list) else [value]
    if not 0 < len(batch) <= _MOST_BATCHED:
        return None
    found: list[Operation] = []
    for item in batch:
        operations = _of_one(item, share=len(batch))
        if operations is None:
            return None
        found.extend(operations)
    return tuple(found)


def _of_one(item: Json, *, share: int = 1) -> tuple[Operation, ...] | None:
    if not isinstance(item, dict) or not item.keys() <= _MEMBERS:
        return None
    document, name = item.get("query"), item.get("operationName")
    variables, extensions = item.get("variables"), item.get("extensions")
    if not isinstance(document, str) or not isinstance(name, (str, type(None))):
        return None
    if not isinstance(variables, (dict, type(None))) or not isinstance(extensions, (dict, type(None))):
        return None
    # A server may look up the stored document of a hash, and never read the one that is here.
    if any(member.casefold() == _PERSISTED for member in extensions or ()):
        return None
    return operations_of(document, share=share)


def _asked_in_url(request: Request) -> tuple[Operation, ...] | None:
    pairs = query_pairs(request.query)
    if pairs is None:
        return None
    asked: dict[str, Json] = {}
    for name, value in pairs:
        if _loose_parameter(name) not in _OF_THE_URL:
            continue
        if name in asked or name not in _MEMBERS:
            return None
        asked[name] = value
    try:
        for name in ("variables", "extensions"):
            if name in asked:
                asked[name] = read_json(str(asked[name]).encode())
    except ValueError:
        return None
    return _of_one(asked)


def _url_interferes(request: Request) -> bool:
    """Whether the URL of a POST could be what a server takes the document from."""
    pairs = query_pairs(request.query)
    return pairs is None or any(_loose_parameter(name) in _OF_THE_URL for name, _ in pairs)


def _loose_parameter(name: str) -> str:
    return _TAIL.sub("", name.strip()).casefold()


def _loose(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip()


def _leaves(pattern: str, value: str) -> bool:
    """Whether what a `*` stands for may lead out of what the pattern names: `acme/../other` is not below `acme/`."""
    return "*" in pattern and pattern.strip("*") != "" and _UPWARDS.search(value) is not None


def _matches(pattern: str, text: str) -> bool:
    """Whether `*`, as any text, makes them equal. No regular expression: a body can be made to take one very long."""
    first, *middle = pattern.split("*")
    if not middle:
        return text == pattern
    last = middle.pop()
    end = len(text) - len(last)
    if len(first) > end or not text.startswith(first) or not text.endswith(last):
        return False
    position = len(first)
    for part in middle:
        found = text.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True
