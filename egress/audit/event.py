"""The two facts that the audit keeps of everything the proxy judges: the decision, and how it ended. And notes.

A decision is written before the first byte leaves; its outcome follows at the close, joined by `id`. What was allowed
and has no outcome is shown as open; a refusal opens nothing, so its outcome (the status and size of the denial page)
may be left out. Events are plain values: times and ids are arguments, secrets are names only.
"""

from __future__ import annotations

from dataclasses import dataclass


# Made anew for each request, as its outcome is, so not frozen: that would make the making several times as dear.
@dataclass(slots=True, unsafe_hash=True, kw_only=True)
class DecisionEvent:
    """What was decided about one HTTP request, tunnel, TCP connection or DNS question, and why.

    `id` is unique for ever. `time_us` is microseconds since 1970 in UTC. `client` is the peer, as `address:port`.
    `rule`, `file`, `line` and `scope` say which rule spoke. `policy_hash` is the digest of the policy that was asked.
    `query` must already be masked (`mask_query`). `address` is the checked address that will be dialled.
    `secrets` are the names of the secrets that are injected, never values. `labels` are what the rules
    annotate, as the text of a JSON object. `rewritten` is where a rule sent the request instead (scheme, host, port and
    path). `detail` is one sentence for people. `count`: how many alike decisions the row stands for. `trace`: what each
    scope said where there are several, and which headers were changed, as the text of a JSON object.
    `road`: which way the client came where that was not HTTP to a proxy: `socks`, `forward`, `transparent`, `dns` or
    `identity`.
    """

    id: str
    time_us: int
    sandbox: str
    client: str
    verdict: str
    reason: str
    scope: str | None = None
    rule: str | None = None
    file: str | None = None
    line: int | None = None
    policy_hash: str | None = None
    method: str | None = None
    scheme: str | None = None
    host: str | None = None
    port: int | None = None
    path: str | None = None
    query: str | None = None
    sni: str | None = None
    protocol: str | None = None
    lane: str | None = None
    address: str | None = None
    secrets: tuple[str, ...] = ()
    labels: str | None = None
    detail: str | None = None
    rewritten: str | None = None
    count: int = 1
    trace: str | None = None
    road: str | None = None


@dataclass(slots=True, unsafe_hash=True, kw_only=True)
class OutcomeEvent:
    """How a decided request ended. `id` is its decision's; `time_us` is when it ended.

    `bytes_up` and `bytes_down` count body or tunnel bytes from and to the client; `duration_us` and `first_byte_us`
    are microseconds since the decision. `address` is the one really dialled, when it differs from the decision's or
    was not known then. `error` is a reason code, alone or as `code: sentence`.
    """

    id: str
    time_us: int
    status: int | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    duration_us: int | None = None
    first_byte_us: int | None = None
    address: str | None = None
    error: str | None = None


@dataclass(slots=True, unsafe_hash=True, kw_only=True)
class NoteEvent:
    """What happened beside requests, as a process that judges saw it: a row of `events` (see `notes`)."""

    id: str
    time_us: int
    kind: str
    detail: str


type AuditEvent = DecisionEvent | OutcomeEvent | NoteEvent
