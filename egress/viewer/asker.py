"""Questions to the record, asked in a thread with a connection of its own: the screen never waits for a disk."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from egress.audit import PagedReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Asker:
    """One thread and one reader. `close` it: the reader is closed where it was opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="audit")
        self._reader: PagedReader | None = None

    async def ask[Answer](self, question: Callable[[PagedReader], Answer]) -> Answer:
        """The answer, after those to all that was asked before. Raises AuditError."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)

    def close(self) -> None:
        """End the thread when it has answered what was asked."""
        self._thread.submit(self._close)
        self._thread.shutdown(wait=True)

    def _answer[Answer](self, question: Callable[[PagedReader], Answer]) -> Answer:
        if self._reader is None:
            self._reader = PagedReader(self._path)
        return question(self._reader)

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
