"""The mitm process: carries what the workers hand over, with mitmproxy's protocol layers. Alone loads mitmproxy."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from egress.errors import EgressError
from egress.gate.roster import room_of
from egress.policy import Reason
from egress.server.channel import Word, encode, send
from egress.server.handed import take_handed
from egress.server.judging import Judging

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from egress.certs import Authority
    from egress.config import ServerConfig
    from egress.gate.exchange import Client
    from egress.server.children import Start
    from egress.server.handed import Destination
    from egress.server.leases import LeasedSlots

logger = logging.getLogger(__name__)

# A worker gives its place back as it hands a connection over. At the limit that may reach the hub a moment later than
# this process asks for one, so it asks again: after so many seconds each.
_MOVING: Final = (0.05, 0.2, 0.5)


class MitmProcess:
    """What it has since before it was forked.

    `trust`: our CA, and the file of roots that upstreams are verified against. `handed`: the end of the queue from
    which connections are taken. `ports`: those of the proxy's listeners.
    """

    def __init__(
        self, config: ServerConfig, trust: tuple[Authority, Path], handed: socket.socket, ports: frozenset[int]
    ) -> None:
        self._config = config
        self._authority, self._roots = trust
        self._handed = handed
        self._ports = ports
        self._tasks: set[asyncio.Task[None]] = set()

    def main(self, start: Start) -> int:
        """Serve until told to end, or until the supervisor is gone; the exit status."""
        return asyncio.new_event_loop().run_until_complete(self.serve(start))

    async def serve(self, start: Start) -> int:
        """Serve on the running loop."""
        # Before all else, and going on meanwhile: until this process has told the hub what it holds, the hub grants
        # nothing to any other, and loading takes seconds.
        self._judging = Judging(self._config, start, lambda: None, self._authority)
        self._judging.gate.own.ports.update(self._ports)
        await asyncio.to_thread(_load_mitmproxy)
        from egress.mitm import options_profile  # noqa: PLC0415 - as in `_load_mitmproxy`
        from egress.mitm.build import build_lane  # noqa: PLC0415
        from egress.mitm.listener import MitmListener  # noqa: PLC0415

        warning = options_profile.check_h2()
        if warning is not None:
            logger.warning("%s", warning)
        try:
            lane = build_lane(self._config, self._judging.gate, self._authority, roots=self._roots)
            self._listener = MitmListener(lane, idle_seconds=int(self._config.limits.idle_seconds))
        except EgressError as error:
            send(start.control, encode(Word.FAILED, type(error).__name__, error.message, error.hint))
            return 1
        loop = asyncio.get_running_loop()
        loop.add_reader(self._handed.fileno(), self._take)
        self._judging.ready()
        # Workers may hand over for as long as they are there: they are refused here, on record.
        await self._judging.until_told_to_end()
        await self._judging.until_drained()
        loop.remove_reader(self._handed.fileno())
        return await self._judging.finish(self._listener.close)

    def _take(self) -> None:
        for sock, client, destination in take_handed(self._handed):
            task = asyncio.get_running_loop().create_task(self._carry(sock, client, destination))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, sock: socket.socket, client: Client, destination: Destination) -> None:
        """Carry one connection to its end, within the room that all processes share."""
        shares = self._judging.shares
        taken: list[LeasedSlots] = []
        try:
            address = client.peer if client.place is None else client.place.address
            for slots in (shares.of_client(room_of(client, address)), shares.connections):
                if not await _moved_in(slots):
                    await self._judging.gate.refuse_unread(client, Reason.LIMIT_CONNECTIONS, "")
                    return
                taken.append(slots)
            await self._listener.take(sock, client, destination)
        except Exception:
            logger.exception("a connection failed and is closed")
            with contextlib.suppress(Exception):
                await self._judging.gate.refuse_unread(client, Reason.INTERNAL_ERROR, "")
        finally:
            for slots in taken:
                slots.give_back()
            sock.close()


async def _moved_in(slots: LeasedSlots) -> bool:
    """Take a place for a connection that had one until now."""
    for pause in _MOVING:
        if slots.try_take() or await slots.take():
            return True
        await asyncio.sleep(pause)
    return await slots.take()


def _load_mitmproxy() -> None:
    """Load what `serve` uses: here and nowhere else."""
    import egress.mitm.build  # noqa: PLC0415
    import egress.mitm.listener  # noqa: F401, PLC0415
