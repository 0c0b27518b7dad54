"""Reads the body of a request to an MCP server (streamable HTTP transport): JSON-RPC 2.0, a message or a batch of them.

What a server could take for another message is refused, and with it the whole body:

1. members of a message are those of JSON-RPC, spelled so; `id` is text or a whole number, `params` an object
2. a message is a request, a notification or an answer, never two of them
3. a `tools/call` names its tool once, as text; its arguments are an object
4. headers that repeat what the body says (`Mcp-Method`, `Mcp-Name`) say the same
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from egress.policy.request import McpMessage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from egress.policy.strict_json import Json

CALL: Final = "tools/call"
# What rules call an answer of the client's, which has no method of its own.
ANSWER: Final = "response"

_MEMBERS: Final = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_CALL_MEMBERS: Final = frozenset({"name", "arguments"})
_MOST_MESSAGES: Final = 1_000


def messages_of(value: Json, headers: Mapping[str, Sequence[str]]) -> tuple[McpMessage, ...] | None:
    """The messages of a body, in order; None if any of it cannot be read. `headers` by name in lower case."""
    batch = value if isinstance(value, list) else [value]
    if not 0 < len(batch) <= _MOST_MESSAGES:
        return None
    found: list[McpMessage] = []
    for item in batch:
        message = _message(item)
        if message is None:
            return None
        found.append(message)
    return tuple(found) if _agree(batch, headers) else None


def _message(item: Json) -> McpMessage | None:
    if not isinstance(item, dict) or item.get("jsonrpc") != "2.0" or not item.keys() <= _MEMBERS:
        return None
    if "id" in item and (isinstance(item["id"], bool) or not isinstance(item["id"], (str, int))):
        return None
    if "method" not in item:
        return _answer(item)
    method, params = item["method"], item.get("params", {})
    if "result" in item or "error" in item or not isinstance(method, str) or not isinstance(params, dict):
        return None
    return _call(params) if method == CALL else McpMessage(method)


def _answer(item: dict[str, Json]) -> McpMessage | None:
    whole = "id" in item and "params" not in item and ("result" in item) != ("error" in item)
    return McpMessage(ANSWER) if whole else None


def _call(params: dict[str, Json]) -> McpMessage | None:
    # A server that compares names without their case would find these.
    if any(name.casefold() in _CALL_MEMBERS and name not in _CALL_MEMBERS for name in params):
        return None
    tool, arguments = params.get("name"), params.get("arguments", {})
    if not isinstance(tool, str) or not isinstance(arguments, dict):
        return None
    pairs = tuple((name, value if isinstance(value, str) else None) for name, value in arguments.items())
    return McpMessage(CALL, tool, pairs)


def _agree(batch: Sequence[Json], headers: Mapping[str, Sequence[str]]) -> bool:
    """Whether the headers that a server may route by say what the body says."""
    methods, names = headers.get("mcp-method", ()), headers.get("mcp-name", ())
    if not methods and not names:
        return True
    (only, *others) = batch
    if others or not isinstance(only, dict):
        return False
    params = only.get("params")
    named = (params.get("name"), params.get("uri")) if isinstance(params, dict) else ()
    return list(methods) in ([], [only.get("method")]) and (not names or (len(names) == 1 and names[0] in named))
