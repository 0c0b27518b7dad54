"""What a case left behind, and the corpus' assert words as questions about it.

Ground truth is the recorders, the tap, the bytes the client got and the audit file; never what the proxy answered.
"""

from __future__ import annotations

import base64
import re
import time
import urllib.parse
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.world import ALLOWED, NAMESERVER, NAMESERVER4

from corpus_runner.cases import CANARY
from corpus_runner.questions import dns_answer, no_dns_upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.origins import Connection, Mark
    from harness.proxy import ProxyProcess, Row
    from harness.wiretap import Packet
    from harness.world import World

    from corpus_runner.cases import Case

_CALL = re.compile(r"(\w+)(?:\((.*)\))?$")


@dataclass
class Evidence:
    """What the recorders saw from a case's start to its end. `client_bytes` is all that the client received."""

    proxy: ProxyProcess
    client: str
    connections: list[Connection]
    questions: list[tuple[str, str]]
    packets: list[Packet]
    client_bytes: bytes = b""
    rows: list[Row] = field(default_factory=list)

    @property
    def verdicts(self) -> list[str]:
        """The verdicts of the case's audit rows."""
        return [str(row["verdict"]) for row in self.rows]

    def strangers(self) -> list[str]:
        """Where a connection was tried that is neither the proxy, nor the name server, nor the allowed origin."""
        own = {self.proxy.address, (NAMESERVER, 53), (NAMESERVER4, 53)}
        known = own | {(address, port) for address in ALLOWED for port in (80, 443)}
        return [
            f"{packet.target}:{packet.port}"
            for packet in self.packets
            if (packet.target, packet.port) not in known
            and packet.target != self.client
            and _opens(packet, self.client)
        ]

    def at(self, role: str) -> list[Connection]:
        """The connections to the origin `role`."""
        return [seen for seen in self.connections if seen.role == role]


def _opens(packet: Packet, client: str) -> bool:
    # Answers of the name server go back to the port that asked; a client speaks to the proxy only.
    return packet.kind in {"tcp", "udp"} and packet.source not in {NAMESERVER, NAMESERVER4, client}


def forms(secret: str) -> set[bytes]:
    """The spellings in which a secret may not appear: raw, hex, percent, and base64 at each alignment."""
    raw = secret.encode()
    found = {raw, raw.hex().encode(), raw.hex().upper().encode()}
    found.add("".join(f"%{byte:02x}" for byte in raw).encode())
    found.add(urllib.parse.quote(secret, safe="").encode())
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + raw)
        found |= {coded[4 if shift else 0 : -4], coded[4 if shift else 0 : -4].replace(b"+", b"-").replace(b"/", b"_")}
    return found


def leaks(data: bytes, secret: str = CANARY) -> bool:
    """True if any spelling of the secret is in `data`."""
    return any(form in data for form in forms(secret))


def audit_bytes(proxy: ProxyProcess) -> bytes:
    """The audit file as it lies on disk, with its write-ahead log."""
    return b"".join(path.read_bytes() for path in sorted(proxy.state.glob("audit.db*")))


_KEPT: ContextVar[list[Evidence] | None] = ContextVar("kept", default=None)


@contextmanager
def kept() -> Iterator[list[Evidence]]:
    """The list of what is gathered within the block."""
    found: list[Evidence] = []
    token = _KEPT.set(found)
    try:
        yield found
    finally:
        _KEPT.reset(token)


def gather(world: World, proxy: ProxyProcess, client: str, marks: tuple[Mark, int, int]) -> Evidence:
    """Everything since `marks`, without the audit rows."""
    connections, questions, packets = marks
    world.settle(connections)
    evidence = Evidence(
        proxy,
        client,
        [replace(seen, requests=list(seen.requests)) for seen in world.origins.since(connections)],
        world.names.questions[questions:],
        world.tap.packets[packets:],
    )
    found = _KEPT.get()
    if found is not None:
        found.append(evidence)
    return evidence


def wait_rows(evidence: Evidence, verdict: str) -> None:
    """Take the case's audit rows, as soon as one has `verdict`."""
    evidence.rows = evidence.proxy.wait_rows(
        evidence.client,
        lambda rows: any(row["verdict"] == verdict or (verdict == "deny" and stopped(row)) for row in rows),
        patience=2.0,
    )
    # What goes on has no outcome yet: a moment is enough for all that has ended.
    deadline = time.monotonic() + 1.0
    while any(row["state"] != "done" for row in evidence.rows) and time.monotonic() < deadline:
        time.sleep(0.02)
        evidence.rows = evidence.proxy.rows(evidence.client)


