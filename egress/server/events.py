"""What the supervisor waits for: descriptors that can be read or written, and moments. One thread, no event loop.

A callback is called for what is watched at that moment, never for what an earlier one of the same turn forgot.
"""

from __future__ import annotations

import contextlib
import selectors
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE


@dataclass(slots=True, eq=False)
class Timer:
    """A moment (monotonic seconds) at which something is called, once."""

    moment: float
    callback: Callable[[], None]


@dataclass(slots=True, eq=False)
class Events:
    """Descriptors and timers, each with what is called."""

    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _keys: dict[int, selectors.SelectorKey] = field(default_factory=dict)
    _timers: list[Timer] = field(default_factory=list)

    def watch(self, fileobj: socket.socket | int, callback: Callable[[], None], events: int = READ) -> None:
        """Call this whenever the descriptor can be read or written; in place of what was called for it before."""
        self.forget(fileobj)
        key = self._selector.register(fileobj, events, callback)
        self._keys[key.fd] = key

    def forget(self, fileobj: socket.socket | int) -> None:
        """Watch it no more; it is still open."""
        # KeyError: it was not watched. ValueError: it is closed.
        with contextlib.suppress(KeyError, ValueError):
            self._keys.pop(self._selector.unregister(fileobj).fd)

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call this once so much time has passed."""
        timer = Timer(time.monotonic() + seconds, callback)
        self._timers.append(timer)
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """Do not call it; nothing happens if it was called."""
        if timer in self._timers:
            self._timers.remove(timer)

    def act(self, deadline: float | None) -> None:
        """Wait for what happens first, at the latest until the deadline (None: for good), and call what it is for."""
        moments = [timer.moment for timer in self._timers]
        if deadline is not None:
            moments.append(deadline)
        seconds = max(min(moments) - time.monotonic(), 0) if moments else None
        for key, _ in self._selector.select(seconds):
            if self._keys.get(key.fd) is key:
                key.data()
        now = time.monotonic()
        for timer in [timer for timer in self._timers if timer.moment <= now]:
            # An earlier one may have cancelled this one.
            if timer in self._timers:
                self._timers.remove(timer)
                timer.callback()

    def close(self) -> None:
        """Watch nothing any more."""
        self._keys.clear()
        self._timers.clear()
        self._selector.close()
