"""The words of a policy: verdicts, scopes, protocols, TLS modes, lanes. One word each, in code, CLI, docs and audit."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Verdict(StrEnum):
    """What a rule, a scope or the whole policy says. `ask` refuses until a person has approved."""

    ALLOW = "allow"
    DENY = "deny"
    ASK = "ask"


class Scope(StrEnum):
    """A policy's rank, highest first. A lower scope can only narrow what a higher one allows."""

    ORG = "org"
    TEAM = "team"
    SANDBOX = "sandbox"
    SESSION = "session"


class Protocol(StrEnum):
    """What a connection carries, as rules name it. GRPC is HTTPS: a request of HTTP/2 that says that it is gRPC.

    DNS is no connection but a question for the addresses of a name.
    """

    HTTP = "http"
    HTTPS = "https"
    WS = "ws"
    WSS = "wss"
    GRPC = "grpc"
    TCP = "tcp"
    DNS = "dns"


HTTP_PROTOCOLS = frozenset({Protocol.HTTP, Protocol.HTTPS, Protocol.WS, Protocol.WSS, Protocol.GRPC})
# What travels over TLS that ends at the destination, or is opened and made anew.
OVER_TLS = frozenset({Protocol.HTTPS, Protocol.WSS, Protocol.GRPC})
# What has no request inside that could become known: it is judged by its name and port alone.
WITHOUT_REQUEST = frozenset({Protocol.TCP, Protocol.DNS})


class Scheme(StrEnum):
    """How a rewritten request travels: in the clear, or over TLS."""

    HTTP = "http"
    HTTPS = "https"


class SwapPlace(StrEnum):
    """Where, besides headers, a rule may have a placeholder swapped for its secret."""

    QUERY = "query"
    PATH = "path"
    BODY = "body"


class TlsMode(IntEnum):
    """How much of a TLS connection is opened; the larger value is the stricter, so `max` merges scopes."""

    TUNNEL = 0
    AUTO = 1
    INSPECT = 2

    @property
    def word(self) -> str:
        """The mode as a policy file spells it."""
        return self.name.lower()


class Mode(StrEnum):
    """What becomes of what a scope refuses: it is refused, or only recorded."""

    ENFORCE = "enforce"
    REPORT = "report"


class Unreadable(StrEnum):
    """What becomes of an answer whose body cannot be searched for the secrets that its request carried."""

    REFUSE = "refuse"
    PASS = "pass"  # noqa: S105  a word of the language


class Certainty(StrEnum):
    """What a name alone tells of a decision: never allowed, always allowed, or up to the request."""

    NO = "no"
    YES = "yes"
    MAYBE = "maybe"


class Lane(StrEnum):
    """How a decided connection is carried, cheapest first: unopened, as HTTP/1.1, or by mitmproxy."""

    TUNNEL = "tunnel"
    HTTP = "http"
    MITM = "mitm"