# Each function gives what is wrong, or "".


def no_upstream_conn(evidence: Evidence, what: str) -> str:
    """Nobody was dialled (`*`), or nobody but the allowed origin (`evil`)."""
    seen = evidence.connections if what == "*" else evidence.at("evil")
    dialled = [f"{one.role} {one.address}:{one.port}" for one in seen] + evidence.strangers()
    return f"dialled {dialled}" if dialled else ""


def no_upstream_bytes(evidence: Evidence, _: str) -> str:
    """No origin got a byte of a request."""
    sent = [bytes(one.received[:200]) for one in evidence.connections if one.received]
    return f"upstream got {sent}" if sent else ""


def no_dns(evidence: Evidence, name: str) -> str:
    """Nobody asked for the name, or (`*`) for any."""
    asked = [question for question, _ in evidence.questions if name == "*" or question.endswith(name)]
    return f"asked for {asked}" if asked else ""


def no_canary(evidence: Evidence, where: str) -> str:
    """The secret is in no spelling at the place."""
    data = {
        "evil": lambda: b"".join(bytes(one.raw + one.received) for one in evidence.at("evil")),
        "client": lambda: evidence.client_bytes,
        "audit": lambda: audit_bytes(evidence.proxy),
        "log": lambda: evidence.proxy.log_file.read_bytes() + evidence.proxy.out_file.read_bytes(),
    }[where]()
    return f"the secret is at {where}" if leaks(data) else ""


def reaches(evidence: Evidence, role: str) -> str:
    """A whole request arrived, and its answer came back."""
    arrived = [one for one in evidence.at(role) if one.requests]
    return "" if arrived else f"nothing arrived at {role}; the client got {evidence.client_bytes[:600]!r}"


def exactly_one_injected(evidence: Evidence, role: str) -> str:
    """Over TLS, with one Authorization in any spelling: ours."""
    heads = [(one.tls, head) for one in evidence.at(role) for head in one.requests]
    for tls, head in heads:
        found = [value for name, value in head.fields if name.replace(b"_", b"-").strip(b"-") == b"authorization"]
        if not tls or found != [f"Bearer {CANARY}".encode()]:
            return f"authorization at {role}: {found}"
    return "" if heads else f"nothing arrived at {role}; the client got {evidence.client_bytes[:600]!r}"


def audit_row(evidence: Evidence, words: str) -> str:
    """The audit says what happened: denied and only denied; or allowed, in one row and with no denial beside it."""
    verdict, _, reason = words.partition(", reason=")
    if verdict == "*":
        return "" if evidence.rows else "no audit row"
    if verdict == "allow":
        wrong = evidence.verdicts != ["allow"]
    else:
        wrong = not evidence.rows or not all(stopped(row) for row in evidence.rows)
    if wrong:
        return f"audit rows {[(row['verdict'], row['reason'], row['host'], row['error']) for row in evidence.rows]}"
    reasons = [str(row["reason"]) for row in evidence.rows]
    return f"reasons {reasons}" if reason and not all(one.startswith(reason) for one in reasons) else ""


def stopped(row: Row) -> bool:
    """Denied; or allowed by its head and then stopped on the way, which the outcome says."""
    ends = ("request-malformed", "internal-error", "upstream-tls", "upstream-malformed", "upgrade-not-allowed")
    return row["verdict"] == "deny" or str(row["error"]).startswith(ends)


WORDS: dict[str, Callable[[Evidence, str], str]] = {
    "no_upstream_conn": no_upstream_conn,
    "no_packet_at": no_upstream_conn,
    "no_upstream_bytes": no_upstream_bytes,
    "no_raw_tunnel": no_upstream_bytes,
    "no_dns": no_dns,
    "no_dns_upstream": no_dns_upstream,
    "dns_answer": dns_answer,
    "no_canary": no_canary,
    "reaches": reaches,
    "exactly_one_injected": exactly_one_injected,
    "audit_row": audit_row,
}


def judge(case: Case, evidence: Evidence, asserts: Sequence[str] | None = None) -> None:
    """Hold the evidence to the case's assert words; as written, a denied case moreover sends no byte to any origin."""
    words = list(case.asserts if asserts is None else asserts)
    if asserts is None and case.expected == "deny" and "no_upstream_bytes" not in words:
        words.append("no_upstream_bytes")
    wrong = []
    for word in words:
        match = _CALL.match(word)
        assert match, word
        if problem := WORDS[match[1]](evidence, match[2] or ""):
            wrong.append(f"{word}: {problem}")
    assert not wrong, f"{case.id} ({case.why}): " + "; ".join(wrong)
