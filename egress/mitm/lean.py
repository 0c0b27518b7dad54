"""Has mitmproxy's types do less for the same result, in the embedded lane: they are made for every request.

Nothing here decides anything: with mitmproxy's own functions in these places the lane is slower, and the same.

1. no checks of types at run time: nobody but us and mitmproxy itself makes these values here
2. no look-ups of fields by way of exceptions and abstract classes
3. no identifiers that are random: none leaves this process, or is anything but the key of a table
"""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from mitmproxy import connection, flow, http
from mitmproxy.proxy import commands, context, events, layer, tunnel

from egress.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mitmproxy.connection import Connection
    from mitmproxy.proxy.layer import CommandGenerator

_numbers = itertools.count(1)


def install() -> None:
    """Replace them. There is no way back."""
    for owner, name, replacement in REPLACEMENTS:
        if not hasattr(owner, name):
            raise StartError(f"this mitmproxy has no {name} to replace", hint="install the version of the lock file")
        setattr(owner, name, replacement)


def unchecked(message: http.MessageData) -> None:
    """In place of `MessageData.__post_init__`."""


def new_headers(self: http.Headers, fields: Iterable[tuple[bytes, bytes]] = (), **headers: str | bytes) -> None:
    """In place of `Headers.__init__`."""
    self.fields = tuple([(name, value) for name, value in fields])
    for name, value in headers.items():
        self[name.replace("_", "-")] = value


def all_values(self: http.Headers, name: str | bytes) -> list[str]:
    """In place of `Headers.get_all`."""
    wanted = _lower(name)
    return [value.decode("utf-8", "surrogateescape") for key, value in self.fields if key.lower() == wanted]


def get_value(self: http.Headers, name: str | bytes, default: Any = None) -> Any:
    """In place of `Headers.get`."""
    values = all_values(self, name)
    return ", ".join(values) if values else default


def has_value(self: http.Headers, name: object) -> bool:
    """In place of `Headers.__contains__`."""
    wanted = _lower(name)  # type: ignore[arg-type]
    return any(key.lower() == wanted for key, _ in self.fields)


def _lower(name: str | bytes) -> bytes:
    return (name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")).lower()


def fork(self: context.Context) -> context.Context:
    """In place of `Context.fork`, which makes a server first that it throws away."""
    forked = context.Context.__new__(context.Context)
    forked.client, forked.server, forked.options = self.client, self.server, self.options
    forked.layers = self.layers.copy()
    return forked


def plain_new[T](cls: type[T], *_: object, **__: object) -> T:
    """In place of what looks whether a class may have instances."""
    return object.__new__(cls)


def same(self: Connection, other: object) -> bool:
    """In place of `Connection.__eq__`."""
    return self is other or (isinstance(other, connection.Connection) and self.id == other.id)


def handle_event(self: layer.Layer, event: events.Event) -> CommandGenerator[None]:
    """In place of `Layer.handle_event`, which asks at each command whether it is to be logged."""
    paused = self._paused
    if paused is not None:
        if isinstance(event, events.CommandCompleted) and event.command is paused.command:
            yield from self._Layer__continue(event)  # type: ignore[attr-defined]
        else:
            self._paused_event_queue.append(event)
        return
    asked = self._handle_event(event)
    for command in asked:
        if command.blocking is True:
            # The layers above are told in this way that it is this one that waits.
            command.blocking = self
            self._paused = layer.Paused(command, asked)
            yield command
            return
        yield command


def event_to_child(self: tunnel.TunnelLayer, event: events.Event) -> CommandGenerator[None]:
    """In place of `TunnelLayer.event_to_child`, which asks a generator about each command that only passes."""
    if self.tunnel_state is tunnel.TunnelState.ESTABLISHING and not self.command_to_reply_to:
        self._event_queue.append(event)
        return
    for command in self.child_layer.handle_event(event):
        if isinstance(command, commands.ConnectionCommand) and command.connection == self.conn:
            yield from self._handle_command(command)
        else:
            yield command


def new_id() -> str:
    """In place of `uuid.uuid4`."""
    return f"egress-{next(_numbers)}"


# A namespace each, in place of the module `uuid` where mitmproxy looks for it.
_IDS = SimpleNamespace(uuid4=new_id)

REPLACEMENTS: tuple[tuple[object, str, Callable[..., object] | object], ...] = (
    (http.MessageData, "__post_init__", unchecked),
    (http.Headers, "__init__", new_headers),
    (http.Headers, "get_all", all_values),
    (http.Headers, "get", get_value),
    (http.Headers, "__contains__", has_value),
    (context.Context, "fork", fork),
    (commands.StartHook, "__new__", plain_new),
    (events.CommandCompleted, "__new__", plain_new),
    (connection.Connection, "__eq__", same),
    (layer.Layer, "handle_event", handle_event),
    (tunnel.TunnelLayer, "event_to_child", event_to_child),
    (connection, "uuid", _IDS),
    (flow, "uuid", _IDS),
)
