"""A small authoritative name server on loopback, over UDP and TCP, that notes each question."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


@dataclass
class NameServer:
    """`records` maps (name without its root dot, type) to (TTL, texts). Names of `silent` get no answer at all.

    `truncated`: answers over UDP say that they are cut, so that the asker comes back over TCP. `delay` in seconds.
    """

    records: dict[tuple[str, str], tuple[int, list[str]]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    truncated: bool = False
    delay: float = 0.0
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        while True:
            self._tcp = socket.create_server(("127.0.0.1", 0))
            self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.port = self._tcp.getsockname()[1]
            try:
                self._udp.bind(("127.0.0.1", self.port))
                break
            except OSError:
                # Another process has that number over UDP.
                self._udp.close()
                self._tcp.close()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for listener in (self._udp, self._tcp):
            # Closing alone would leave the threads waiting in the kernel.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._udp.close()
        self._tcp.close()

    def names(self, over: str = "") -> list[str]:
        """The names that were asked for, each once a question; all or those that came `over` udp or tcp."""
        return [name for name, _, carrier in self.asked if not over or carrier == over]

    def _serve_udp(self) -> None:
        while True:
            try:
                data, peer = self._udp.recvfrom(4096)
            except OSError:
                return
            if not data:
                return
            threading.Thread(target=self._answer_udp, args=(data, peer), daemon=True).start()

    def _answer_udp(self, data: bytes, peer: tuple[str, int]) -> None:
        answer = self._answer(data, "udp")
        if answer is not None:
            # The test is over, and who asked is gone.
            with contextlib.suppress(OSError):
                self._udp.sendto(answer, peer)

    def _serve_tcp(self) -> None:
        while True:
            try:
                carrier, _ = self._tcp.accept()
            except OSError:
                return
            with carrier, carrier.makefile("rb") as stream:
                length = stream.read(2)
                answer = self._answer(stream.read(int.from_bytes(length)), "tcp")
                if answer is not None:
                    carrier.sendall(len(answer).to_bytes(2) + answer)

    def _answer(self, data: bytes, carrier: str) -> bytes | None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text().rstrip(".")
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((question.name.to_text(), kind, carrier))
        time.sleep(self.delay)
        if name in self.silent:
            return None
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA | dns.flags.RA
        if name in self.broken:
            answer.set_rcode(dns.rcode.SERVFAIL)
            return answer.to_wire()
        if carrier == "udp" and self.truncated:
            answer.flags |= dns.flags.TC
            return answer.to_wire()
        self._fill(answer, name, kind)
        return answer.to_wire()

    def _fill(self, answer: dns.message.Message, name: str, kind: str) -> None:
        for _ in range(4):
            if name not in self.aliases:
                break
            answer.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", "CNAME", f"{self.aliases[name]}."))
            name = self.aliases[name]
        found = self.records.get((name, kind))
        if found is not None:
            answer.answer.append(dns.rrset.from_text(f"{name}.", found[0], "IN", kind, *found[1]))
        elif not any(known == name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
