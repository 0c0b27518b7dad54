"""Files for clients that read no variable for proxy or roots: Java's trust store, and configurations that name both.

They lie in one folder, flat, beside the bundle and the CA where these are to travel with them: into a container, or
to another user. `seen_at` is the folder's path as the clients have it, since the files name each other by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from egress.certs import BUNDLE_NAME, DEFAULT_PASSWORD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import PurePath

CA_NAME: Final = "ca.pem"
JAVA_NAME: Final = "java-trust.p12"
APT_NAME: Final = "apt.conf"
WGET_NAME: Final = "wgetrc"
PHP_NAME: Final = "egress.ini"
# What the syntax of these files, or of PHP_INI_SCAN_DIR, gives a meaning to and cannot escape in the same way.
_UNFIT: Final = ('"', "\\", ":", "${", "\n", "\r", "#", ";")


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """Paths as the clients have them. `java` None: Java is told nothing."""

    apt: PurePath
    wget: PurePath
    php: PurePath
    java: PurePath | None
    java_password: str = DEFAULT_PASSWORD

    @classmethod
    def at(cls, seen_at: PurePath, *, java: bool = True) -> Self:
        """Those in the folder `seen_at`. Raises `ValueError` for a folder that the files cannot name."""
        check_path(seen_at)
        store = seen_at / JAVA_NAME if java else None
        return cls(seen_at / APT_NAME, seen_at / WGET_NAME, seen_at / PHP_NAME, store)


def check_path(path: PurePath) -> None:
    """Raise `ValueError` for a path that the files cannot name."""
    if any(unfit in str(path) for unfit in _UNFIT) or not str(path).isprintable():
        raise ValueError(
            f"`{path!s}` holds a character that the files for apt, wget and PHP cannot: name another folder"
        )


def configurations(proxy_url: str | None, bundle: PurePath, no_proxy: Sequence[str] = ()) -> Mapping[str, bytes]:
    """The configurations by name. `bundle` is its path as the clients have it. Raises `ValueError` as `check_path`.

    `proxy_url` None: the clients know of no proxy, and are led to it.
    """
    check_path(bundle)
    apt, wget = ("", "use_proxy = off\n") if proxy_url is None else _through(proxy_url, no_proxy)
    apt += f'Acquire::https::CaInfo "{bundle}";\n'
    wget += f"ca_certificate = {bundle}\n"
    php = f'curl.cainfo = "{bundle}"\nopenssl.cafile = "{bundle}"\n'
    return {APT_NAME: apt.encode(), WGET_NAME: wget.encode(), PHP_NAME: php.encode()}


def _through(proxy_url: str, no_proxy: Sequence[str]) -> tuple[str, str]:
    """What apt and wget are told of the proxy."""
    # An IPv6 address has apt's own separator in it: there is no way to except one.
    excepted = [host for host in no_proxy if ":" not in host]
    direct = "".join(
        f'Acquire::{scheme}::Proxy::{host} "DIRECT";\n' for host in excepted for scheme in ("http", "https")
    )
    wget = (
        f"use_proxy = on\nhttp_proxy = {proxy_url}\nhttps_proxy = {proxy_url}\nftp_proxy = {proxy_url}\n"
        f"no_proxy = {','.join(no_proxy)}\n"
    )
    return f'Acquire::http::Proxy "{proxy_url}";\nAcquire::https::Proxy "{proxy_url}";\n{direct}', wget


def trust(bundle: bytes, ca: bytes) -> Mapping[str, bytes]:
    """The bundle and the CA by the names that they have in the folder."""
    return {BUNDLE_NAME: bundle, CA_NAME: ca}
