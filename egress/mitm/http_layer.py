"""mitmproxy's layer of HTTP, which has its exchanges' hooks run here where they need no waiting.

mitmproxy's own way leads each hook up through every layer to the handler, into a task, and its end back down again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http import HttpLayer

from egress.mitm.attachment import attached
from egress.mitm.hook_runs import run_now

if TYPE_CHECKING:
    from mitmproxy.proxy.layer import CommandGenerator


class PromptHttpLayer(HttpLayer):
    """mitmproxy's layer; the end of a hook is told after the event it came from, as the handler would tell it."""

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        lane = attached()
        handler = None if lane is None else lane.handler_of(self.context.client)
        due = [event]
        for happened in due:
            for command in super()._handle_event(happened):
                if handler is None or not isinstance(command, commands.StartHook) or not run_now(handler, command):
                    yield command
                elif command.blocking:
                    due.append(events.HookCompleted(command))
