"""Options that several commands have: one spelling, one help text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from egress.policy import Sandbox as SandboxOfRules

AuditFile = Annotated[
    Path | None,
    typer.Option("--audit", metavar="FILE", help="The audit database. Default: audit.db in the state folder."),
]
CaDir = Annotated[
    Path | None,
    typer.Option("--ca-dir", metavar="DIR", help="The folder of the CA. Default: `ca` in the state folder."),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The server's configuration; flags win over it."),
]
OutputFormat = Annotated[Literal["text", "json"], typer.Option("--format", help="Text for people, or one JSON object.")]
Policies = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        metavar="[SCOPE=]NAME|FILE",
        help="A shipped policy by name, or a policy file. May be repeated.",
        show_default=False,
    ),
]
Presets = Annotated[
    list[Path] | None,
    typer.Option(
        "--presets",
        metavar="DIR",
        help="A folder of your own presets, for `include`. May be repeated.",
        show_default=False,
    ),
]
Resolve = Annotated[
    list[str] | None,
    typer.Option(
        "--resolve",
        metavar="NAME:IP",
        help="Answer NAME with IP in place of DNS. May be repeated. No permission: the address is judged.",
        show_default=False,
    ),
]
Sandbox = Annotated[str | None, typer.Option("--sandbox", metavar="NAME", help="The sandbox that asks.")]
SandboxLabels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="KEY=VALUE", help="A label of the sandbox. May be repeated.", show_default=False),
]
SecretsKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--secrets-key-file",
        metavar="FILE",
        help="The key of the secret store. Default: as configured, else secrets.key in the user's configuration.",
    ),
]
StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        metavar="DIR",
        help="The state folder. Default: $EGRESS_STATE_DIR, else the user's; as root /var/lib/egress.",
    ),
]


def state_folder(given: Path | None) -> Path:
    """The state folder that `--state-dir`, the environment or the default names."""
    if given is not None:
        return given
    if named := os.environ.get("EGRESS_STATE_DIR"):
        return Path(named)
    from egress.config import default_state_dir  # noqa: PLC0415 -- loads pydantic; not needed when the folder is named

    return default_state_dir(os.environ)


def object_of(given: list[str] | None) -> dict[str, str]:
    """Labels as they are written: `team=data`."""
    found: dict[str, str] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"`{text}` is no label: write `team=data`", param_hint="--label")
        found[key] = value
    return found


def sandbox_named(name: str | None, labels: list[str] | None) -> SandboxOfRules:
    """The sandbox that `--sandbox` and `--label` name; left out, the one that all clients are."""
    from egress.config import label_problem  # noqa: PLC0415 -- loads pydantic
    from egress.policy import DEFAULT_SANDBOX, Sandbox, is_sandbox_word  # noqa: PLC0415

    if name is not None and not is_sandbox_word(name):
        raise typer.BadParameter(f"`{name}` is not a name for a sandbox", param_hint="--sandbox")
    pairs = object_of(labels)
    for problem in filter(None, (label_problem(key, value) for key, value in pairs.items())):
        raise typer.BadParameter(problem, param_hint="--label")
    return Sandbox(name or DEFAULT_SANDBOX.name, tuple(pairs.items()))


def audit_database(audit_file: Path | None, state_dir: Path | None) -> Path:
    """The database that `--audit`, `--state-dir`, the environment or the default names."""
    if audit_file is not None:
        return audit_file
    if state_dir is not None:
        return state_dir / "audit.db"
    if given := os.environ.get("EGRESS_STATE_DIR"):
        return Path(given) / "audit.db"
    from egress.config import default_state_dir  # noqa: PLC0415 -- loads pydantic; not needed when the folder is named

    return default_state_dir(os.environ) / "audit.db"
