"""A DNS server that records every question and answers as a test scripts it, over UDP and TCP."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from harness.namespace import daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness.namespace import Namespace

    # From the number of earlier questions of this name and type to texts such as `A 10.0.0.1`, `CNAME other.test.`
    type Answers = Sequence[str] | Callable[[int], Sequence[str]]


class NameServer:
    """Authority for everything. `questions` only grows: (name without root dot, type). An unknown name: NXDOMAIN.

    `beside`: what a hostile server puts into its answers for a name besides, as texts of whole records.
    """

    def __init__(
        self, namespace: Namespace, addresses: Sequence[str], zone: Mapping[str, Answers], ttl: int = 0
    ) -> None:
        self.questions: list[tuple[str, str]] = []
        self.zone: dict[str, Answers] = dict(zone)
        self.beside: dict[str, Sequence[str]] = {}
        self._ttl = ttl
        self._counts: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()
        self._udp = [namespace.socket(kind=socket.SOCK_DGRAM) for _ in addresses]
        for sock, address in zip(self._udp, addresses, strict=True):
            sock.bind((address, 53))
        self._tcp = [namespace.listener(address, 53) for address in addresses]
        self._threads = [daemon(lambda at=at: self._datagrams(at), "dns-udp") for at in self._udp]
        self._threads += [daemon(lambda at=at: self._streams(at), "dns-tcp") for at in self._tcp]

    @contextlib.contextmanager
    def answering(self, name: str, answers: Answers) -> Iterator[None]:
        """Within the block, `name` has these answers, counted from the first question on."""
        before = self.zone.get(name)
        self._counts = {asked: count for asked, count in self._counts.items() if asked[0] != name}
        self.zone[name] = answers
        try:
            yield
        finally:
            if before is None:
                del self.zone[name]
            else:
                self.zone[name] = before

    def _find(self, name: str) -> Answers | None:
        wildcards = (f"*.{name.split('.', depth)[-1]}" for depth in range(1, name.count(".") + 1))
        return next((self.zone[key] for key in (name, *wildcards) if key in self.zone), None)

    def answer(self, wire: bytes) -> bytes | None:
        """The reply to one query; None for what is not a query."""
        try:
            query = dns.message.from_wire(wire)
            question = query.question[0]
        except (dns.exception.DNSException, IndexError):
            return None
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        with self._lock:
            count = self._counts.get((name, kind), 0)
            self._counts[name, kind] = count + 1
            self.questions.append((name, kind))
        reply = dns.message.make_response(query, recursion_available=True)
        answers = self._find(name)
        if answers is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
            return reply.to_wire()
        texts = answers(count) if callable(answers) else answers
        self._fill(reply, question.name, kind, texts)
        for text in self.beside.get(name, ()):
            owner, word, value = text.split()
            for section in (reply.answer, reply.additional):
                section.append(dns.rrset.from_text(owner, 3_600, "IN", word, value))
        return reply.to_wire()

    def _fill(self, reply: dns.message.Message, name: dns.name.Name, kind: str, texts: Sequence[str]) -> None:
        for text in texts:
            word, _, value = text.partition(" ")
            if word not in {kind, "CNAME"}:
                continue
            reply.answer.append(dns.rrset.from_text(name, self._ttl, "IN", word, value))
            if word == "CNAME":
                target = self._find(value.rstrip("."))
                later = target(0) if callable(target) else target or ()
                self._fill(reply, dns.name.from_text(value), kind, later)

    def _datagrams(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, peer = sock.recvfrom(4096)
                if reply := self.answer(data):
                    sock.sendto(reply, peer)

    def _streams(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                carrier, _ = listener.accept()
                with carrier, contextlib.suppress(OSError, struct.error):
                    carrier.settimeout(2)
                    (length,) = struct.unpack(">H", carrier.recv(2, socket.MSG_WAITALL))
                    if reply := self.answer(carrier.recv(length, socket.MSG_WAITALL)):
                        carrier.sendall(struct.pack(">H", len(reply)) + reply)

    def close(self) -> None:
        """Stop answering."""
        for server in (*self._udp, *self._tcp):
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
        for thread in self._threads:
            thread.join(2)
