"""`egress ca init` and `egress ca rotate`: the CA made, and replaced."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from egress.cli.options import CaDir, ConfigFile, StateDir

if TYPE_CHECKING:
    from pathlib import Path

    from egress.certs import Authority, NameConstraints
    from egress.config import ServerConfig

Constraint = Annotated[
    list[str] | None,
    typer.Option(
        "--name-constraint",
        metavar="HOST",
        help="A name (it and what is below), an address or a network that the CA may sign for; others are denied "
        "where they would be inspected. May be repeated. Default: every one.",
        show_default=False,
    ),
]
Unconstrained = Annotated[bool, typer.Option("--unconstrained", help="Drop the name constraints of the old CA.")]
KeepDays = Annotated[
    int, typer.Option("--keep-days", min=0, help="How long the bundle holds the old CA besides the new one.")
]
Prepare = Annotated[
    bool,
    typer.Option("--prepare", help="Make the new CA and add it to the bundle; the next `rotate` signs with it."),
]
NoReload = Annotated[bool, typer.Option("--no-reload", help="Do not have a running proxy take it over.")]
# The proxy reads its policy files with it.
_SECONDS = 600.0


def init(
    *, name_constraint: Constraint = None, ca_dir: CaDir = None, state_dir: StateDir = None, config: ConfigFile = None
) -> None:
    """Make the CA, if there is none, and print the path of its certificate. `egress run` does so on first use.

    \b
    Examples:
      egress ca init
      egress ca init --name-constraint corp.example --name-constraint api.example.com

    A CA that is there already is left as it is; one with other name constraints than asked for is an error.
    """  # noqa: D301  # click keeps the lines of a paragraph that begins with a backspace
    from egress.certs import Authority, NameConstraints  # noqa: PLC0415
    from egress.errors import StateError  # noqa: PLC0415

    wanted = NameConstraints.parse(name_constraint or ())
    authority = Authority.load_or_create(_server(ca_dir, state_dir, config).ca_dir.absolute(), constraints=wanted)
    if wanted and authority.constraints != wanted:
        has = f"is constrained to {authority.constraints}" if authority.constraints else "is not constrained"
        raise StateError(
            f"there is a CA already, and it {has}",
            hint="`egress ca rotate --name-constraint HOST` replaces it; its clients then have to trust the new one",
        )
    typer.echo(str(authority.certificate_path))


def rotate(
    *,
    keep_days: KeepDays = 30,
    prepare: Prepare = False,
    name_constraint: Constraint = None,
    unconstrained: Unconstrained = False,
    no_reload: NoReload = False,
    ca_dir: CaDir = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Replace the CA: a new key and certificate. The old key is destroyed, the old certificate kept in the bundle.

    \b
    Examples:
      egress ca rotate --prepare          # clients learn to trust it first
      egress ca rotate                    # days later: the proxy signs with it
      egress ca rotate --keep-days 0      # the key was stolen

    A running proxy takes it over at once, as `egress reload` would. Clients that have the old certificate alone need
    the new one; those with the bundle need to read it again, which for most means to start again.
    """  # noqa: D301  # likewise
    from egress.certs import Authority, NameConstraints  # noqa: PLC0415

    if unconstrained and name_constraint:
        raise typer.BadParameter("drop the constraints, or name them", param_hint="--unconstrained")
    server = _server(ca_dir, state_dir, config)
    authority = Authority.load(server.ca_dir.absolute())
    constraints = NameConstraints.parse(name_constraint or ()) if unconstrained or name_constraint else None
    if prepare:
        _prepare(authority, constraints)
    else:
        _rotate(authority, keep_days, constraints)
    _hand_on(server, authority, reload=not no_reload)


def _prepare(authority: Authority, constraints: NameConstraints | None) -> None:
    authority.prepare(constraints)
    typer.echo("another CA is prepared, and trusted with the bundle from now on")
    typer.echo("give the bundle to your clients, then say `egress ca rotate`")


def _rotate(authority: Authority, keep_days: int, constraints: NameConstraints | None) -> None:
    authority.rotate(keep=timedelta(days=keep_days), constraints=constraints)
    until = authority.retired_until
    kept = "is trusted no more" if until is None else f"stays in the bundle until {until:%Y-%m-%d}"
    typer.echo(f"{authority.certificate_path} is another CA from now on; the old one {kept}, its key is gone")


def _hand_on(server: ServerConfig, authority: Authority, *, reload: bool) -> None:
    """Have the proxy take it over, which writes the bundle too; without a proxy, write the bundle here."""
    from egress.certs import BUNDLE_NAME, write_bundle  # noqa: PLC0415
    from egress.errors import StateError  # noqa: PLC0415
    from egress.server.control_client import ask  # noqa: PLC0415

    later = "a proxy that runs signs with the CA that it has until `egress reload` or its next start"
    told = "asked not to tell it"
    if reload:
        try:
            answer = ask(server.state_dir, {"command": "reload"}, seconds=_SECONDS)
        except StateError as error:
            told = error.message
        else:
            if answer.get("done"):
                typer.echo("the running proxy has taken it over")
                return
            problems = "; ".join(map(str, answer.get("problems") or [answer.get("error")]))
            raise StateError(f"the running proxy kept its CA: {problems}", hint="mend this, then `egress reload`")
    write_bundle(server.state_dir.absolute() / BUNDLE_NAME, authority.trusted_pem, server.upstream.ca)
    typer.echo(f"{told}: {later}", err=True)


def _server(ca_dir: Path | None, state_dir: Path | None, config: Path | None) -> ServerConfig:
    import os  # noqa: PLC0415  # what a command needs is loaded by the command, so that --help is fast

    from egress.config import ServerOverrides, load_server_config  # noqa: PLC0415

    return load_server_config(config, ServerOverrides(state_dir=state_dir, ca_dir=ca_dir), os.environ)
