"""`egress env`: the lines that send a shell's clients through the proxy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from egress.cli.options import CaDir, ConfigFile, Policies, Presets, StateDir
from egress.confine.environment import Shell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from egress.config import ListenAddress, ServerConfig

Listen = Annotated[
    str | None,
    typer.Option("--listen", metavar="HOST:PORT", help="Where the proxy listens. Default: as configured."),
]
Bundle = Annotated[
    Path | None,
    typer.Option(
        "--bundle", metavar="FILE", help="Where to write the CA bundle. Default: `ca-bundle.pem` in the state folder."
    ),
]
UpstreamCa = Annotated[
    list[Path] | None,
    typer.Option("--upstream-ca", metavar="PEM", help="More roots for the bundle, for tunnels. May be repeated."),
]
NoProxy = Annotated[
    list[str] | None,
    typer.Option("--no-proxy", metavar="HOST", help="A host to reach directly. May be repeated. Default: none."),
]
ShellOption = Annotated[Shell, typer.Option("--shell", help="How to write the variables.")]
Unset = Annotated[bool, typer.Option("--unset", help="Print what removes the variables again.")]


def register(app: typer.Typer) -> None:
    """Add the `env` command to `app`."""
    app.command("env")(env)


def env(
    *,
    listen: Listen = None,
    shell: ShellOption = Shell.SH,
    unset: Unset = False,
    no_proxy: NoProxy = None,
    bundle: Bundle = None,
    upstream_ca: UpstreamCa = None,
    ca_dir: CaDir = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
    policy: Policies = None,
    presets: Presets = None,
) -> None:
    """Print the variables that make curl, pip, git, npm, node and others use the proxy and trust its CA.

    \b
    Examples:
      eval "$(egress env)"
      egress env --shell fish | source
      egress env --shell powershell | Out-String | Invoke-Expression
      eval "$(egress env --unset)"

    Writes the bundle that the variables name: the system's roots and the proxy's CA. Secrets of the policy that have a
    placeholder under a variable are exported as that placeholder; so is where cloud SDKs find the identity endpoints.
    """  # noqa: D301  # click keeps the lines of a paragraph that begins with a backspace
    import os  # noqa: PLC0415  # what a command needs is loaded by the command, so that --help is fast

    from egress.cli.identity_variables import identity_names, identity_variables  # noqa: PLC0415
    from egress.cli.placeholder_variables import placeholder_names, placeholder_variables  # noqa: PLC0415
    from egress.config import ServerOverrides, load_server_config  # noqa: PLC0415
    from egress.confine.environment import VARIABLES, set_text, unset_text  # noqa: PLC0415

    overrides = ServerOverrides(
        listen=listen,
        state_dir=state_dir,
        ca_dir=ca_dir,
        upstream_ca=tuple(upstream_ca or ()),
        policies=tuple(policy or ()),
        presets=tuple(presets or ()),
    )
    server = load_server_config(config, overrides, os.environ)
    if unset:
        typer.echo(unset_text((*VARIABLES, *placeholder_names(server), *identity_names(server)), shell), nl=False)
        return
    variables = _variables(server, bundle, no_proxy or [])
    placeholders = placeholder_variables(server)
    variables = {**placeholders, **identity_variables(server), **variables}
    try:
        text = set_text(variables, shell)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--shell") from error
    typer.echo(text, nl=False)
    if placeholders:
        names = ", ".join(placeholders)
        typer.echo(f"egress: placeholders, worth nothing beyond the proxy, are in {names}", err=True)


def _variables(server: ServerConfig, bundle: Path | None, no_proxy: list[str]) -> dict[str, str]:
    from egress.certs import BUNDLE_NAME, Authority, write_bundle  # noqa: PLC0415
    from egress.confine.environment import child_environment  # noqa: PLC0415

    proxy = _proxy(server.listens)
    authority = Authority.load(server.ca_dir.absolute())
    target = (server.state_dir / BUNDLE_NAME if bundle is None else bundle).absolute()
    write_bundle(target, authority.certificate_pem, server.upstream.ca)
    return dict(child_environment(proxy, target, authority.certificate_path, no_proxy=no_proxy))


def _proxy(listens: Sequence[ListenAddress]) -> str:
    """The URL of the first listener that clients can be sent to."""
    from egress.cli.banner import BRIDGE, bridge  # noqa: PLC0415
    from egress.config import UnixListener, told_listener  # noqa: PLC0415

    address = next((address for address in listens if not isinstance(address, UnixListener)), None)
    if address is None:
        message = (
            "the proxy listens on a unix socket alone, which no variable can name for curl, pip, git or npm; "
            f"bridge it, `{bridge(told_listener(listens[0]))}`, and say `egress env --listen {BRIDGE}`"
        )
        raise typer.BadParameter(message, param_hint="--listen")
    if not address[1]:
        raise typer.BadParameter("name the port that the proxy picked, as it says at its start", param_hint="--listen")
    return proxy_url(*address)


def proxy_url(host: str, port: int) -> str:
    """The URL by which a client on this machine reaches a proxy that listens at `host` and `port`."""
    # "All addresses" is no place to connect to.
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
