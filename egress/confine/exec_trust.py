"""What the clients of a command started by `egress exec` read: roots as PEM and for Java, files for apt, wget and PHP.

The same files as `egress env` writes, so that a client that works with one works with the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from egress.certs import DEFAULT_PASSWORD, Authority, full_store
from egress.confine.client_files import JAVA_NAME, configurations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import PurePath

    from egress.config import ServerConfig

# A way around the proxy is not opened by these: in the command's network they lead to its own programs alone.
LOCAL: Final = ("localhost", "127.0.0.1", "::1")


def client_contents(
    config: ServerConfig, proxy_url: str, bundle: PurePath, no_proxy: Sequence[str] = ()
) -> Mapping[str, bytes]:
    """Java's store and the configurations, by name. `bundle`: its path as the command has it.

    Raises `StateError`, and `ValueError` for a path that the files cannot name.
    """
    files = configurations(proxy_url, bundle, no_proxy)
    roots = Authority.load(config.ca_dir).trusted_pem
    return {**files, JAVA_NAME: full_store(roots, DEFAULT_PASSWORD, config.upstream.ca)}
