"""Everything that is looked at in the leak test: answers, log lines, what was printed, files, how objects print."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from egress.audit import AuditWriter
from rig.asking import line
from rig.canaries import PROMISED, Form, found, found_below
from rig.modes import HOST, Mode
from rig.planted import CANARIES, NEVER_SENT
from rig.wire import NOTHING, head

if TYPE_CHECKING:
    import io
    from pathlib import Path

    import pytest

    from rig.modes import Site
    from rig.planted import Planted, Use
    from rig.wire import Reply

# Of an answer, halves too: what is held back of a value that was torn off must stay here.
IN_ANSWERS = PROMISED | {Form.HALF}


class Unclean(logging.Handler):
    """What our own code writes, before it is cleaned."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line of ours, without its traceback."""
        if record.name.startswith("egress"):
            self.lines.append(record.getMessage())


@dataclass
class Watch:
    """All that is looked at after the requests."""

    folder: Path
    planted: Planted
    site: Site
    log: io.StringIO
    unclean: Unclean
    answers: list[bytes] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def leaks(self, capfd: pytest.CaptureFixture[str]) -> list[str]:
        """Every place in which a value stands where none may."""
        self._record()
        printed = "".join(capfd.readouterr())
        places = {
            "the log": self.log.getvalue(),
            "our own log lines": "\n".join(self.unclean.lines),
            "what was printed": printed,
            "an object": "\n".join(self.shown),
            "the audit's events": repr(self.site.proxy.ledger.events),
        }
        leaks = [f"{place}: {what}" for place, text in places.items() for what in found(text.encode(), CANARIES)]
        answers = [what for answer in self.answers for what in found(answer, CANARIES, IN_ANSWERS)]
        never = {name: CANARIES[name] for name in NEVER_SENT}
        sent = found(self.site.received, never)
        files = found_below(self.folder, CANARIES, but=[self.planted.folder])
        return [*leaks, *(f"an answer: {what}" for what in answers), *(f"sent: {what}" for what in sent), *files]

    def _record(self) -> None:
        """Write what the audit in memory has to a database, as a proxy does."""
        writer = AuditWriter(self.site.proxy.folder / "audit.db")
        writer.start()
        for event in self.site.proxy.ledger.events:
            assert writer.offer(event)
        assert writer.flush(5)


def ask(watch: Watch, mode: Mode, use: Use) -> Reply:
    """Send a request, and keep every byte of what comes back; status 0 where the connection ended instead."""
    site, method = watch.site, "GET" if use.body is None else "POST"
    with contextlib.suppress(OSError, AssertionError):
        if mode is Mode.TLS2:
            with site.proxy.http2(HOST, site.port) as client:
                more = [tuple(field.split(": ", 1)) for field in use.fields]
                fields = head(f"{HOST}:{site.port}", use.path, method, *[(name.lower(), value) for name, value in more])
                stream = client.request(fields, use.body)
                reply = client.reply(stream)
                watch.answers += [
                    reply.whole,
                    repr(client.streams[stream]).encode(),
                    bytes(client.streams[stream].body),
                ]
                return reply
        framing = ("Connection: close", *(() if use.body is None else (f"Content-Length: {len(use.body)}",)))
        with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
            wire.send(line(site, use.path, method, *use.fields, *framing) + (use.body or b""))
            whole = wire.rest()
        watch.answers += [whole, unchunked(whole)]
        # What comes before the last head is interim.
        at = whole.rfind(b"HTTP/1.1 ")
        return NOTHING if at < 0 else replace(NOTHING, status=int(whole[at + 9 : at + 12]), whole=whole)
    return NOTHING


def unchunked(whole: bytes) -> bytes:
    """A body that comes in chunks, without what stands between them."""
    _, _, rest = whole.partition(b"chunked\r\n")
    _, _, rest = rest.partition(b"\r\n\r\n")
    body = b""
    while size := rest.partition(b"\r\n")[0]:
        count = int(size, 16)
        body += rest[len(size) + 2 : len(size) + 2 + count]
        rest = rest[len(size) + 4 + count :]
        if not count:
            break
    return body
