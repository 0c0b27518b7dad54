"""Cells, several at a time, in one world; and which of them this machine can run."""

from __future__ import annotations

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from compat.cells import built, lacks, programs
from compat.columns import COLUMNS, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from compat.cells import Seen, World
    from compat.columns import Client, Column

    type Cell = tuple[Client, Column]

_AT_ONCE = 3


def runnable(clients: Iterable[Client]) -> list[Cell]:
    """The cells whose programs are here, without those that are never run."""
    return [
        (client, column)
        for client in clients
        if not lacks(client)
        for column in COLUMNS
        if client.at(column).result is not Result.NEVER and not lacks(client, column.road)
    ]


def run(world: World, cells: list[Cell], tell: Callable[[Cell, Seen], None]) -> dict[Cell, Seen]:
    """Run them, and tell of each that is done, in their order."""
    for client in {client.slug: client for client, _ in cells}.values():
        built(client)
    found: dict[Cell, Seen] = {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for cell, seen in zip(cells, pool.map(lambda cell: world.run(*cell), cells), strict=True):
            found[cell] = seen
            tell(cell, seen)
    return found


def version(client: Client) -> str:
    """The version of what is run: the first number that it says."""
    env = {**programs(client), "HOME": "/nonexistent"}
    said = subprocess.run(["sh", "-euc", client.version], check=True, capture_output=True, text=True, env=env).stdout
    match = re.search(r"\d+(\.\d+)+", said)
    return match[0] if match else "?"
