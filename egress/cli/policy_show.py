"""`egress policy show`: the effective policy, each rule with where it comes from, in the order in which it is tried."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from egress.cli.options import ConfigFile, Policies, Presets, Sandbox, SandboxLabels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from egress.review.yaml_text import Plain

# As text, a longer list is cut; the other formats have all of it.
_LISTED = 20

ShowFormat = Annotated[
    Literal["text", "yaml", "json"],
    typer.Option("--format", help="`yaml` and `json` hold everything, whatever its size."),
]


def show(
    *,
    policy: Policies = None,
    presets: Presets = None,
    config: ConfigFile = None,
    sandbox: Sandbox = None,
    label: SandboxLabels = None,
    output_format: ShowFormat = "text",
) -> None:
    """Show the effective policy: every rule with its file, line and scope, in order; secrets by their names alone.

    \b
    Examples:
      egress policy show --policy coding-agent
      egress policy show --policy org=org.yaml --policy policy.yaml --format yaml
      egress policy show --policy tenants.yaml --sandbox ci-7 --label team=data

    With --sandbox the rules are those of one sandbox, its name and labels filled in.
    """  # noqa: D301  # click keeps the lines of a paragraph that begins with a backspace
    from egress.cli.loading import surroundings  # noqa: PLC0415  # loaded by the command, so that --help is fast
    from egress.config import printable  # noqa: PLC0415
    from egress.review import effective  # noqa: PLC0415

    around = surroundings(config, presets)
    values = effective(around.load_named(policy or (), sandbox=sandbox), around.who(sandbox, label))
    if output_format == "json":
        typer.echo(json.dumps(values))
    elif output_format == "yaml":
        from egress.review.yaml_text import text  # noqa: PLC0415

        typer.echo(text(cast("Mapping[str, Plain]", values)), nl=False)
    else:
        for line in _lines(values):
            typer.echo(printable(line))


def _lines(values: Mapping[str, object]) -> Iterator[str]:
    yield f"policy {values['digest']}"
    secrets = values["secrets"]
    if isinstance(secrets, list) and secrets:
        yield f"secrets: {', '.join(secrets)}"
    includes = values["includes"]
    for include in includes if isinstance(includes, list) else ():
        with_ = "; ".join(f"{key}: {_text(value)}" for key, value in include["parameters"].items())
        yield f"includes {include['preset']} ({include['by']})" + (f" with {with_}" if with_ else "")
    scopes = values["scopes"]
    for scope in scopes if isinstance(scopes, list) else ():
        said = ", ".join(f"{key} {_text(value)}" for key, value in scope.items() if key not in {"scope", "rules"})
        yield ""
        yield f"scope {scope['scope']}: {said or 'states nothing besides its rules'}"
        if not scope["rules"]:
            yield "  no rules"
        for number, rule in enumerate(scope["rules"], start=1):
            yield from _rule(number, rule)


def _rule(number: int, rule: Mapping[str, object]) -> Iterator[str]:
    place = rule["file"] if rule["line"] is None else f"{rule['file']}:{rule['line']}"
    name = f"{rule['name']} " if "name" in rule else ""
    yield f"  {number}. {name}({place})"
    rest = {key: value for key, value in rule.items() if key not in {"file", "line", "name"}}
    width = max(len(key) for key in rest)
    for key, value in rest.items():
        yield f"     {key:<{width}}  {_text(value)}"


def _text(value: object) -> str:
    match value:
        case dict():
            return ", ".join(f"{key}: {_text(item)}" for key, item in value.items())
        case list() if len(value) > _LISTED:
            return ", ".join(map(_text, value[:_LISTED])) + f" and {len(value) - _LISTED} more"
        case list():
            return ", ".join(map(_text, value)) or "(none)"
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)
