"""The first use of each secret by each sandbox, as seen by whoever records: it sees the rows of all processes.

Looked for in the rows of a batch, in the writer's thread, so that no request waits for it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from egress.audit.notes import first_use
from egress.audit.row import COLUMNS, DECISIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.audit.notes import Note
    from egress.audit.row import Row

_ID: Final = COLUMNS[DECISIONS].index("id")
_SANDBOX: Final = COLUMNS[DECISIONS].index("sandbox")
_SECRETS: Final = COLUMNS[DECISIONS].index("secrets")
_NONE: Final = "[]"
# Pairs that are remembered. Beyond it all are forgotten, so that a use may be told twice, and none is left out.
_MOST: Final = 100_000


class FirstUses:
    """The pairs of sandbox and secret that were told of; one for each run of a writer."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        # As rows have them: the sandbox, and the text of the list of its secrets.
        self._seen: set[tuple[object, object]] = set()
        self._told: set[tuple[str, str]] = set()

    def of(self, rows: Sequence[Row]) -> list[Note]:
        """What is told of decisions that were recorded."""
        notes: list[Note] = []
        for row in rows:
            secrets = row[_SECRETS]
            if secrets == _NONE or (row[_SANDBOX], secrets) in self._seen:
                continue
            if len(self._seen) >= self._most or len(self._told) >= self._most:
                self._seen.clear()
                self._told.clear()
            self._seen.add((row[_SANDBOX], secrets))
            notes += self._told_of(str(row[_SANDBOX]), str(secrets), str(row[_ID]))
        return notes

    def _told_of(self, sandbox: str, secrets: str, decision_id: str) -> list[Note]:
        new = [name for name in json.loads(secrets) if (sandbox, name) not in self._told]
        self._told.update((sandbox, name) for name in new)
        return [first_use(name, sandbox, decision_id) for name in new]
