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
    served: list[str] = []

    async def main() -> None:
        turns = Turns(asyncio.get_running_loop())

        async def ask(name: str) -> None:
            await turns.turn("a")
            served.append(name)

        _, gone, stays = (asyncio.ensure_future(ask(name)) for name in ("first", "gone", "stays"))
        await asyncio.sleep(0)
        assert served == ["first"]
        gone.cancel()
        await asyncio.wait_for(stays, 5)
        assert gone.cancelled()

    asyncio.run(main())
    assert served == ["first", "stays"]
