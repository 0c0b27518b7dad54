"""docs/compatibility.md: written from what was expected and found to be so, and read again by the tests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from compat.columns import COLUMNS, Result, Road
from compat.tools import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compat.columns import Client, Column

PAGE = ROOT / "docs" / "compatibility.md"
_HEAD = """\
# Compatibility of clients

Each cell is a run of the client against a stand-in server with TLS, through a real `egress run`, in network
namespaces. `make compat` installs what is missing, runs all of them and writes this page; `make test` runs the
commonest again and holds the page to it. How clients are told of the proxy is in [clients](guides/clients.md); the
roads are in [their guide](guides/roads.md).

- **explicit**: with the variables of `egress env`, in a network that leads to the proxy's listener
  alone, without DNS.
- **SOCKS5**: the same with those of `egress env --socks`. *by HTTP*: it works, but the client speaks HTTP to the proxy,
  as the listener lets it.
- **transparent**: without a proxy variable. The client resolves names at the proxy's DNS, and its connections are
  redirected. It has the variables for roots.
- **inspected**: the proxy opens TLS, so the client has to trust its CA. **tunnelled**: by a rule with `tls: tunnel`, so
  the client sees the server's own certificate.

| client | version | {columns} |
|---|---|{lines}|
"""
_ROADS = {Road.EXPLICIT: "explicit", Road.SOCKS: "SOCKS5", Road.TRANSPARENT: "transparent"}
_NOTES = """
A number is that of a note. A dash: the client has no such thing.

## Notes

"""
_TAIL = """
## Not run

.NET, conda, gcloud: not to be had from the package sources that `make compat` uses. What they read is in
[clients](guides/clients.md#which-client-reads-what). Docker's daemon pulls images in the environment of its own
service; podman stands here for it.
"""
_CELL = re.compile(r"(works|by HTTP|fails|-)( \(\d+\))*")


def text(clients: tuple[Client, ...], versions: Mapping[str, str]) -> str:
    """The page; `versions` by the clients' names."""
    notes: list[str] = []

    def marked(word: str, note: str) -> str:
        if note and note not in notes:
            notes.append(note)
        return f"{word} ({notes.index(note) + 1})" if note else word

    rows = []
    for client in clients:
        name = marked(client.name, client.says)
        cells = [marked(client.at(column).result, client.at(column).why) for column in COLUMNS]
        rows.append(f"| {' | '.join((name, versions[client.name], *cells))} |\n")
    listed = "".join(f"{number}. {note[:1].upper()}{note[1:]}.\n" for number, note in enumerate(notes, 1))
    names = (f"{_ROADS[column.road]}, {column.tls}" for column in COLUMNS)
    head = _HEAD.format(columns=" | ".join(names), lines="|".join("---" for _ in COLUMNS))
    return "".join((head, *rows, _NOTES, listed, _TAIL))


def _rows(page: str) -> list[list[str]]:
    lines = [line.strip("|\n ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    return [cells for cells in lines if len(cells) == len(COLUMNS) + 2 and cells[0] != "client"]


def versions_in(page: str) -> dict[str, str]:
    """The versions that a page tells, by the clients' names."""
    return {re.sub(r" \(\d+\)$", "", cells[0]): cells[1] for cells in _rows(page)}


def results_in(page: str) -> dict[tuple[str, Column], Result]:
    """What a page says, by a client's name and the column."""
    found = {}
    for cells in _rows(page):
        name = re.sub(r" \(\d+\)$", "", cells[0])
        for column, cell in zip(COLUMNS, cells[2:], strict=True):
            match = _CELL.fullmatch(cell)
            assert match, f"{PAGE.name}: `{cell}`, in the row of {name}, is no result"
            found[name, column] = Result(match[1])
    return found
