"""What the viewer reads when it opens, and what it loads: neither grows with the record, nor with what Egress is."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pytest
from viewer.driving import screen
from viewer.seed import fill, seed

from egress.audit import Filter, PagedReader
from egress.viewer.app import Viewer

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent.parent
FEW, MANY = 3_000, 300_000

LOADED = """
import asyncio, sys
from pathlib import Path
from egress.viewer.app import Viewer
async def main():
    app = Viewer(Path(sys.argv[1]))
    async with app.run_test() as pilot:
        await pilot.press("up", "enter", "w", "escape", "c", "escape", "y", "escape", "q")
asyncio.run(main())
print(*sorted(sys.modules))
"""


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A small record and a large one."""
    folder = tmp_path_factory.mktemp("records")
    found = {count: folder / f"{count}.db" for count in (FEW, MANY)}
    for count, path in found.items():
        seed(path, 20)
        fill(path, count)
    return found


def steps(path: Path, ask: Callable[[PagedReader], object]) -> int:
    """How much SQLite does for a question, in hundreds of steps of its machine: the same on every computer."""
    with PagedReader(path) as reader:
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        reader._connection.set_progress_handler(step, 100)
        ask(reader)
        return count


@pytest.mark.parametrize(
    "ask",
    [
        lambda reader: reader.before(10**9, Filter(), limit=300),
        lambda reader: reader.after(0, Filter(), limit=300),
        lambda reader: reader.after(1_500, Filter(), limit=300),
        lambda reader: reader.ends(),
        lambda reader: reader.minutes(reader.ends().last - 1_000, reader.ends().last),
        lambda reader: reader.talkers(Filter(), most=1_000),
    ],
    ids=["newest", "oldest", "middle", "ends", "minutes", "talkers"],
)
def test_a_page_costs_the_same_at_any_size(ask: Callable[[PagedReader], object], records: dict[int, Path]) -> None:
    """A hundred times the rows, hardly a step more."""
    assert steps(records[MANY], ask) <= steps(records[FEW], ask) * 1.2 + 5


def test_opening_takes_as_long_at_any_size(records: dict[int, Path]) -> None:
    """From the start of the app to its first rows: the large record in less than three times the small one's time."""
    import asyncio

    async def opened(path: Path) -> float:
        app = Viewer(path)
        start = time.perf_counter()
        async with app.run_test() as pilot:
            while "bulk" not in "".join(line.row.sandbox for line in app._rows.window.lines[-1:]):
                await pilot.pause(0.005)
            took = time.perf_counter() - start
            assert "✓" in "".join(screen(app))
        return took

    times = {count: [asyncio.run(opened(path)) for _ in range(3)] for count, path in records.items()}
    assert median(times[MANY]) < 3 * median(times[FEW])


def test_the_viewer_loads_neither_mitmproxy_nor_credentials_nor_policies(records: dict[int, Path]) -> None:
    """It needs no secrets: nothing that could read one is loaded, and no parser of policies without `--policy`."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, str(records[FEW])], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(done.stdout.split())
    assert "egress.viewer.app" in loaded
    unwanted = ("mitmproxy", "ruamel", "pydantic", "egress.credentials", "egress.config", "egress.server")
    assert [name for name in loaded if name.startswith(unwanted)] == []


def test_a_record_from_another_machine_is_left_as_it_is(records: dict[int, Path], tmp_path: Path) -> None:
    """A copy of the file alone is enough, and its bytes stay."""
    import asyncio

    path = tmp_path / "copy" / "audit.db"
    path.parent.mkdir()
    path.write_bytes(records[FEW].read_bytes())
    before = path.read_bytes()

    async def main() -> None:
        app = Viewer(path)
        async with app.run_test() as pilot:
            await pilot.press("up", "home", "t", "escape", "enter")
            await pilot.pause(0.3)
            assert app._rows.row is not None

    asyncio.run(main())
    assert path.read_bytes() == before
