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
    """What a connection carries, as rules name it."""

    HTTP = "http"
    HTTPS = "https"
    WS = "ws"
    WSS = "wss"
    TCP = "tcp"


HTTP_PROTOCOLS = frozenset({Protocol.HTTP, Protocol.HTTPS, Protocol.WS, Protocol.WSS})


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
