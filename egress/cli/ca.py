"""`egress ca`: where the proxy's CA is, and its certificate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from egress.cli.ca_make import init, rotate
from egress.cli.ca_write import bundle, install, p12
from egress.cli.options import CaDir, ConfigFile, StateDir

if TYPE_CHECKING:
    from egress.certs import Authority

Create = Annotated[bool, typer.Option("--create", help="Make the CA if there is none.")]


_HELP = """The CA that clients of the proxy trust.

\b
Examples:
  egress ca init --name-constraint corp.example
  egress ca print > egress-ca.pem
  egress ca bundle --output ca-bundle.pem
  egress ca rotate
"""


def register(app: typer.Typer) -> None:
    """Add the `ca` group to `app`."""
    group = typer.Typer(no_args_is_help=True, help=_HELP)
    group.command("init")(init)
    group.command("path")(path)
    group.command("print")(print_certificate)
    group.command("bundle")(bundle)
    group.command("p12")(p12)
    group.command("install")(install)
    group.command("rotate")(rotate)
    app.add_typer(group, name="ca")


def path(
    *, ca_dir: CaDir = None, state_dir: StateDir = None, config: ConfigFile = None, create: Create = False
) -> None:
    """Print the path of the CA's certificate.

    \b
    Examples:
      egress ca path
      curl --proxy http://127.0.0.1:3128 --cacert "$(egress ca path)" https://example.com/

    Without --create, a missing CA is an error: one made in a folder that the proxy does not use would be trusted by
    clients and signed by nobody.
    """  # noqa: D301  # click keeps the lines of a paragraph that begins with a backspace
    typer.echo(str(authority(ca_dir, state_dir, config, create=create).certificate_path))


def print_certificate(
    *, ca_dir: CaDir = None, state_dir: StateDir = None, config: ConfigFile = None, create: Create = False
) -> None:
    """Print the CA's certificate as PEM; the key never leaves its file.

    \b
    Examples:
      egress ca print > egress-ca.pem
      egress ca print | sudo tee /usr/local/share/ca-certificates/egress.crt && sudo update-ca-certificates
    """  # noqa: D301  # likewise
    typer.echo(authority(ca_dir, state_dir, config, create=create).certificate_pem.decode("ascii"), nl=False)


def authority(ca_dir: Path | None, state_dir: Path | None, config: Path | None, *, create: bool) -> Authority:
    """The CA that `egress run` with the same flags would use. Raises `StateError` if there is none to be had."""
    import os  # noqa: PLC0415  # what a command needs is loaded by the command, so that --help is fast

    from egress.certs import Authority  # noqa: PLC0415
    from egress.config import ServerOverrides, load_server_config  # noqa: PLC0415

    overrides = ServerOverrides(state_dir=state_dir, ca_dir=ca_dir)
    folder = load_server_config(config, overrides, os.environ).ca_dir.absolute()
    return Authority.load_or_create(folder) if create else Authority.load(folder)
