"""Denials that a person or an agent can read, and that cannot be taken for the server's own answer.

The page is made of our own words and canonical names only: no byte of the request or of an upstream gets in.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import ceil
from pathlib import PurePath
from typing import TYPE_CHECKING

from egress.policy import TEXTS, Reason, Verdict

if TYPE_CHECKING:
    from egress.gate.exchange import Exchange
    from egress.policy import RuleRef

DECISION_HEADER = "X-Egress-Decision"
_WHO = 407


@dataclass(frozen=True, slots=True)
class Denial:
    """A refusal as it is told: verdict, reason, the rule that said it, one sentence of detail, the decision's id.

    `retry_after`: seconds until the same may be allowed, where that is known. `asks_who`: the client is asked for a
    sandbox's name and token (RFC 9110, section 11.7.1).
    """

    decision_id: str
    reason: Reason
    detail: str = ""
    verdict: Verdict = Verdict.DENY
    rule: RuleRef | None = None
    host: str = ""
    port: int = 0
    retry_after: float | None = None
    asks_who: bool = False

    @property
    def status(self) -> int:
        """The HTTP status of the page."""
        return _WHO if self.asks_who else TEXTS[self.reason].status

    @property
    def reason_phrase(self) -> str:
        """What curl, git, pip and urllib show of a refused CONNECT: the code and the id, in one line."""
        return f"egress: {self.reason.value} ({self.decision_id})"

    @property
    def decision_value(self) -> str:
        """The value of the `X-Egress-Decision` header."""
        return f"{self.verdict.value}; reason={self.reason.value}; id={self.decision_id}"

    def body(self) -> bytes:
        """An `application/problem+json` object (RFC 9457) with a line break at its end, for terminals."""
        text = TEXTS[self.reason]
        problem: dict[str, object] = {
            "type": f"urn:egress:reason:{self.reason.value}",
            "title": f"egress: {text.title}",
            "status": self.status,
            "detail": self.detail or text.sentence,
            "reason": self.reason.value,
            "decision": self.decision_id,
        }
        if self.host:
            problem["destination"] = (
                f"{self.host}:{self.port}" if ":" not in self.host else f"[{self.host}]:{self.port}"
            )
        if self.rule is not None:
            line = "" if self.rule.line is None else f":{self.rule.line}"
            # The file's name only: where policies live is not the sandbox's business.
            problem["rule"] = f"{self.rule.name or 'rule'} ({PurePath(self.rule.file).name}{line})"
        if text.hint:
            problem["hint"] = text.hint
        return json.dumps(problem, indent=2).encode() + b"\n"

    def headers(self, *, length: int) -> list[tuple[bytes, bytes]]:
        """The fields of the response, without any that concern the connection."""
        retry = () if self.retry_after is None else ((b"Retry-After", b"%d" % max(1, ceil(self.retry_after))),)
        challenge = ((b"Proxy-Authenticate", b'Basic realm="egress", charset="UTF-8"'),) if self.asks_who else ()
        return [
            *retry,
            *challenge,
            (b"Content-Type", b"application/problem+json"),
            (b"Content-Length", b"%d" % length),
            (b"Cache-Control", b"no-store"),
            (DECISION_HEADER.encode(), self.decision_value.encode()),
        ]

    def http1(self, *, head_only: bool = False, close: bool = True) -> bytes:
        """The whole response as HTTP/1.1 bytes; `close` tells the client that the connection ends with it."""
        body = self.body()
        lines = [f"HTTP/1.1 {self.status} {self.reason_phrase}".encode()]
        lines += [name + b": " + value for name, value in self.headers(length=len(body))]
        lines += [b"Connection: close", b"", b""] if close else [b"", b""]
        return b"\r\n".join(lines) + (b"" if head_only else body)


def failure(exchange: Exchange, reason: Reason, detail: str) -> Denial:
    """What is told of an admitted request whose upstream failed before it answered."""
    request, decision = exchange.asked or exchange.request, exchange.decision
    return Denial(exchange.id, reason, detail, decision.verdict, decision.rule, request.host.text, request.port)
