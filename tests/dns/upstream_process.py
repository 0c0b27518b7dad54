"""A name server as a process of its own: says its port, and at the end of its input, what it was asked."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "gate"))

from nameserver import NameServer

RECORDS = json.loads(sys.argv[1])

with NameServer({tuple(key.split()): (60, texts) for key, texts in RECORDS.items()}) as server:  # type: ignore[misc]
    print(server.port, flush=True)  # noqa: T201 - for who started it
    sys.stdin.read()
    print(json.dumps(server.asked), flush=True)  # noqa: T201 - as above
