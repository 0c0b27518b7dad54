"""The stream: committed rows only, in order, to real sockets that stall, end and come back; nothing waits for it."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from egress.audit import AuditWriter
from egress.audit.batch import Batch
from egress.audit.row import DECISIONS, EVENTS, OUTCOMES, decision_row, note_row, outcome_row
from egress.audit.stream import DROPPED, Stream
from egress.audit.stream_target import LONGEST_DATAGRAM, Connection, Datagrams, Output
from egress.audit.stream_text import SyslogText, json_text, severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from egress.audit.stream_target import Target

MESSAGE = re.compile(
    rb"<(?P<priority>\d{1,3})>1 (?P<time>\S+) (?P<host>\S+) egress (?P<process>\d+) (?P<table>\w+) "
    rb'\[origin software="egress" swVersion="[^"]+"\]\[meta sequenceId="(?P<sequence>\d+)"\] (?P<json>\{.*\})\Z'
)
HOSTILE = "\x1b[31m\n<13>1 - - - - - - forged\u202eé"


def text() -> SyslogText:
    """Messages of local0."""
    return SyslogText(16, "proxy.example", 7)


def frames(data: bytes) -> tuple[list[bytes], bytes]:
    """Take messages apart that are framed by counting octets, and what is left of the last."""
    found = []
    while match := re.match(rb"(\d+) ", data):
        end = match.end() + int(match[1])
        if len(data) < end:
            break
        found.append(data[match.end() : end])
        data = data[end:]
    return found, data


class Receiver:
    """A syslog receiver by TCP, which can end and come back on its port."""

    def __init__(self, port: int = 0) -> None:
        self.listener = socket.create_server(("127.0.0.1", port))
        self.listener.settimeout(10)
        self.address: tuple[str, int] = self.listener.getsockname()
        self.opened: socket.socket | None = None

    def read(self, count: int) -> list[dict[str, Any]]:
        """Read so many messages on one connection."""
        if self.opened is None:
            self.opened, _ = self.listener.accept()
            self.opened.settimeout(10)
        data, found = b"", []
        while len(found) < count:
            piece = self.opened.recv(65_536)
            assert piece, "the sender ended"
            messages, data = frames(data + piece)
            found += [json.loads(MESSAGE.fullmatch(message)["json"]) for message in messages]  # type: ignore[index]
        return found

    def close(self) -> None:
        """End, with what is open."""
        if self.opened is not None:
            self.opened.close()
            self.opened = None
        self.listener.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Listen on a free port."""
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def streamed(database: Path) -> Iterator[Callable[..., AuditWriter]]:
    """Start writers that stream to a target."""
    writers: list[AuditWriter] = []

    def started(target: Target, capacity: int = 10_000, tell_seconds: float = 60) -> AuditWriter:
        stream = Stream(target, capacity=capacity, name="there", tell_seconds=tell_seconds)
        writers.append(AuditWriter(database, flush_interval=0.02, stream=stream))
        writers[-1].start()
        return writers[-1]

    yield started
    for writer in writers:
        writer.close(5)


def test_rows_go_to_standard_output_as_json_lines(
    streamed: Callable[..., AuditWriter], decision: Callable[..., Any], outcome: Callable[..., Any]
) -> None:
    """Decisions, outcomes and events, each a line that says which it is; all of them before the writer is closed."""
    reading, writing = os.pipe()
    writer = streamed(Output(writing))
    assert writer.offer(decision(1, path=HOSTILE, secrets=("github",)))
    assert writer.offer(outcome(1))
    assert writer.note("start", "began")
    assert writer.close(10)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        lines = file.read().splitlines()
    found = [json.loads(line) for line in lines]
    # The last tells that the secret was used for the first time.
    assert [row["table"] for row in found] == [DECISIONS, OUTCOMES, EVENTS, EVENTS]
    assert found[0]["secrets"] == ["github"]
    assert found[0]["id"] == found[1]["id"]
    assert all(line.isascii() and b"\x1b" not in line for line in lines)


def test_rows_go_to_a_unix_socket_as_rfc_5424(
    streamed: Callable[..., AuditWriter], decision: Callable[..., Any], tmp_path: Path
) -> None:
    """A message a datagram, whose header says the time of the row, the facility, and how bad it is."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(tmp_path / "log"))
        log.settimeout(10)
        writer = streamed(Datagrams(str(tmp_path / "log"), text()))
        assert writer.offer(decision(1, verdict="deny", reason="host-not-allowed", path=HOSTILE))
        match = MESSAGE.fullmatch(log.recv(65_536))
    assert match is not None
    assert (match["priority"], match["host"], match["process"]) == (b"132", b"proxy.example", b"7")  # local0.warning
    assert (match["table"], match["sequence"]) == (b"decisions", b"1")
    row = json.loads(match["json"])
    assert row["reason"] == "host-not-allowed"
    assert match["time"].decode() == row["time"]


def test_rows_go_by_udp(streamed: Callable[..., AuditWriter], decision: Callable[..., Any]) -> None:
    """Numbered, so that a receiver can tell that one is missing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as log:
        log.bind(("127.0.0.1", 0))
        log.settimeout(10)
        writer = streamed(Datagrams(log.getsockname(), text()))
        for number in range(3):
            assert writer.offer(decision(number))
        numbers = [MESSAGE.fullmatch(log.recv(65_536))["sequence"] for _ in range(3)]  # type: ignore[index]
    assert numbers == [b"1", b"2", b"3"]


