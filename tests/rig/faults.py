"""Faults: an exception, or a wait that never ends, in the place of one hook or one part of the gate."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

from rig.proxy import SECRET

if TYPE_CHECKING:
    from egress.mitm.lane import MitmLane

HOOK_SECONDS = 0.15


class Fault(StrEnum):
    """What happens in place of the work."""

    RAISE = "raise"
    HANG = "hang"


class InjectedFaultError(Exception):
    """The fault of a test; its text holds the secret, which therefore must stand in no answer."""

    def __init__(self) -> None:
        super().__init__(f"injected fault {SECRET}")


def fail(*_: object, **__: object) -> NoReturn:
    """Raise, whatever was asked."""
    raise InjectedFaultError


async def hang(*_: object, **__: object) -> NoReturn:
    """Never come back."""
    await asyncio.Event().wait()
    raise AssertionError


async def strike(fault: Fault) -> NoReturn:
    """Do what the fault says."""
    if fault is Fault.RAISE:
        fail()
    await hang()


def break_hook(lane: MitmLane, name: str, fault: Fault, *, after: bool = False) -> list[str]:
    """Break one hook of a lane, in place of its work or `after` it; the list grows each time that it struck."""
    lane.hook_seconds = HOOK_SECONDS if fault is Fault.HANG else 5.0
    struck: list[str] = []
    run = lane.run

    async def broken(handler: object, hook: object, data: object) -> None:
        if hook.name != name:  # type: ignore[attr-defined]
            await run(handler, hook, data)  # type: ignore[arg-type]
            return
        struck.append(name)
        if after:
            await run(handler, hook, data)  # type: ignore[arg-type]
        await strike(fault)

    lane.run = broken  # type: ignore[method-assign]
    return struck
