"""`egress secret`: keep credentials in the encrypted store, and say where they may go. Values are never shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from egress.cli.options import ConfigFile, Policies, SecretsKeyFile, StateDir
from egress.cli.safe_text import safe
from egress.cli.secret_places import Places, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.config import Binding
    from egress.credentials.stored_secret import Listed

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Its name: letters, digits, `_` and `-`.", show_default=False)
]
Hosts = Annotated[
    list[str] | None,
    typer.Option("--host", metavar="HOST", help="A host that it may be sent to. May be repeated.", show_default=False),
]
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", metavar="METHOD", help="Only with this method. May be repeated.", show_default=False),
]
Paths = Annotated[
    list[str] | None,
    typer.Option("--path", metavar="PATTERN", help="Only to such paths. May be repeated.", show_default=False),
]
FromFile = Annotated[
    Path | None,
    typer.Option("--from-file", metavar="FILE", help="Read the value from a file, in place of asking for it."),
]
NewKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--new-key-file", metavar="FILE", help="Take the key in FILE, made if missing. Default: a new one in place."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]

secret_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="""Keep credentials encrypted, each bound to the hosts that it may be sent to.

    \b
    Examples:
      egress secret set github --host api.github.com
      egress secret list
      egress secret rm github
    """,
)


def register(app: typer.Typer) -> None:
    """Add the `secret` commands to `app`."""
    app.add_typer(secret_app, name="secret")


# More arguments are taken so that the value of who writes it there is not quoted in an error.
@secret_app.command("set", context_settings={"allow_extra_args": True})
def set_secret(
    context: typer.Context,
    name: Name,
    *,
    host: Hosts = None,
    method: Methods = None,
    path: Paths = None,
    from_file: FromFile = None,
    state_dir: StateDir = None,
    secrets_key_file: SecretsKeyFile = None,
    config: ConfigFile = None,
) -> None:
    """Keep a secret, or give the one of this name a new value. It is asked for, or read from standard input.

    \b
    Examples:
      egress secret set github --host api.github.com --host github.com
      pass show openai | egress secret set openai --host api.openai.com --method POST --path '/v1/**'
      egress secret set app-key --host api.github.com --from-file app.pem

    A new value keeps the hosts, methods and paths that there are, unless hosts are named: then those named hold.
    """  # noqa: D301 -- \b is click's mark for lines that must not be joined
    from egress.cli.secret_value import read_value, refuse_on_command_line  # noqa: PLC0415

    if context.args:
        refuse_on_command_line()
    _check_name(name)
    binding = _binding(host, method, path)
    with opened(Places(state_dir, secrets_key_file, config), create=True) as (store, _):
        before = next((known for known in store.list() if known.name == name), None)
        if before is None and binding is None:
            raise typer.BadParameter("a new secret needs the host that it may be sent to", param_hint="--host")
        value = read_value(name, from_file)
        after = store.put(name, value, binding)
    for line in _told(before, after):
        typer.echo(safe(line))


@secret_app.command("list")
def list_secrets(
    *,
    state_dir: StateDir = None,
    secrets_key_file: SecretsKeyFile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List the secrets: version, what they are bound to, the age of the value, last use. Never a value.

    \b
    Examples:
      egress secret list
      egress secret list --json
    """  # noqa: D301 -- \b is click's mark for lines that must not be joined
    from egress.cli.secret_table import json_text, table  # noqa: PLC0415

    places = Places(state_dir, secrets_key_file, config)
    with opened(places, create=False) as (store, _):
        secrets = store.list()
    if as_json:
        typer.echo(json_text(secrets))
        return
    for line in table(secrets):
        typer.echo(safe(line))


