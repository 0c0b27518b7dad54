"""One command whose only way out is the proxy: the steps of `egress exec`, from its order to its exit status.

1. inside    a process makes the namespaces, and in them the sockets that the proxy is to listen on (exec_namespaces)
2. proxy     starts with those sockets (exec_proxy); nothing of the command runs before it stands
3. view      what the command may see is worked out, and carried out inside (exec_view, exec_mounts, exec_init)
4. waiting   until the command ends (exec_wait); then the proxy records what it has and ends, and its folder goes

Whatever fails, the command does not start, or ends: it is killed with this process, and the proxy ends with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from egress.confine import exec_namespaces
from egress.confine.exec_channel import Channel, Word
from egress.confine.exec_environment import confined_environment, scrubbed, secret_variables
from egress.confine.exec_order import run_folder, running_proxy
from egress.confine.exec_plan import BUNDLE, CA, PROXY_ADDRESS, PROXY_URL, TRUST_FOLDER, ConfineError, Plan
from egress.confine.exec_readable import identities
from egress.confine.exec_terminal import size_of_terminal
from egress.confine.exec_trust import LOCAL, client_contents
from egress.confine.exec_user import user_for
from egress.confine.exec_view import view_of
from egress.confine.exec_wait import Signals, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from egress.config import ServerConfig
    from egress.confine.exec_order import Order
    from egress.confine.exec_plan import User
    from egress.confine.exec_proxy import Proxy


def run_confined(order: Order) -> int:
    """Run it; the exit status, as a shell has it. Raises EgressError if it cannot be started."""
    user = user_for(order.user, order.env, privileged=exec_namespaces.privileged())
    if user.change and order.user is None:
        order.warn(f"the command runs as `{user.name}`, who is not root; `--user NAME` names another user")
    config = replace(order.config, listen=PROXY_ADDRESS, also_listen=())
    addresses = [PROXY_ADDRESS, *([] if config.identity is None else [config.identity.listen])]
    with run_folder(config) as config, Signals() as signals, _inside(addresses, signals.leave) as inside:
        opened = dict(zip(addresses, _listening(inside), strict=True))

        def leave() -> None:
            # The inside ends when this end of the channel is closed everywhere.
            inside.close()
            signals.leave()

        with running_proxy(order, config, opened, leave) as proxy:
            for sock in opened.values():
                sock.close()
            plan = _plan(order, config, user, proxy)
            before = identities(plan.view.loose)
            inside.send(Word.GO, plan)
            if plan.terminal is None:
                _leave_streams()
            try:
                return Waiting(inside, signals).wait()
            finally:
                _tell_replaced(order, before)


@contextlib.contextmanager
def _inside(addresses: list[tuple[str, int]], leave: Callable[[], None]) -> Iterator[Channel]:
    """The channel to the inside, all of which is gone after the block."""
    pid, channel = exec_namespaces.start(addresses, leave)
    try:
        yield channel
    finally:
        channel.close()
        # With it, the one with number 1 inside is killed, and with that all others.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _listening(inside: Channel) -> list[socket.socket]:
    said = inside.receive()
    if said is None:
        raise ConfineError("the process that confines ended as it started")
    word, value, descriptors = said
    if word is not Word.LISTENING:
        raise ConfineError(value[0], hint=value[1])
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]


def _tell_replaced(order: Order, before: Mapping[Path, tuple[int, int] | None]) -> None:
    now = identities(before)
    for path in before:
        if now[path] != before[path]:
            order.warn(f"`{path}` was replaced while the command ran, which could write it since: look at it again")


def _leave_streams() -> None:
    """The command has them: whoever reads its output sees the end of it when the command closes it."""
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in (0, 1):
        os.dup2(nothing, descriptor)
    os.close(nothing)


def _plan(order: Order, config: ServerConfig, user: User, proxy: Proxy) -> Plan:
    loaded = order.loaded
    view = view_of(config, loaded, user, order.allowed, order.kept)
    secret = secret_variables(config, loaded.secrets, order.env)
    env = confined_environment(scrubbed(order.env, secret, order.allowed), user, order.given)
    contents = client_contents(config, PROXY_URL, Path(BUNDLE), LOCAL)
    trust = {
        **{f"{TRUST_FOLDER}/{name}": data for name, data in contents.items()},
        BUNDLE: proxy.started["bundle"].read_bytes(),
        CA: proxy.started["ca"].read_bytes(),
    }
    return Plan(order.argv, env, user, view, trust, size_of_terminal())
