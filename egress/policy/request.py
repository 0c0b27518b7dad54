"""What the policy core judges: a request, and what its body asks for. Plain values; none does I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egress.policy.values import Host
    from egress.policy.vocabulary import Protocol


@dataclass(frozen=True, slots=True)
class McpMessage:
    """One JSON-RPC message to an MCP server; `method` is `response` for an answer to one of the server's own.

    `tool` and `arguments` are those of a `tools/call`; an argument of None is no text.
    """

    method: str
    tool: str | None = None
    arguments: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a GraphQL document: `query`, `mutation` or `subscription`, and its name if it has one."""

    kind: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """What a body asks for, in each of the languages that rules know. None: it cannot be read so, one way only."""

    mcp: tuple[McpMessage, ...] | None = None
    graphql: tuple[Operation, ...] | None = None


# Made anew for each request, so not frozen: that would make the making several times as dear. Nobody changes one.
@dataclass(slots=True, unsafe_hash=True)
class Request:
    """What the policy core judges.

    The name step knows the first four; `method` None means that the request is not known (yet, or ever, in a
    tunnel). `path` is the raw target's path without the query, as sent; `headers` are (name, value) pairs as sent.
    `body` None means that the body is not known (yet, or ever).
    """

    sandbox: str
    protocol: Protocol
    host: Host
    port: int
    method: str | None = None
    path: str | None = None
    query: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: Body | None = None