@secret_app.command("rm")
def remove(
    name: Name,
    *,
    yes: Yes = False,
    state_dir: StateDir = None,
    secrets_key_file: SecretsKeyFile = None,
    config: ConfigFile = None,
) -> None:
    """Remove a secret. Requests that need it are refused from then on.

    \b
    Examples:
      egress secret rm github
      egress secret rm github --yes
    """  # noqa: D301 -- \b is click's mark for lines that must not be joined
    _check_name(name)
    with opened(Places(state_dir, secrets_key_file, config), create=False) as (store, _):
        if not yes:
            if not sys.stdin.isatty():
                typer.echo("egress: not removed: there is no terminal to ask on, add `--yes`", err=True)
                raise typer.Exit(1)
            typer.confirm(f"Remove the secret {name}?", abort=True)
        store.remove(name)
    typer.echo(f"removed {name}")


@secret_app.command("rekey")
def rekey(
    *,
    new_key_file: NewKeyFile = None,
    state_dir: StateDir = None,
    secrets_key_file: SecretsKeyFile = None,
    config: ConfigFile = None,
) -> None:
    """Encrypt all secrets under a new key. Until it is done, the old key opens them; from then on, the new one.

    \b
    Examples:
      egress secret rekey
      egress secret rekey --new-key-file /etc/egress/secrets-2.key
    """  # noqa: D301 -- \b is click's mark for lines that must not be joined
    from egress.cli.secret_key import replace_key  # noqa: PLC0415

    places = Places(state_dir, secrets_key_file, config)
    with opened(places, create=False) as (store, keys):
        for line in replace_key(store, keys, new_key_file, places.state_dir):
            typer.echo(safe(line))


@secret_app.command("placeholder")
def placeholder(
    name: Name,
    *,
    state_dir: StateDir = None,
    secrets_key_file: SecretsKeyFile = None,
    config: ConfigFile = None,
    policies: Policies = None,
) -> None:
    """Print the harmless string that a sandbox may hold in place of a secret.

    \b
    Examples:
      egress secret placeholder openai
      egress secret placeholder openai --policy policy.yaml

    It means something to the proxy where the secret's definition has `placeholder`, and a rule `swap`.
    """  # noqa: D301 -- \b is click's mark for lines that must not be joined
    from egress.config import SecretDefinition, StoreSource  # noqa: PLC0415
    from egress.credentials import placeholder_key, placeholder_of  # noqa: PLC0415

    _check_name(name)
    places = Places(state_dir, secrets_key_file, config, policies or ())
    definition = places.configured.get(name)
    if definition is None:
        with opened(places, create=False) as (store, _):
            definition = SecretDefinition(name, StoreSource(name), store.get(name).binding.hosts)
    typer.echo(placeholder_of(definition, placeholder_key(places.state_dir)))


def _check_name(name: str) -> None:
    from egress.config import SECRET_NAME  # noqa: PLC0415

    if not SECRET_NAME.match(name):
        # Not quoted: people put the value here.
        raise typer.BadParameter("write letters, digits, `_` and `-`, as in `github`", param_hint="NAME")


def _binding(hosts: list[str] | None, methods: list[str] | None, paths: list[str] | None) -> Binding | None:
    """What the options say; None if they say nothing. Raises ConfigError."""
    from egress.config import read_binding, wide_hosts  # noqa: PLC0415

    if not (hosts or methods or paths):
        return None
    binding = read_binding(hosts or (), methods or (), paths or ())
    for host in wide_hosts(binding):
        typer.echo(f"warning: {safe(host)} stands for more than one host: each of them gets the value", err=True)
    return binding


def _told(before: Listed | None, after: Listed) -> Iterator[str]:
    from egress.cli.secret_table import bound_to  # noqa: PLC0415

    if before is None:
        yield f"kept {after.name}; it may go to {bound_to(after.binding)}"
        yield f"a policy names it so: secrets: {{{after.name}: {{store: {after.name}}}}}"
    elif before.binding == after.binding:
        yield f"rotated {after.name} to version {after.version}; as before, it may go to {bound_to(after.binding)}"
    else:
        yield f"rotated {after.name} to version {after.version}; it may go to {bound_to(after.binding)}"
        yield f"before, it might go to {bound_to(before.binding)}"
