"""What `egress exec` is asked for, and what it does confined or not: the proxy and its folder."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from egress.config import DenyPage, load_policies
from egress.confine.exec_folder import make_run_folder
from egress.confine.exec_proxy import LOG_NAME, Given, Proxy

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from egress.config import LoadedPolicy, ServerConfig

# What is under way when the command has ended was its, and nobody takes it any more.
_DRAIN_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for.

    `config` has one sandbox, the command's; where it listens does not count. `loaded` is its policy. `given`: variables
    for the command beside those of the proxy. `user`: None where none was named. `allowed`: sockets of other programs
    that it may use; `kept`: what it needs of folders that are emptied. `warn` tells people.
    """

    argv: tuple[str, ...]
    config: ServerConfig
    loaded: LoadedPolicy
    env: Mapping[str, str] = field(repr=False)
    given: Mapping[str, str] = field(repr=False)
    set_up_logging: Callable[[], None]
    warn: Callable[[str], None]
    user: str | None = None
    allowed: tuple[Path, ...] = ()
    kept: tuple[Path, ...] = ()


def load(config: ServerConfig) -> LoadedPolicy:
    """The policy as the proxy will load it, for the files that it is made of. Raises ConfigError."""
    own = config.sandboxes[0].policies
    groups = list(dict.fromkeys([config.policies, (*config.policies, *own)]))
    return load_policies(groups, secrets=config.secrets, presets=config.presets)[-1]


@contextmanager
def run_folder(config: ServerConfig) -> Iterator[ServerConfig]:
    """The configuration with a folder for this start, which goes at the end."""
    folder = make_run_folder(config.state_dir.absolute())
    try:
        yield _for_one_start(config, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _for_one_start(config: ServerConfig, folder: Path) -> ServerConfig:
    limits = replace(config.limits, drain_seconds=min(config.limits.drain_seconds, _DRAIN_SECONDS))
    # Where clients show it: most show nothing of a refused CONNECT.
    page = config.deny_page or DenyPage.INSIDE_TLS
    return replace(config, run_dir=folder, limits=limits, last_known_good=False, deny_page=page)


@contextmanager
def running_proxy(
    order: Order,
    config: ServerConfig,
    opened: Mapping[tuple[str, int], socket.socket],
    leave: Callable[[], None],
) -> Iterator[Proxy]:
    """The proxy, while the block lasts. `leave` closes, in its process, what is not its. Raises EgressError."""
    proxy = Proxy(Given(config, opened, leave, order.set_up_logging), config.own_dir / LOG_NAME)
    try:
        _tell(order, proxy)
        yield proxy
    finally:
        if not proxy.end():
            order.warn("the proxy ended before the command, which had no way out from then on")
        _tell(order, proxy)


def _tell(order: Order, proxy: Proxy) -> None:
    for line in proxy.logged().splitlines():
        order.warn(line)
