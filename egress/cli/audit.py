"""`egress audit`: the newest decisions in the viewer, as a table, as lines or as JSON, and those that come.

Reads the database beside a running proxy and writes nothing. Loads neither mitmproxy nor the credentials, so that it
starts at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from egress.cli import audit_export, audit_sql, audit_summary, audit_verify
from egress.cli.audit_filter import (
    FailOnDeny,
    FilterText,
    Host,
    Reason,
    Sandbox,
    Since,
    VerdictOption,
    as_text,
    read_filter,
)
from egress.cli.audit_print import Printing, print_audit
from egress.cli.options import AuditFile, ConfigFile, Policies, Presets, StateDir, audit_database

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes; a row that was open comes again.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, with every column.")]
Plain = Annotated[bool, typer.Option("--plain", help="Lines with tabs, as when the output is no terminal.")]
Events = Annotated[
    bool, typer.Option("--events", help="What happened beside requests: starts, reloads, secrets, gaps.")
]
Group = Annotated[bool, typer.Option("--group", "-g", help="Repeats next to each other as one row with a count.")]
Table = Annotated[bool, typer.Option("--table", help="Print a table on the terminal in place of the viewer.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=0, metavar="N", help="How many of the newest rows.")]


audit_app = typer.Typer(rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the `audit` commands to `app`."""
    for module in (audit_summary, audit_verify, audit_sql, audit_export):
        module.register(audit_app)
    app.add_typer(audit_app, name="audit")


@audit_app.callback(invoke_without_command=True)
def audit(
    context: typer.Context,
    *,
    audit_file: AuditFile = None,
    state_dir: StateDir = None,
    follow: Follow = False,
    as_json: AsJson = False,
    plain: Plain = False,
    table: Table = False,
    filters: FilterText = None,
    verdict: VerdictOption = None,
    host: Host = None,
    sandbox: Sandbox = None,
    reason: Reason = None,
    since: Since = None,
    limit: Limit = 50,
    events: Events = False,
    group: Group = False,
    fail_on_deny: FailOnDeny = False,
    policy: Policies = None,
    presets: Presets = None,
    config: ConfigFile = None,
) -> None:
    """Show the newest decisions, the newest last; works beside a running proxy.

    On a terminal this opens the viewer: `/` filters, `enter` opens a row, `?` tells the keys. With
    --policy, `w` says what that policy decides now, and `a` and `d` write a rule to its file.

    \b
    Examples:
      egress audit
      egress audit --policy policy.yaml
      egress audit --table --limit 200
      egress audit --follow --verdict deny --plain
      egress audit --host .example.com --since 2h
      egress audit --filter 'verdict:deny -method:GET status:>=500 sandbox:ci'
      egress audit --json --limit 1000 | jq -r .host | sort | uniq -c
      egress audit --since 1h --fail-on-deny
      egress audit --group --verdict deny
      egress audit --events --since 1d
      egress audit summary --since 1d

    A row is one request, tunnel or connection; `open` was allowed and has not ended yet.

    Lines (--plain, or no terminal) hold, with tabs between: time, id, state, verdict, sandbox,
    method, destination, status, reason, rule, bytes up, bytes down, microseconds, secrets, error,
    labels, where it was rewritten to, count; `-` where there is nothing.
    """  # noqa: D301 -- \b is click's mark for lines that must not be joined
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    if follow and fail_on_deny:
        raise typer.BadParameter("--follow has no end at which it could fail", param_hint="--fail-on-deny")
    shorthands = {"verdict": verdict, "host": host, "sandbox": sandbox, "reason": reason, "since": since}
    wanted = read_filter(filters, **shorthands)
    printed = as_json or plain or table or fail_on_deny or events or group or _is_named(context, "limit")
    views = not printed and _is_on_terminal()
    _refuse_idle(asks=bool(views and policy), policy=policy, presets=presets, config=config)
    database = audit_database(audit_file, state_dir)
    if views:
        _view(database, as_text(filters, shorthands), policy, presets, config)
        return
    how = Printing(
        limit=limit,
        follow=follow,
        as_json=as_json,
        plain=plain,
        events=events,
        group=group,
        fail_on_deny=fail_on_deny,
    )
    print_audit(database, wanted, how)


def _is_named(context: typer.Context, option: str) -> bool:
    return "COMMANDLINE" in str(context.get_parameter_source(option))


def _is_on_terminal() -> bool:
    """Whether there is a terminal to draw on and to read keys from: the viewer draws on standard error."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return os.environ.get("TERM", "dumb") != "dumb" and all(stream.isatty() for stream in streams)


def _view(database: Path, text: str, policy: list[str] | None, presets: list[Path] | None, config: Path | None) -> None:
    """Open the viewer. What cannot be read is said before the screen is taken."""
    from egress.audit import PagedReader  # noqa: PLC0415 -- `egress --help` needs none of it
    from egress.viewer.app import Viewer  # noqa: PLC0415 -- loads textual

    with PagedReader(database) as reader:
        reader.ends()
    desk = None
    if policy:
        from egress.cli.audit_desk import PolicyDesk  # noqa: PLC0415 -- loads the parser of policies
        from egress.cli.loading import surroundings  # noqa: PLC0415 -- likewise

        desk = PolicyDesk(policy, surroundings(config, presets))
    Viewer(database, text, desk).run()


def _refuse_idle(*, asks: bool, **given: object) -> None:
    """An option that would do nothing is refused, so that nobody takes its silence for an answer."""
    for name, value in given.items():
        if value and not asks:
            raise typer.BadParameter("this serves the viewer's --policy, and nothing else", param_hint=f"--{name}")


def _refuse_options(context: typer.Context) -> None:
    """An option before a subcommand would do nothing, and nobody would notice."""
    given = [name for name in context.params if _is_named(context, name)]
    if given:
        raise typer.BadParameter(f"write options after `{context.invoked_subcommand}`")
