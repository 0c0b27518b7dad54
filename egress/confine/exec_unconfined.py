"""A command that is only told of the proxy, by its environment: for machines that cannot confine, and said aloud."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from egress.certs import write_file
from egress.confine.client_files import ClientFiles
from egress.confine.environment import child_environment
from egress.confine.exec_environment import secret_variables
from egress.confine.exec_order import run_folder, running_proxy
from egress.confine.exec_plan import ConfineError
from egress.confine.exec_trust import client_contents

if TYPE_CHECKING:
    from egress.config import ServerConfig
    from egress.confine.exec_order import Order
    from egress.confine.exec_proxy import Proxy

WARNING: Final = (
    "UNCONFINED: nothing keeps the command to the proxy. It can open connections of its own, read the state folder, "
    "the CA's key and every secret that its user can, write the policy, use other programs' sockets, and end the proxy"
)
# Those of a terminal reach the command from there.
_TERMINALS: Final = (signal.SIGINT, signal.SIGQUIT)
_PASSED: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_BY_SIGNAL: Final = 128


def run_unconfined(order: Order) -> int:
    """Run it; the exit status, as a shell has it. Raises EgressError if it cannot be started."""
    order.warn(WARNING)
    secret = secret_variables(order.config, order.loaded.secrets, order.env)
    # Its one sandbox is not told by a listener here: the port is not known before.
    own = replace(order.config.sandboxes[0], listener=None)
    config = replace(order.config, listen=("127.0.0.1", 0), also_listen=(), sandboxes=(own,))
    with run_folder(config) as config, running_proxy(order, config, {}, lambda: None) as proxy:
        env = {name: value for name, value in order.env.items() if name not in secret}
        return _wait(order, {**env, **order.given, **_proxy_variables(order, config, proxy)})


def _proxy_variables(order: Order, config: ServerConfig, proxy: Proxy) -> dict[str, str]:
    where = f"http://{proxy.started['listening'][0]}"
    bundle, authority = (Path(proxy.started[name]).absolute() for name in ("bundle", "ca"))
    folder = config.own_dir / "clients"
    files: ClientFiles | None = None
    try:
        contents = client_contents(config, where, bundle)
        files = ClientFiles.at(folder)
    except ValueError as error:
        order.warn(f"no variables for Java, apt, wget and PHP: {error}, with --state-dir")
    else:
        folder.mkdir()
        for name, data in contents.items():
            write_file(folder / name, data)
    return dict(child_environment(where, bundle, authority, files=files))


def _wait(order: Order, env: dict[str, str]) -> int:
    try:
        command = subprocess.Popen(order.argv, env=env)  # noqa: S603 - running it is what is asked
    except OSError as error:
        raise ConfineError(
            f"cannot run `{order.argv[0]}`: {error.strerror}", hint="name a program that is there"
        ) from error
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _TERMINALS}
    before |= {number: signal.signal(number, _passing(command)) for number in _PASSED}
    try:
        status = command.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status if status >= 0 else _BY_SIGNAL - status


def _passing(command: subprocess.Popen[bytes]):  # type: ignore[no-untyped-def]  # noqa: ANN202
    def passed(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(command.pid, number)

    return passed
