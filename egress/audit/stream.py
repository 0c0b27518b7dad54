"""What is recorded, sent on at once: from a bounded buffer, by a thread of its own.

1. rows come here after they are committed, so nothing is told that the record lacks
2. `offer` never waits: what has no room is counted, and an event `stream-dropped` of the record tells how many
3. a row that cannot be sent is tried again, in its place, until it is, or the stream is closed

INVARIANT stream-never-blocks: no receiver, however slow, holds up the record or the traffic.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.audit.batch import Batch
    from egress.audit.row import Row
    from egress.audit.stream_target import Target

DROPPED: Final = "stream-dropped"
# While rows go on being dropped, the record tells so often.
_TELL_SECONDS: Final = 60.0
_BACKOFF_FIRST: Final = 0.1
_BACKOFF_LAST: Final = 10.0


class Stream:
    """Sends to `target`; `capacity` is how many rows may wait. `name` is for people."""

    def __init__(
        self, target: Target, *, capacity: int = 10_000, name: str = "", tell_seconds: float = _TELL_SECONDS
    ) -> None:
        self._target = target
        self._capacity = capacity
        self._name = name
        self._tell_seconds = tell_seconds
        self._log = logging.getLogger("egress.audit")
        self._waiting: deque[tuple[str, Row]] = deque()
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._closing = False
        self._give_up_at: float | None = None
        self._dropped = 0
        self._told_at = time.monotonic()
        self._note: Callable[[str, str], bool] = lambda _kind, _detail: False
        self._thread = threading.Thread(target=self._run, name="egress-stream", daemon=True)

    def start(self, note: Callable[[str, str], bool]) -> None:
        """Begin. `note` records an event of a kind, with a sentence, and says whether it will; it must not wait."""
        self._note = note
        self._thread.start()

    def offer(self, batch: Batch) -> None:
        """Take what there is room for, in the order of the record; count the rest."""
        rows = [(table, row) for table, found in batch.rows.items() for row in found]
        with self._lock:
            room = max(self._capacity - len(self._waiting), 0)
            self._waiting.extend(rows[:room])
            self._dropped += len(rows[room:])
            self._work.notify()
            late = self._dropped and time.monotonic() - self._told_at >= self._tell_seconds
        if late:
            self._tell()

    def take_dropped(self) -> int:
        """How many rows were dropped and not told of."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
            self._told_at = time.monotonic()
            return dropped

    def describe(self, dropped: int) -> str:
        """The sentence of the event."""
        return f"{dropped} rows were not sent to {self._name}: more waited than its buffer holds, {self._capacity}"

    def close(self, timeout: float) -> bool:
        """Send what waits, for so many seconds at most; whether all of it was sent."""
        with self._lock:
            self._closing = True
            self._give_up_at = time.monotonic() + timeout
            self._work.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout + 1)
        left = len(self._waiting)
        if left:
            self._log.warning("audit: %d rows were not sent to %s before the end", left, self._name)
        return not left

    def _run(self) -> None:
        try:
            while (entry := self._next()) is not None:
                if not self._sent(*entry):
                    return
                with self._lock:
                    self._waiting.popleft()
                    relieved = self._dropped and len(self._waiting) * 2 <= self._capacity
                if relieved:
                    self._tell()
        finally:
            self._target.close()

    def _next(self) -> tuple[str, Row] | None:
        """The oldest row, which stays where it is until it is sent; None to end."""
        with self._lock:
            self._work.wait_for(lambda: self._waiting or self._closing)
            return self._waiting[0] if self._waiting else None

    def _sent(self, table: str, row: Row) -> bool:
        """Send the row, however often it takes; False only when closing and out of time."""
        backoff, failed = _BACKOFF_FIRST, False
        while not self._stopped():
            try:
                self._target.send(table, row, self._stopped)
            except Exception as error:  # noqa: BLE001 -- a dead thread would end the stream in silence
                if not failed:
                    self._log.warning("audit: the stream to %s waits: %s", self._name, error)
                failed = True
                self._pause(backoff)
                backoff = min(backoff * 2, _BACKOFF_LAST)
            else:
                if failed:
                    self._log.warning("audit: the stream to %s goes on", self._name)
                return True
        return False

    def _pause(self, seconds: float) -> None:
        with self._lock:
            if self._give_up_at is None:
                self._work.wait_for(lambda: self._closing, seconds)
                return
            left = self._give_up_at - time.monotonic()
        time.sleep(max(0.0, min(seconds, left)))

    def _stopped(self) -> bool:
        return self._give_up_at is not None and time.monotonic() >= self._give_up_at

    def _tell(self) -> None:
        dropped = self.take_dropped()
        if dropped and not self._note(DROPPED, self.describe(dropped)):
            with self._lock:
                self._dropped += dropped  # the record takes no events now: told with the next ones, or at its end
