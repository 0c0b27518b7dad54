"""`egress exec`: run one command whose only way out is the proxy."""

from __future__ import annotations

import os
import secrets
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from egress.cli.options import AuditFile, CaDir, ConfigFile, Policies, Presets, Resolve, SecretsKeyFile, StateDir

if TYPE_CHECKING:
    from egress.config import SandboxDefinition, ServerConfig

DEFAULT_POLICY = "coding-agent"

Command = Annotated[
    list[str], typer.Argument(metavar="COMMAND [ARGS]...", help="What to run, after `--`.", show_default=False)
]
User = Annotated[
    str | None,
    typer.Option("--user", metavar="USER", help="As root: whom to run it as. Default: who called sudo, else nobody."),
]
AllowSocket = Annotated[
    list[Path] | None,
    typer.Option(
        "--allow-socket", metavar="PATH", help="A unix socket that it may use, as $SSH_AUTH_SOCK. Repeatable."
    ),
]
Keep = Annotated[
    list[Path] | None,
    typer.Option("--keep", metavar="PATH", help="What it needs of /tmp, /var/tmp or /run, else empty. Repeatable."),
]
SandboxName = Annotated[
    str | None,
    typer.Option("--sandbox", metavar="NAME", help="Be this sandbox of --config. Default: one of its own, `exec-...`."),
]
Unconfined = Annotated[
    bool, typer.Option("--unconfined", help="Only set the environment, and say what is not enforced.")
]
UpstreamCa = Annotated[
    list[Path] | None,
    typer.Option("--upstream-ca", metavar="PEM", help="Roots to trust for upstreams too. May be repeated."),
]
Watch = Annotated[bool, typer.Option("--watch", help="Read the policy again when its files change.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Do not tell at the end what was denied.")]


def register(app: typer.Typer) -> None:
    """Add `exec` to `app`."""
    app.command("exec", context_settings={"allow_interspersed_args": False})(exec_)


def exec_(
    command: Command,
    *,
    policy: Policies = None,
    presets: Presets = None,
    config: ConfigFile = None,
    sandbox: SandboxName = None,
    user: User = None,
    allow_socket: AllowSocket = None,
    keep: Keep = None,
    unconfined: Unconfined = False,
    quiet: Quiet = False,
    watch: Watch = False,
    state_dir: StateDir = None,
    audit: AuditFile = None,
    ca_dir: CaDir = None,
    secrets_key_file: SecretsKeyFile = None,
    upstream_ca: UpstreamCa = None,
    resolve: Resolve = None,
) -> None:
    """Run one command whose only way out is the proxy, which starts and ends with it.

    \b
    Examples:
      egress exec -- pip download six
      egress exec --policy coding-agent -- claude
      egress exec --policy ~/policies/agent.yaml -- bash
      sudo egress exec --user agent -- make test

    The command has its own network, processes, /tmp and /run. It sees neither the state folder nor files of secrets,
    and no socket of another program. Its exit status is passed on; 128 and the number if a signal ended it.
    """  # noqa: D301 - typer's marker for a verbatim paragraph
    from egress.cli.run import set_up_logging  # noqa: PLC0415 - what a command needs is loaded by the command
    from egress.config import ServerOverrides, load_server_config  # noqa: PLC0415

    set_up_logging(verbose=False)
    overrides = ServerOverrides(
        watch=watch,
        state_dir=state_dir,
        audit=audit,
        ca_dir=ca_dir,
        upstream_ca=tuple(upstream_ca or ()),
        resolve=tuple(resolve or ()),
        policies=tuple(policy or ()) or (() if config else (DEFAULT_POLICY,)),
        presets=tuple(presets or ()),
        secrets_key_file=secrets_key_file,
    )
    loaded = load_server_config(config, overrides, os.environ)
    if not loaded.policies:
        loaded = load_server_config(config, replace(overrides, policies=(DEFAULT_POLICY,)), os.environ)
    server = _placed(loaded, _definition(loaded, sandbox))
    began = time.time()
    status = _run(server, command, user, (allow_socket, keep), unconfined=unconfined)
    if not quiet:
        from egress.cli.exec_told import told  # noqa: PLC0415

        for line in told(server, began):
            typer.echo(line, err=True)
    sys.exit(status)


def _run(
    server: ServerConfig,
    command: list[str],
    user: str | None,
    paths: tuple[list[Path] | None, list[Path] | None],
    *,
    unconfined: bool,
) -> int:
    from egress.cli.identity_variables import identity_variables  # noqa: PLC0415
    from egress.cli.placeholder_variables import placeholder_variables  # noqa: PLC0415
    from egress.cli.run import set_up_logging  # noqa: PLC0415
    from egress.confine.exec import run_confined  # noqa: PLC0415
    from egress.confine.exec_order import Order, load  # noqa: PLC0415
    from egress.confine.exec_unconfined import run_unconfined  # noqa: PLC0415

    loaded = load(server)
    order = Order(
        argv=tuple(command),
        config=server,
        loaded=loaded,
        env=dict(os.environ),
        given={**placeholder_variables(server, loaded.secrets), **identity_variables(server)},
        set_up_logging=lambda: set_up_logging(verbose=False),
        warn=_warn,
        user=user,
        allowed=tuple(path.absolute() for path in paths[0] or ()),
        kept=tuple(path.absolute() for path in paths[1] or ()),
    )
    # What waits here must not be written again by a process that is forked.
    sys.stdout.flush()
    return run_unconfined(order) if unconfined else run_confined(order)


def _definition(server: ServerConfig, name: str | None) -> SandboxDefinition:
    """The command's sandbox: one of the configuration, or one with a name of its own."""
    from egress.config import SandboxDefinition  # noqa: PLC0415
    from egress.policy import Sandbox  # noqa: PLC0415

    if name is None:
        if server.sandboxes:
            raise typer.BadParameter(
                "the configuration tells sandboxes apart: say which this is", param_hint="--sandbox"
            )
        return SandboxDefinition(Sandbox(f"exec-{secrets.token_hex(4)}"))
    for own in server.sandboxes:
        if own.name == name:
            return own
    raise typer.BadParameter(f"`{name}` is no sandbox of the configuration", param_hint="--sandbox")


def _placed(server: ServerConfig, own: SandboxDefinition) -> ServerConfig:
    """With this sandbox alone, told by nothing but being the only client, and with absolute paths."""
    only = replace(own, sources=(), listener=None, token=None, uids=(), registered=False)
    audit = replace(server.audit, path=server.audit.path.absolute())
    state, authority = server.state_dir.absolute(), server.ca_dir.absolute()
    return replace(server, sandboxes=(only,), audit=audit, state_dir=state, ca_dir=authority)


def _warn(line: str) -> None:
    typer.echo(f"egress: {line}", err=True)