def test_rows_go_by_tcp_in_counted_octets(
    streamed: Callable[..., AuditWriter], decision: Callable[..., Any], receiver: Receiver
) -> None:
    """Whatever is in a row, the next message begins where it ends."""
    writer = streamed(Connection(receiver.address, text()))
    for number in range(500):
        assert writer.offer(decision(number, path=HOSTILE))
    assert [row["id"] for row in receiver.read(500)] == [f"id-{number:06d}" for number in range(500)]


def test_a_receiver_that_comes_back_gets_what_waited(
    streamed: Callable[..., AuditWriter], decision: Callable[..., Any], receiver: Receiver
) -> None:
    """Its end is noticed before the next row is sent, so that this one is not lost."""
    writer = streamed(Connection(receiver.address, text()))
    assert writer.offer(decision(1))
    assert [row["id"] for row in receiver.read(1)] == ["id-000001"]
    receiver.close()
    for number in (2, 3):
        assert writer.offer(decision(number))
    assert writer.flush(5)
    again = Receiver(receiver.address[1])
    assert [row["id"] for row in again.read(2)] == ["id-000002", "id-000003"]
    again.close()


def test_a_receiver_that_is_not_there_yet_is_waited_for(
    streamed: Callable[..., AuditWriter], decision: Callable[..., Any], tmp_path: Path
) -> None:
    """A socket that is made later gets the rows from before."""
    writer = streamed(Datagrams(str(tmp_path / "log"), text()))
    assert writer.offer(decision(1))
    assert writer.flush(5)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(tmp_path / "log"))
        log.settimeout(10)
        assert b"id-000001" in log.recv(65_536)


def test_a_reader_that_stalls_holds_nothing_up_and_is_told_of(
    streamed: Callable[..., AuditWriter],
    decision: Callable[..., Any],
    database: Path,
    rows: Callable[..., list[tuple[object, ...]]],
    until: Callable[[Callable[[], bool]], None],
) -> None:
    """Every row is recorded, the buffer stays within its bound, and once it is read again the record says what went."""
    reading, writing = os.pipe()
    writer = streamed(Output(writing), 100)
    for number in range(3_000):
        assert writer.offer(decision(number))
    assert writer.flush(10)
    assert rows(database, "SELECT count(*) FROM decisions") == [(3_000,)]
    seen = threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(reading, 65_536), b"")])
    seen.start()
    until(lambda: bool(rows(database, "SELECT 1 FROM events WHERE kind = ?", DROPPED)))
    told = rows(database, "SELECT detail FROM events WHERE kind = ?", DROPPED)
    assert all(0 < int(str(detail).split()[0]) <= 2_900 for (detail,) in told)
    writer.close(5)
    os.close(writing)
    seen.join(10)
    os.close(reading)


