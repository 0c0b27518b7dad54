"""How a hook is run: armed first, timed, and refused where it does not come to its end.

1. a hook that raises, or takes too long, leaves the state that it found: refused (`arming`)
2. one that needs no waiting is run where it is asked for; of those of one event only so many
3. INVARIANT fail-closed: what waits for a hook that ended in an unforeseen way never goes on
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from mitmproxy.proxy import commands, events

from egress.gate.denial import Denial
from egress.gate.ids import new_decision_id
from egress.gate.within import within
from egress.mitm.arming import ANSWERED, arm, not_judged, refusal
from egress.mitm.attachment import attached
from egress.mitm.connection import close_client
from egress.policy import Reason

if TYPE_CHECKING:
    from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

logger = logging.getLogger(__name__)

# What one event may have done before other connections get their turn: a read can bring a thousand small requests.
HOOKS_AT_ONCE = 32

# What a handler bears of ours: how many hooks may still run at once, and the tasks that end a hook.
AT_ONCE = "_egress_at_once"
_WAITING = "_egress_waiting"
# What a hook bears: the task that runs it.
_TASK = "_egress_task"

# Set once a hook failed whose refusal is no answer: nothing is sent on any of its connections from then on.
CUT = "_egress_cut"


async def handle_hook(self: ProxyConnectionHandler, hook: commands.StartHook) -> bool:
    """Run a hook so that an exception, a hang or a missing lane refuses; whether it ran to its end."""
    name, data = hook.name, hook_data(hook)
    arm(name, data)
    lane = attached()
    if lane is None:
        logger.error("no policy is in charge: everything is denied")
        close_client(self)
        return False
    watchdog = self.timeout_watchdog
    watchdog.blocker += 1
    watchdog.can_timeout.clear()
    try:
        await within(lane.hook_seconds, lane.run(self, hook, data))
    except Exception:
        logger.exception("hook %s failed: the connection is refused", name)
        arm(name, data)
        if getattr(data, "response", None) is not_judged():
            # This one may be sent.
            data.response = refusal(Denial(new_decision_id(), Reason.INTERNAL_ERROR))
        if name not in ANSWERED:
            # INVARIANT fail-closed: the layers go on in the same breath, before the connection's end takes hold.
            self.__dict__[CUT] = True
        await lane.hook_failed(self, name, data)
        return False
    finally:
        watchdog.blocker -= 1
        if not watchdog.blocker:
            watchdog.register_activity()
            watchdog.can_timeout.set()
    return True


def run_now(self: ProxyConnectionHandler, hook: commands.StartHook) -> bool:
    """Run a hook as far as it goes without waiting. True: to its end, and the layer that asked may go on.

    False: the rest of it runs in the task that the hook now bears. Raises what the hook's failure could not be turned
    into a refusal for.
    """
    task = hook.__dict__.get(_TASK)
    if task is None:
        at_once = self.__dict__.get(AT_ONCE, 0)
        self.__dict__[AT_ONCE] = at_once - 1
        # Of its own, because what it may wait for belongs to a task: a time limit would else end its caller.
        task = asyncio.Task(handle_hook(self, hook), loop=asyncio.get_running_loop(), eager_start=at_once > 0)
        hook.__dict__[_TASK] = task
    if not task.done():
        return False
    task.result()
    return True


def wait_for(self: ProxyConnectionHandler, hook: commands.StartHook) -> None:
    """Go on once a hook that waits has ended."""

    def ended(task: asyncio.Task[bool]) -> None:
        waiting = self.__dict__.setdefault(_WAITING, set())
        after = asyncio.get_running_loop().create_task(_ended(self, hook, task))
        waiting.add(after)
        after.add_done_callback(waiting.discard)

    hook.__dict__[_TASK].add_done_callback(ended)


async def _ended(self: ProxyConnectionHandler, hook: commands.StartHook, task: asyncio.Task[bool]) -> None:
    if task.cancelled() or task.exception() is not None:
        # INVARIANT fail-closed: what waits for this hook never goes on.
        logger.error("a hook ended in an unforeseen way: the connection is closed", exc_info=task.exception())
        close_client(self)
    elif hook.blocking:
        await self.server_event(events.HookCompleted(hook))


def hook_data(hook: commands.StartHook) -> Any:
    """The one argument of a hook."""
    kind = type(hook)
    name = _ARGUMENTS.get(kind)
    if name is None:
        (only,) = fields(kind)  # type: ignore[arg-type]
        name = _ARGUMENTS[kind] = only.name
    return getattr(hook, name)


_ARGUMENTS: dict[type[commands.StartHook], str] = {}
