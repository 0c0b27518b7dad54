"""What the record holds the lanes to: nothing leaves before a strict commit, and floods of denials are counted."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rig.modes import HOST, Mode, carried, make_site

from egress.audit import DecisionEvent
from egress.gate.floods import Floods

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins
    from rig.modes import Site
    from rig.proxy import Proxy

MODES = [(mode,) for mode in Mode]


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Site:
    """The usual site."""
    return make_site(start, origin)


class Disk:
    """Commits once it is told what they come to."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._told = asyncio.Event()
        self._answer = True

    async def commit(self, _: float) -> bool:
        """Wait for the word."""
        self.asked.set()
        await self._told.wait()
        return self._answer

    async def tell(self, *, done: bool) -> None:
        """All that was asked is on the disk, or will not be in time."""
        self._answer = done
        self._told.set()


@carried("mode", *MODES)
@pytest.mark.parametrize("done", [True, False])
def test_no_byte_leaves_before_the_decision_is_on_the_disk(site: Site, mode: Mode, *, done: bool) -> None:
    """Not even a connection is opened; where it cannot be in time, none ever is."""
    disk = Disk()
    site.proxy.gate.recorder = replace(site.proxy.gate.recorder, commit=disk.commit)
    statuses: list[int] = []
    with site.serving(mode):
        asking = threading.Thread(target=lambda: statuses.append(site.exchange(mode).status), daemon=True)
        asking.start()
        assert disk.asked.wait(10)
        assert site.origin.connections == []
        assert any(row.verdict == "allow" for row in site.proxy.ledger.decisions)
        site.proxy.call(disk.tell(done=done))
        asking.join(20)
    assert (statuses[0] == 200) is done
    assert bool(site.received) is done


@carried("mode", (Mode.PLAIN,), (Mode.TLS1,), (Mode.TLS2,))
def test_a_flood_of_denials_is_counted(site: Site, mode: Mode) -> None:
    """Each is answered; the rows add up, and so many have one of their own."""
    site.proxy.gate.recorder = replace(site.proxy.gate.recorder, floods=Floods(2, site.proxy.ledger.offer))
    policy = site.proxy.policy_file.read_text().replace(
        "rules:\n", f'rules:\n  - {{deny: "{HOST}:{site.port}", paths: /no}}\n', 1
    )
    site.proxy.reload(policy)
    with site.serving(mode):
        for _ in range(6):
            assert site.exchange(mode, "/no").reason == "rule-deny"
    site.proxy.until(lambda: sum(row.count for row in site.proxy.ledger.decisions) == 6, "the count")
    rows = [row for row in site.proxy.ledger.events if isinstance(row, DecisionEvent)]
    assert [row.count for row in rows[:2]] == [1, 1]
    assert len(rows) <= 2 + 4
    assert max(row.count for row in rows) > 1