def test_what_has_no_room_is_counted_and_not_kept(decision: Callable[..., Any]) -> None:
    """Memory is bounded by the buffer, however long nobody reads."""
    stream = Stream(Output(), capacity=3)
    for number in range(5):
        stream.offer(Batch.of([(DECISIONS, decision_row(decision(number))), (EVENTS, note_row("x", 1, "start", ""))]))
    assert len(stream._waiting) == 3
    assert (stream.take_dropped(), stream.take_dropped()) == (7, 0)


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_reader_that_never_comes_back_is_told_of(  # noqa: PLR0917 -- fixtures
    streamed: Callable[..., AuditWriter],
    decision: Callable[..., Any],
    database: Path,
    rows: Callable[..., list[tuple[object, ...]]],
    seconds: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Now and then while it lasts, and at the latest when the proxy stops; no row of the record is missing."""
    monkeypatch.setattr("egress.audit.writer._STREAM_SECONDS", 0.1)
    reading, writing = os.pipe()
    writer = streamed(Output(writing), 100, seconds)
    for number in range(3_000):
        assert writer.offer(decision(number))
    assert writer.flush(10)
    if not seconds:
        assert rows(database, "SELECT 1 FROM events WHERE kind = ?", DROPPED)
    assert writer.close(10)
    assert rows(database, "SELECT count(*) FROM decisions") == [(3_000,)]
    told = rows(database, "SELECT detail FROM events WHERE kind = ?", DROPPED)
    assert sum(int(str(detail).split()[0]) for (detail,) in told) > 2_000
    assert "egress-stream" not in {thread.name for thread in threading.enumerate()}
    for descriptor in (reading, writing):
        os.close(descriptor)


def test_nothing_is_sent_that_is_not_recorded(
    streamed: Callable[..., AuditWriter], decision: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver must not know of a decision that the record lacks."""
    sent: list[str] = []

    class Seen:
        def send(self, _table: str, row: tuple[Any, ...], _stopped: Callable[[], bool]) -> None:
            sent.append(row[0])

        def close(self) -> None:
            pass

    writer = streamed(Seen())
    assert writer.offer(decision(1))
    assert writer.flush(5)

    def fail(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("egress.audit.store.write_batch", fail)
    assert writer.offer(decision(2))
    assert not writer.flush(0.3)
    assert sent == ["id-000001"]


def test_a_target_that_raises_anything_is_tried_again(decision: Callable[..., Any]) -> None:
    """A mistake of ours in a target ends no thread."""
    tries: list[int] = []

    class Odd:
        def send(self, _table: str, _row: object, _stopped: object) -> None:
            tries.append(1)
            if len(tries) == 1:
                raise ValueError("odd")

        def close(self) -> None:
            pass

    stream = Stream(Odd())
    stream.start(lambda _kind, _detail: True)
    stream.offer(Batch.of([(DECISIONS, decision_row(decision(1)))]))
    assert stream.close(5)
    assert len(tries) == 2


@pytest.mark.parametrize("longest", [LONGEST_DATAGRAM])
@pytest.mark.parametrize("character", ["\u202e", "\u00e9", "\U0001f600", '"', "\\"])
def test_a_datagram_is_never_too_long(decision: Callable[..., Any], longest: int, character: str) -> None:
    """A row that is longer than a datagram may be goes with its texts cut, and says so; by TCP it goes whole."""
    long = character * 3_000
    texts = ("path", "query", "detail", "rewritten", "host", "labels", "sni", "rule", "file", "sandbox", "method")
    row = decision_row(decision(1, secrets=(long, long), **dict.fromkeys(texts, long)))
    message = SyslogText(1, "h" * 255, 7, longest).message(DECISIONS, row)
    assert len(message) <= longest
    assert json.loads(MESSAGE.fullmatch(message)["json"])["cut"] is True  # type: ignore[index]
    cut = json_text(DECISIONS, row, longest)
    assert len(cut) <= longest
    assert json.loads(cut)["cut"] is True
    assert len(json_text(DECISIONS, row)) > longest
    assert "cut" not in json.loads(json_text(DECISIONS, decision_row(decision(1)), longest))


def test_a_datagram_has_room_for_its_header(decision: Callable[..., Any]) -> None:
    """A row that would fit by itself is cut where the header makes it too long."""
    texts = dict.fromkeys(("path", "query", "file"), "x" * 2_000)
    room = LONGEST_DATAGRAM - len(json_text(DECISIONS, decision_row(decision(1, rewritten="", **texts))))
    row = decision_row(decision(1, rewritten="x" * room, **texts))
    assert len(json_text(DECISIONS, row)) == LONGEST_DATAGRAM
    assert len(SyslogText(1, "host", 7, LONGEST_DATAGRAM).message(DECISIONS, row)) <= LONGEST_DATAGRAM


def test_severities_tell_refusals_from_the_rest(decision: Callable[..., Any], outcome: Callable[..., Any]) -> None:
    """A receiver filters by them."""
    assert severity(DECISIONS, decision_row(decision(1))) == 6
    assert severity(DECISIONS, decision_row(decision(1, verdict="deny"))) == 4
    assert severity(DECISIONS, decision_row(decision(1, verdict="ask"))) == 5
    assert severity(OUTCOMES, outcome_row(outcome(1))) == 6
    assert severity(OUTCOMES, outcome_row(outcome(1, error="limit-bytes"))) == 5
    assert severity(EVENTS, note_row("x", 1, "start", "")) == 5


def test_the_numbers_of_messages_begin_anew_where_they_end(decision: Callable[..., Any]) -> None:
    """RFC 5424, section 7.3.1: after 2147483647 comes 1; a message that is tried again keeps its number."""
    made = text()
    made.sequence = 2**31 - 1
    row = decision_row(decision(1))
    assert made.message(DECISIONS, row) == made.message(DECISIONS, row)
    made.sent()
    assert b'sequenceId="1"' in made.message(DECISIONS, row)


def test_a_host_name_that_is_none_is_left_out(decision: Callable[..., Any]) -> None:
    """Spaces and controls would end the field."""
    for name, expected in (("", b"-"), ("a b\n", b"ab"), ("\u00e9", b"-")):
        message = SyslogText(1, name, 7).message(DECISIONS, decision_row(decision(1)))
        assert MESSAGE.fullmatch(message)["host"] == expected  # type: ignore[index]
