"""Fair handshakes: each client gets one a round, in order, and a flood waits behind itself."""

from __future__ import annotations

import asyncio

from egress.proxy.turns import Turns


def test_a_flood_of_one_client_does_not_delay_another() -> None:
    """A hundred of one come first; another's only one is served in the next round at the latest."""
    order: list[str] = []

    async def main() -> None:
        turns = Turns(asyncio.get_running_loop())

        async def ask(key: str) -> None:
            await turns.turn(key)
            order.append(key)

        await asyncio.gather(*(ask("flood") for _ in range(100)), ask("other"))

    asyncio.run(main())
    assert len(order) == 101
    assert order.index("other") <= 2


def test_each_round_serves_each_waiting_client_once() -> None:
    """Two floods take turns."""
    order: list[str] = []

    async def main() -> None:
        turns = Turns(asyncio.get_running_loop())

        async def ask(key: str) -> None:
            await turns.turn(key)
            order.append(key)

        await asyncio.gather(*(ask("a") for _ in range(20)), *(ask("b") for _ in range(20)))

    asyncio.run(main())
    for end in range(2, 41, 2):
        assert abs(order[:end].count("a") - order[:end].count("b")) <= 1


def test_one_that_gives_up_leaves_its_place() -> None:
    """A cancelled wait takes no turn, and blocks nobody."""

    async def main() -> None:
        turns = Turns(asyncio.get_running_loop())
        await turns.turn("a")
        gone = asyncio.ensure_future(turns.turn("a"))
        stays = asyncio.ensure_future(turns.turn("a"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait_for(stays, 5)

    asyncio.run(main())
