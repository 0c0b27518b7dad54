"""`make compat`: get the clients, run every cell, and write docs/compatibility.md if all is as their table has it.

Exit code 1: a cell is not as expected; what the client said is printed, and the page is left as it was. A client that
is not to be had here keeps the version that the page has.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from compat.cells import lacks
from compat.clients import CLIENTS
from compat.page import PAGE, text, versions_in
from compat.running import run, runnable, version
from compat.tools import install
from compat.world import world

if TYPE_CHECKING:
    from compat.cells import Seen
    from compat.running import Cell


def _tell(cell: Cell, seen: Seen) -> None:
    client, column = cell
    agreed = seen.result is client.at(column).result
    sys.stdout.write(f"{client.name:28} {column!s:22} {seen.result}{'' if agreed else '  NOT AS EXPECTED'}\n")
    if not agreed:
        sys.stdout.write(f"{seen.told}\n")
    sys.stdout.flush()


def main(*slugs: str) -> int:
    """Do it; with names, for those clients alone, and write nothing."""
    if not slugs:
        install()
    chosen = [client for client in CLIENTS if not slugs or client.slug in slugs]
    with tempfile.TemporaryDirectory(prefix="compat-") as folder, world(Path(folder)) as made:
        found = run(made, runnable(chosen), _tell)
    if any(seen.result is not client.at(column).result for (client, column), seen in found.items()):
        return 1
    if not slugs:
        before = versions_in(PAGE.read_text()) if PAGE.exists() else {}
        here = {client.name: version(client) for client in CLIENTS if not lacks(client)}
        told = {client.name: here.get(client.name) or before.get(client.name, "not run") for client in CLIENTS}
        PAGE.write_text(text(CLIENTS, told))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
