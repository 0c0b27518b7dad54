"""The writer of the audit: takes events from any thread at once, records them in batches from one thread of its own.

1. `offer` never waits and never raises; False means that the event is not and will not be recorded, so the traffic
   it describes must not pass. An accepted event is in the database one flush interval later.
2. While the database cannot be written, decisions are refused, outcomes of accepted decisions are still taken (up to
   the limit), what is pending is kept, and the same batch is tried again until it is in.
3. What was refused leaves one row in `events` when the database can be written again.

INVARIANT every-decision-recorded: no event leaves memory before the transaction that holds it is committed into the
file at the path.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from egress.audit.batch import Batch
from egress.audit.commits import Commits, in_time
from egress.audit.database import explain
from egress.audit.event import DecisionEvent, NoteEvent
from egress.audit.first_use import FirstUses
from egress.audit.notes import Kind
from egress.audit.pending import Pending
from egress.audit.row import DECISIONS, EVENTS, OUTCOMES, decision_row, note_row, outcome_row
from egress.audit.store import Store
from egress.audit.stream import DROPPED

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from egress.audit.event import AuditEvent
    from egress.audit.retention import Retention
    from egress.audit.row import Row
    from egress.audit.signing import Signer
    from egress.audit.stream import Stream
    from egress.errors import AuditError

# Rows in one transaction: bounds how long the lock is held and how much one failure repeats.
BATCH: Final = 2000
# Beside a batch of fewer rows there is time for the index of texts.
_FEW = 500
# While nothing is recorded, what was is signed after so long, and old rows are looked for.
_IDLE_SECONDS = 30.0
# What the stream may take at the end to send what waits.
_STREAM_SECONDS = 2.0
_BACKOFF_FIRST = 0.05
_BACKOFF_LAST = 2.0


def _now_us() -> int:
    return time.time_ns() // 1000


class AuditWriter:
    """Records `DecisionEvent`s and `OutcomeEvent`s in the database at `path`.

    `flush_interval` is in seconds; `capacity` is how many decisions may wait (outcomes: twice as many). `now_us` gives
    the time of `events` rows and batches, `signer` signs checkpoints of the record; `retention` says
    what is dropped of it, which needs one; `stream` gets what is recorded. `on_change` is called from the
    writer's thread after each try to record a batch. Make and start it in the process that uses it: it does not survive
    a fork.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        flush_interval: float = 0.2,
        capacity: int = 10_000,
        log: logging.Logger | None = None,
        now_us: Callable[[], int] = _now_us,
        on_change: Callable[[], None] = lambda: None,
        signer: Signer | None = None,
        retention: Retention | None = None,
        stream: Stream | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        self._flush_interval = flush_interval
        self._log = log or logging.getLogger("egress.audit")
        self._now_us = now_us
        self._on_change = on_change
        self._store = Store(self.path, signer, retention)
        self._stream = stream
        self._pending = Pending(capacity)
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._progress = threading.Condition(self._lock)
        self._commits = Commits()
        self._first_uses = FirstUses()
        self._thread: threading.Thread | None = None
        self._problem: str | None = "the audit writer has not been started"
        self._gap_since: int | None = None
        self._flush_up_to = 0
        self._closing = False
        self._give_up_at: float | None = None

    def start(self) -> None:
        """Open (or create and migrate) the database and start the thread. Raises AuditError: do not serve then."""
        self._store.open()
        self._thread = threading.Thread(target=self._run, name="egress-audit", daemon=True)
        with self._lock:
            self._problem = None
        self._thread.start()
        if self._stream is not None:
            self._stream.start(self.note)

    @property
    def healthy(self) -> bool:
        """Whether decisions are taken: started, not closed, and the last batch was recorded."""
        return self._problem is None and not self._closing

    @property
    def problem(self) -> str | None:
        """What is wrong, in a sentence; None while all is well."""
        return self._problem

    def offer(self, event: AuditEvent) -> bool:
        """Queue the event for recording, from any thread. False: full, unhealthy or closed, and so not recorded."""
        if isinstance(event, DecisionEvent):
            return self._add(DECISIONS, decision_row(event))
        if isinstance(event, NoteEvent):
            return self._add(EVENTS, note_row(event.id, event.time_us, event.kind, event.detail))
        return self._add(OUTCOMES, outcome_row(event))

    @property
    def recorded(self) -> int:
        """How many of the rows that were taken are in the database, counted in their order."""
        return self._pending.recorded

    @property
    def waiting(self) -> int:
        """How many rows were taken and are not in the database yet."""
        return self._pending.accepted - self._pending.recorded

    def offer_rows(self, rows: Iterable[tuple[str, Row, bytes]]) -> int:
        """Queue rows, with their tables and packed, that another process of ours has accepted, within its own limits.

        They are taken whatever is wrong with the database, since their traffic has passed. Gives the number that
        `recorded` reaches when they are in the database; 0: closed, and so not recorded.
        """
        with self._lock:
            if self._closing or self._thread is None:
                return 0
            before = len(self._pending)
            for table, row, data in rows:
                self._pending.take_over(table, row, data)
            self._wake(before)
            return self._pending.accepted

    def count_refused(self, counts: Mapping[str, int], since_us: int) -> None:
        """Count rows that another process of ours turned away, for the row in `events`."""
        with self._lock:
            self._gap_since = min(self._gap_since or since_us, since_us)
            for table, count in counts.items():
                self._pending.refuse(table, count)

    def note(self, kind: str, detail: str) -> bool:
        """Queue a row of `events`: `start`, `stop`, `reload` and the like. `kind` is a word, `detail` a sentence."""
        return self._add(EVENTS, note_row(uuid.uuid4().hex, self._now_us(), kind, detail))

    def hurry(self) -> None:
        """Have everything that was taken so far recorded at once: somebody waits for it."""
        with self._lock:
            self._hurry()

    async def commit(self, seconds: float) -> bool:
        """Have everything that was taken so far on the disk before this returns; False: not in time."""
        with self._lock:
            self._hurry()
            future = self._commits.expect(self._pending.accepted)
            self._commits.reached(self._pending.recorded)
        return await in_time(future, seconds)

    def flush(self, timeout: float) -> bool:
        """Wait until everything accepted so far is recorded, `timeout` seconds at most; whether it is."""
        with self._lock:
            target = self._pending.accepted
            self._hurry()
            return self._progress.wait_for(lambda: self._pending.recorded >= target, timeout)

    def close(self, timeout: float) -> bool:
        """Refuse what comes from now on, record what is pending, close the database; whether all was recorded."""
        with self._lock:
            self._closing = True
            self._give_up_at = time.monotonic() + timeout
            self._work.notify()
            if self._thread is None:
                return True
        self._thread.join(timeout + 0.1)
        if self._stream is not None:
            self._stream.close(min(timeout, _STREAM_SECONDS))
        with self._lock:
            missing = self._pending.accepted - self._pending.recorded
        if missing:
            self._log.error("audit: closed with %d rows not recorded: %s", missing, self._problem or "out of time")
        return not missing

    def _add(self, table: str, row: tuple[str | int | None, ...]) -> bool:
        with self._lock:
            if self._closing or self._thread is None or (self._problem is not None and table == DECISIONS):
                self._gap_since = self._gap_since or self._now_us()
                return self._pending.refuse(table)
            before = len(self._pending)
            if not self._pending.add(table, row):
                self._gap_since = self._gap_since or self._now_us()
                return False
            self._wake(before)
            return True

    def _hurry(self) -> None:
        self._flush_up_to = max(self._flush_up_to, self._pending.accepted)
        self._work.notify()

    def _wake(self, before: int) -> None:
        # The first row wakes an idle thread, a full batch ends its wait early; those between cost nothing.
        if before == 0 or before < BATCH <= len(self._pending):
            self._work.notify()

    def _run(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                if not len(batch):
                    self._store.sign(self._now_us())
                elif not self._record(batch):
                    break
                self._tidy()
                if len(batch) < _FEW:
                    self._index()
            self._record_dropped()
        finally:
            self._store.sign(self._now_us())
            self._store.close()
            with self._lock:
                self._problem = self._problem or "the audit writer is closed"
                self._progress.notify_all()

    def _next_batch(self) -> Batch | None:
        """The next rows to record, when they are due; none, when nothing came for a while; None to end."""
        with self._lock:
            if not self._work.wait_for(lambda: len(self._pending) or self._closing, _IDLE_SECONDS):
                return Batch()
            self._work.wait_for(self._due, self._flush_interval)
            return self._pending.take(BATCH) if len(self._pending) else None

    def _record_dropped(self) -> None:
        """At the end, what the stream has not told of: nobody would hear it later."""
        if self._stream is not None and (dropped := self._stream.take_dropped()):
            row = note_row(uuid.uuid4().hex, self._now_us(), DROPPED, self._stream.describe(dropped))
            self._try(Batch.of([(EVENTS, row)]))

    def _tidy(self) -> None:
        """Drop what is old: a slice beside a batch, and all that is due while no rows wait."""
        while self._store.tidy(self._now_us()) and not self._closing and not len(self._pending):
            pass

    def _index(self) -> None:
        """Bring the index of texts up to date while no rows wait: a slice beside a few rows, all of it beside none."""
        while not self._closing and self._store.index() and not len(self._pending):
            pass

    def _due(self) -> bool:
        return self._closing or len(self._pending) >= BATCH or self._pending.recorded < self._flush_up_to

    def _record(self, batch: Batch) -> bool:
        """Write the batch, however often it takes; False only when closing and out of time."""
        backoff = _BACKOFF_FIRST
        replaced = self._store.replaced
        while True:
            problem, taken = self._try(batch)
            if problem is None:
                self._recorded(batch, taken, replaced=self._store.replaced > replaced)
                if self._stream is not None:
                    self._stream.offer(batch)
                self._on_change()
                return True
            with self._lock:
                if self._problem != str(problem):
                    self._log.error("audit: %s; every request is denied until this is mended", problem)
                self._problem = str(problem)
            self._on_change()
            with self._lock:
                # A flush waits for the next try like everybody else; only closing has a reason to hurry.
                self._work.wait_for(lambda: self._closing, backoff)
                if self._give_up_at is not None and time.monotonic() >= self._give_up_at:
                    return False
                if self._closing:
                    self._work.wait(_BACKOFF_FIRST)
            backoff = min(backoff * 2, _BACKOFF_LAST)

    def _try(self, batch: Batch) -> tuple[AuditError | None, tuple[str, ...]]:
        try:
            return None, self._store.write(batch, self._now_us())
        except Exception as error:  # noqa: BLE001 -- a dead thread would leave the audit silent; this denies instead
            return explain(error, self.path), ()

    def _recorded(self, batch: Batch, taken: tuple[str, ...], *, replaced: bool) -> None:
        with self._lock:
            self._pending.done(batch)
            if self._problem is not None:
                self._log.warning("audit: recording again")
            self._problem = None
            if replaced:
                self._log.warning("audit: %s was deleted or replaced; recording into the file that is there", self.path)
                self._note(Kind.REPLACED, "the database was deleted, moved or replaced; recording goes on here")
            for row_id in taken:
                self._note(Kind.DUPLICATE_ID, f"{row_id} was recorded before with other contents; the first was kept")
            if self._gap_since is not None and self._pending.has_room():
                self._note(Kind.GAP, self._describe_gap())
            for kind, detail in self._first_uses.of(batch.rows[DECISIONS]):
                self._note(kind, detail)
            self._commits.reached(self._pending.recorded)
            self._progress.notify_all()

    def _describe_gap(self) -> str:
        refused = self._pending.take_refused()
        since = datetime.fromtimestamp((self._gap_since or 0) / 1_000_000, UTC).isoformat(timespec="milliseconds")
        self._gap_since = None
        counts = ", ".join(f"{count} {table}" for table, count in refused.items())
        return f"refused since {since}: {counts}"

    def _note(self, kind: str, detail: str) -> None:
        """A row of `events` of the writer's own; the lock is held."""
        if self._pending.add(EVENTS, note_row(uuid.uuid4().hex, self._now_us(), kind, detail)):
            self._work.notify()
