"""Where the files lie that the variables of `egress env` name, and what is in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import typer

from egress.certs import BUNDLE_NAME, DEFAULT_PASSWORD, Authority, bundle_pem, full_store, write_file
from egress.confine.client_files import CA_NAME, JAVA_NAME, ClientFiles, configurations, trust
from egress.confine.environment import child_environment, redirected_environment
from egress.confine.formats import Shell
from egress.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from egress.config import ServerConfig

# Default folders below the state folder: for clients on this machine, and for those in a container.
_HERE = "clients"
_CONTAINER = "container"


@dataclass(frozen=True, slots=True)
class Road:
    """How clients reach the proxy. `url` None: they are redirected. `socks`: by SOCKS where they can."""

    url: str | None
    no_proxy: Sequence[str] = ()
    socks: bool = False

    @property
    def socks_url(self) -> str | None:
        """The proxy as a SOCKS proxy that resolves names; None: not asked for."""
        return self.url.replace("http://", "socks5h://", 1) if self.socks and self.url is not None else None

    def variables(self, bundle: PurePath, ca: PurePath, files: ClientFiles | None = None) -> Mapping[str, str]:
        """What clients of this road have to have set."""
        if self.url is None:
            return redirected_environment(bundle, ca, files)
        return child_environment(self.url, bundle, ca, no_proxy=self.no_proxy, files=files, socks_url=self.socks_url)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where files are to be; None: in the state folder. `at`: the folder as a container sees it."""

    folder: Path | None
    bundle: Path | None
    at: PurePath
    java: bool


@dataclass(frozen=True, slots=True)
class Written:
    """The variables; the folder on this machine, and the contents of what a container needs, by name."""

    variables: Mapping[str, str]
    folder: Path
    contents: Mapping[str, bytes]


def write_here(server: ServerConfig, road: Road, wanted: Wanted) -> Mapping[str, str]:
    """Write the files for clients of this machine; the variables that name them. Raises `StateError`."""
    authority = Authority.load(server.ca_dir.absolute())
    folder = (wanted.folder or server.state_dir / _HERE).absolute()
    beside = server.state_dir if wanted.folder is None else folder
    bundle = (wanted.bundle or beside / BUNDLE_NAME).absolute()
    ca = authority.certificate_path if wanted.folder is None else folder / CA_NAME
    if wanted.folder is not None:
        _open_folder(folder)
        write_file(ca, authority.certificate_pem)
    write_file(bundle, bundle_pem(authority.trusted_pem, server.upstream.ca))
    try:
        files = ClientFiles.at(folder, java=wanted.java)
        contents = configurations(road.url, bundle, road.no_proxy)
    except ValueError as error:
        if wanted.folder is not None:
            raise StateError(str(error), hint="with --files") from error
        typer.echo(f"egress: no variables for Java, apt, wget and PHP: {error}, with --files", err=True)
        return road.variables(bundle, ca)
    _write(folder, contents, _java(authority, server, java=wanted.java))
    return road.variables(bundle, ca, files)


def write_container(server: ServerConfig, road: Road, wanted: Wanted, shell: Shell) -> Written:
    """The variables for a container that sees the files at `wanted.at`; written to a folder that docker can mount.

    For Kubernetes nothing is written: its ConfigMap has the contents. Raises `StateError`.
    """
    authority = Authority.load(server.ca_dir.absolute())
    folder = (wanted.folder or server.state_dir / _CONTAINER).absolute()
    bundle, ca = wanted.at / BUNDLE_NAME, wanted.at / CA_NAME
    try:
        files = ClientFiles.at(wanted.at, java=wanted.java)
        contents = dict(configurations(road.url, bundle, road.no_proxy))
    except ValueError as error:
        raise StateError(str(error), hint="with --at") from error
    contents |= trust(bundle_pem(authority.trusted_pem, server.upstream.ca), authority.certificate_pem)
    contents |= _java(authority, server, java=wanted.java)
    if shell is Shell.DOCKER:
        _write(folder, contents, {})
    return Written(road.variables(bundle, ca, files), folder, contents)


def _java(authority: Authority, server: ServerConfig, *, java: bool) -> Mapping[str, bytes]:
    return {JAVA_NAME: full_store(authority.trusted_pem, DEFAULT_PASSWORD, server.upstream.ca)} if java else {}


def _open_folder(folder: Path) -> None:
    """Make the folder if it is not there, readable for clients of other users whatever the umask."""
    if folder.exists():
        return
    try:
        folder.mkdir(parents=True)
        folder.chmod(0o755)
    except OSError as error:
        raise StateError(f"cannot make `{folder}`: {error.strerror}", hint="name another with --files") from error


def _write(folder: Path, *contents: Mapping[str, bytes]) -> None:
    _open_folder(folder)
    for part in contents:
        for name, data in part.items():
            write_file(folder / name, data)
