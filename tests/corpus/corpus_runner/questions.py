"""Questions to a name server: a client that sends what it likes, and what may have become of its messages."""

from __future__ import annotations

import select
import socket
import time
from typing import TYPE_CHECKING

import dns.message
import dns.rdatatype

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from harness.namespace import Namespace

    from corpus_runner.evidence import Evidence

PATIENCE = 5.0
NOERROR, FORMERR, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 3, 4, 5
# Under way at once, so that neither side's kernel throws away what it has no room for.
_WINDOW = 64


def query(name: str, kind: str = "A") -> bytes:
    """A message that asks for it."""
    return dns.message.make_query(name, kind).to_wire()


def kind_of(data: bytes) -> str:
    """The type of a query's one question."""
    return dns.rdatatype.to_text(dns.message.from_wire(data).question[0].rdtype)


def no_dns_upstream(evidence: Evidence, _: str) -> str:
    """Of other names than the allowed one's addresses nobody was asked, here or elsewhere."""
    asked = [one for one in evidence.questions if one not in {("allowed.test", "A"), ("allowed.test", "AAAA")}]
    went = [one for one in evidence.strangers() if one.rpartition(":")[2] in {"53", "853"}]
    return f"asked {asked + went}" if asked or went else ""


def dns_answer(evidence: Evidence, _: str) -> str:
    """The client was told an address."""
    told = [rrset for rrset in dns.message.from_wire(evidence.client_bytes).answer if rrset.rdtype == dns.rdatatype.A]
    return "" if told else f"no address in {evidence.client_bytes!r}"


class Asker:
    """One UDP socket of `source` that believes to be talking to `where`."""

    def __init__(self, space: Namespace, where: tuple[str, int], source: str) -> None:
        self._socket = space.socket(kind=socket.SOCK_DGRAM)
        self._socket.bind((source, 0))
        # Only what comes from the address that was asked counts as its answer.
        self._socket.connect(where)
        self._socket.settimeout(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def ask(self, data: bytes) -> bytes:
        """Send a message, and wait for what comes."""
        self._socket.send(data)
        return self._socket.recv(65536)

    def persist(self, data: bytes, patience: float) -> bytes:
        """Send a message again and again, as resolvers do, until something comes for it."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            self._socket.send(data)
            if found := self._take(1, 0.5):
                return found[0]
        raise TimeoutError("nothing came for a question")

    def throw(self, messages: Sequence[bytes]) -> None:
        """Send all of them as fast as it goes, and wait for nothing."""
        for data in messages:
            self._socket.send(data)

    def pour(self, messages: Sequence[bytes]) -> list[bytes]:
        """Send all of them, some at a time; what came for them."""
        found: list[bytes] = []
        for start in range(0, len(messages), _WINDOW):
            part = messages[start : start + _WINDOW]
            self.throw(part)
            found += self._take(len(part), PATIENCE)
        return found

    def _take(self, count: int, patience: float) -> list[bytes]:
        found: list[bytes] = []
        deadline = time.monotonic() + patience
        while len(found) < count and select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
            found.append(self._socket.recv(65536))
        return found
