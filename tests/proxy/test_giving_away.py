"""Handing a connection over: its descriptor is closed here whatever ends the wait for room."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from egress.gate.exchange import Client
from egress.policy import Reason
from egress.proxy import onward as onward_module
from egress.proxy.endpoint import Endpoint
from egress.proxy.onward import Onward

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.proxy.connection import Connection


@dataclass
class Way:
    """The way to the other process: full, broken, or with room."""

    answer: bool | Exception

    def hand_over(self, *_: object) -> bool:
        """As it was made."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@dataclass
class Carried:
    """As much of a connection as is given away."""

    endpoint: Endpoint
    client: Client = field(default_factory=lambda: Client("default", "127.0.0.1:1"))
    bound: object = None
    refused: list[Reason] = field(default_factory=list)

    async def refuse_unread(self, reason: Reason, _detail: str) -> None:
        """Noted."""
        self.refused.append(reason)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's end of a connection, and ours."""
    far, near = socket.socketpair()
    far.settimeout(5)
    near.setblocking(False)  # noqa: FBT003 - the method takes it so
    with far, near:
        yield far, near


ENDS = {
    "there is room": (True, 10.0, None, []),
    "nobody takes it": (False, 0.0, None, [Reason.INTERNAL_ERROR]),
    "the way breaks": (OSError("broken"), 10.0, OSError, []),
    "its deadline passes": (False, 10.0, TimeoutError, []),
}


@pytest.mark.parametrize(("answer", "seconds", "ended", "refused"), ENDS.values(), ids=ENDS.keys())
def test_what_was_released_is_closed_whatever_ends_the_wait(  # noqa: PLR0917 -- a table
    ends: tuple[socket.socket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    answer: bool | Exception,  # noqa: FBT001 -- a table
    seconds: float,
    ended: type[Exception] | None,
    refused: list[Reason],
) -> None:
    """Once it is released its connection does not close it any more: its client would wait for ever."""
    monkeypatch.setattr(onward_module, "_FULL_SECONDS", seconds)
    far, near = ends
    nothing = cast("Any", None)
    onward = Onward(nothing, nothing, pipes=nothing, hand_over=cast("Any", Way(answer)), forced=None, turns=nothing)

    async def play() -> Carried:
        carried = Carried(Endpoint(asyncio.get_running_loop(), near))
        async with contextlib.AsyncExitStack() as stack:
            if ended is not None:
                stack.enter_context(pytest.raises(ended))
            await stack.enter_async_context(asyncio.timeout(0.1))
            await onward.give_away(cast("Connection", carried), None)
        return carried

    assert asyncio.run(play()).refused == refused
    assert far.recv(1) == b""
