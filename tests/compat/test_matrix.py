"""docs/compatibility.md is what the table of clients says, and what the clients that are here do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from compat.clients import CLIENTS
from compat.columns import COLUMNS, Result
from compat.page import PAGE, results_in, text, versions_in
from compat.running import run, runnable
from compat.world import world
from roads.network import UnableError

if TYPE_CHECKING:
    from pathlib import Path

# What tests/tools/system_packages.py installs, and the Python that runs the tests has: these are run everywhere.
HELD = {"curl", "git", "pip", "npm", "apt", "Python, urllib", "Python, requests", "Python, httpx", "Python, websockets"}


def test_the_page_is_the_one_that_the_table_of_clients_makes() -> None:
    """With the versions that it has: `make compat` writes it."""
    page = PAGE.read_text()
    assert page == text(CLIENTS, versions_in(page))
    assert set(results_in(page)) == {(client.name, column) for client in CLIENTS for column in COLUMNS}


def test_each_cell_that_does_not_work_says_why() -> None:
    """And the clients' names are one each, in the page and as hosts."""
    for client in CLIENTS:
        for column in COLUMNS:
            expected = client.at(column)
            assert (expected.result is Result.WORKS) == (not expected.why), (client.name, column)
        assert re.fullmatch(r"[a-z][a-z0-9-]*", client.slug)
    assert len({client.slug for client in CLIENTS}) == len({client.name for client in CLIENTS}) == len(CLIENTS)


@pytest.mark.e2e
def test_the_clients_that_are_here_do_what_the_page_says(tmp_path: Path) -> None:
    """By every road, with TLS inspected and tunnelled, in one world."""
    told = results_in(PAGE.read_text())
    cells = runnable(client for client in CLIENTS if client.everywhere)
    assert {client.name for client, _ in cells} >= HELD
    try:
        with world(tmp_path) as made:
            found = run(made, cells, lambda *_: None)
    except UnableError as error:
        pytest.skip(f"cannot run here: {error}")
    wrong = [
        f"{client.name}, {column}: {seen.result}\n{seen.told}"
        for (client, column), seen in found.items()
        if seen.result is not told[client.name, column]
    ]
    assert not wrong, "\n".join(wrong)
