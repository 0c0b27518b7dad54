"""`egress audit summary`: the record in figures, as tables, as Markdown for a CI job's page, or as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from egress.cli.audit_filter import (
    FailOnDeny,
    FilterText,
    Host,
    Reason,
    Sandbox,
    Since,
    VerdictOption,
    is_refused,
    read_filter,
)
from egress.cli.options import AuditFile, Policies, Presets, StateDir, audit_database

if TYPE_CHECKING:
    from pathlib import Path

    from egress.audit.summary import Summary

Format = Annotated[
    Literal["table", "markdown", "json"], typer.Option("--format", help="Tables, Markdown, or one JSON object.")
]


def register(app: typer.Typer) -> None:
    """Add `summary` to the `audit` commands."""
    app.command("summary")(summary)


def summary(
    *,
    audit_file: AuditFile = None,
    state_dir: StateDir = None,
    output_format: Format = "table",
    fail_on_deny: FailOnDeny = False,
    policies: Policies = None,
    presets: Presets = None,
    filters: FilterText = None,
    verdict: VerdictOption = None,
    host: Host = None,
    sandbox: Sandbox = None,
    reason: Reason = None,
    since: Since = None,
) -> None:
    """Count what was allowed and refused, by host, rule, sandbox and secret.

    \b
    Examples:
      egress audit summary --since 1d
      egress audit summary --since 1h --format markdown >> "$GITHUB_STEP_SUMMARY"
      egress audit summary --since 1w --policy policy.yaml
      egress audit summary --filter 'sandbox:ci' --fail-on-deny

    With --policy, the rules of these files that never spoke are named; with --since, the hosts
    that nobody had asked for before.
    """  # noqa: D301 -- \b is click's mark for lines that must not be joined
    from egress.audit import AuditReader  # noqa: PLC0415 -- `egress --help` needs none of it

    wanted = read_filter(filters, verdict=verdict, host=host, sandbox=sandbox, reason=reason, since=since)
    with AuditReader(audit_database(audit_file, state_dir)) as reader:
        found = reader.summary(wanted)
        failed = fail_on_deny and is_refused(reader, wanted)
    unused = None if not policies else _unused(policies, presets, found)
    if output_format == "json":
        typer.echo(json.dumps(_plain(found, unused)))
    else:
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        from egress.cli.summary_text import markdown, tables  # noqa: PLC0415 -- loads rich

        write = markdown if output_format == "markdown" else tables
        for line in write(found, unused):
            typer.echo(line)
    if failed:
        raise typer.Exit(1)


def _unused(policies: list[str], presets: list[Path] | None, found: Summary) -> list[str]:
    """The rules of these policies that spoke in no row."""
    from egress.cli.loading import find, surroundings  # noqa: PLC0415 -- loads pydantic

    loaded = surroundings(None, presets).load(find(policies))
    rules = [rule for scope in loaded.policy.scopes for rule in scope.rules]
    return [
        f"{rule.file}:{rule.line} {rule.name or ''}".strip()
        for rule in rules
        if (rule.file, rule.line) not in found.rules_hit
    ]


def _plain(found: Summary, unused: list[str] | None) -> dict[str, Any]:
    groups = {
        name: [{"what": one.what, "requests": one.count, "refused": one.refused, "bytes": one.size} for one in some]
        for name, some in found.groups.items()
    }
    plain = {key: value for key, value in asdict(found).items() if key not in {"groups", "rules_hit"}}
    return {"requests": found.count, "refused": found.refused, **plain, **groups, "rules_never_hit": unused}
