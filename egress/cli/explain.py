"""`egress explain`: what a policy says to a request, what was decided, or what a reason code means. No network."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from egress.cli.options import (
    AuditFile,
    ConfigFile,
    Policies,
    Presets,
    Resolve,
    Sandbox,
    SandboxLabels,
    StateDir,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from egress.cli.loading import Surroundings
    from egress.config import LoadedPolicy
    from egress.policy import Address
    from egress.policy import Sandbox as SandboxOfRules

What = Annotated[
    str,
    typer.Argument(
        metavar="URL|ID|CODE|-",
        help="A URL, host:port, the id of a row of the audit, a reason code, or - to read requests as JSON lines.",
        show_default=False,
    ),
]
Method = Annotated[str | None, typer.Option("--method", metavar="M", help="The HTTP method.  [default: GET]")]
Header = Annotated[
    list[str] | None,
    typer.Option("--header", metavar="'K: V'", help="A header of the request. May be repeated.", show_default=False),
]
Query = Annotated[
    list[str] | None,
    typer.Option("--query", metavar="K=V", help="A query parameter, not encoded. May be repeated.", show_default=False),
]
AddressOption = Annotated[
    list[str] | None,
    typer.Option(
        "--address", metavar="IP", help="What the URL's host resolves to. May be repeated.", show_default=False
    ),
]
At = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help="Judge `until` as of a time, as in 2026-12-31T18:00:00Z.")
]
Body = Annotated[
    str | None,
    typer.Option("--body", metavar="FILE|-", help="The request's body, for rules that judge it.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the `explain` command to `app`."""
    app.command("explain")(explain)


def explain(
    what: What,
    *,
    policy: Policies = None,
    presets: Presets = None,
    config: ConfigFile = None,
    method: Method = None,
    sandbox: Sandbox = None,
    label: SandboxLabels = None,
    resolve: Resolve = None,
    header: Header = None,
    query: Query = None,
    address: AddressOption = None,
    at: At = None,
    body: Body = None,
    audit_file: AuditFile = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Explain a decision: every rule tried, the one that spoke, what is changed and dialled. Exit 0: allowed, 1: not.

    \b
    Examples:
      egress explain https://api.github.com/user --policy coding-agent
      egress explain https://api.example.com/v1 --method POST --policy policy.yaml --address 10.1.2.3
      egress explain https://api.example.com/v1 --query state=open --header 'Accept: text/html' --policy policy.yaml
      egress explain tcp://db.corp.example:5432 --policy policy.yaml --resolve db.corp.example:10.1.2.3
      egress explain https://mcp.example.com/mcp --method POST --body call.json --policy policy.yaml
      egress explain 01j0000000000000000000000a
      egress explain https://files.data.corp.example/ --policy policy.yaml --sandbox ci-7 --label team=data
      egress explain --json - --policy policy.yaml < requests.jsonl
      egress explain host-not-allowed

    An id re-tells a row of the audit, and with a policy says what that would decide now. With --json - each line is an
    object with `url` and, if wanted, `method`, `sandbox`, `headers`, `query`, `address`, `body`; each gets one line.
    """  # noqa: D301  # click keeps the lines of a paragraph that begins with a backspace
    from egress import review  # noqa: PLC0415  # loaded by the command, so that --help is fast
    from egress.cli import explain_text  # noqa: PLC0415
    from egress.cli.loading import surroundings  # noqa: PLC0415

    text = review.explain_reason(what)
    if text is not None:
        explain_text.print_reason(what, text[1], as_json=as_json)
        return
    around = surroundings(config, presets, resolve)
    moment = None if at is None else _moment(at)
    if review.DECISION_ID.match(what):
        allowed = _retell(what, around, (policy, label), moment, (audit_file, state_dir), as_json=as_json)
        raise typer.Exit(0 if allowed else 1)
    loaded = _load(around, policy, moment, sandbox, label)
    if what == "-":
        _refuse_beside_lines(body, as_json=as_json)
        _answer_lines(loaded, around.pins)
        return
    question = review.make_question(
        what,
        method=method,
        sandbox=sandbox,
        headers=header or (),
        addresses=address or (),
        query=query or (),
        body=None if body is None else _read_body(body),
    )
    answer = review.explain(question, loaded, pins=around.pins)
    if as_json:
        typer.echo(json.dumps(answer.as_json()))
    else:
        explain_text.print_answer(question.url if isinstance(question, review.Question) else what, answer)
    if not answer.allowed:
        raise typer.Exit(1)


def _refuse_beside_lines(body: str | None, *, as_json: bool) -> None:
    if body is not None:
        raise typer.BadParameter("each line has its own: write it as `body`", param_hint="--body")
    if not as_json:
        raise typer.BadParameter("requests are read as JSON lines: write `egress explain --json -`")


def _load(
    around: Surroundings, policies: list[str] | None, at: datetime | None, sandbox: str | None, labels: list[str] | None
) -> LoadedPolicy:
    """What is asked, with the labels of the sandbox that is asked about, if one is."""
    who = around.who(sandbox, labels)
    loaded = around.load_named(policies or (), at=at, sandbox=sandbox)
    return loaded if who is None else _knowing(loaded, who)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise typer.BadParameter("write a time with its offset, as in 2026-12-31T18:00:00Z", param_hint="--at")
    return moment


def _knowing(loaded: LoadedPolicy, who: SandboxOfRules) -> LoadedPolicy:
    """The policy that knows this sandbox's labels. What cannot be written out for it is told with its line."""
    loaded.of(who)
    return replace(loaded, sandboxes={**loaded.sandboxes, who.name: who})


def _read_body(name: str) -> bytes:
    from pathlib import Path  # noqa: PLC0415

    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"cannot read `{name}`: {error.strerror}", param_hint="--body") from None


def _answer_lines(loaded: LoadedPolicy, pins: Mapping[str, tuple[Address, ...]]) -> None:
    from egress import review  # noqa: PLC0415

    for line in review.read_lines(sys.stdin.buffer):
        answer = review.explain(review.read_question(line), loaded, pins=pins)
        # ASCII only, so that text of the request cannot act on a terminal; flushed, so that a pipe can converse.
        sys.stdout.write(json.dumps(answer.as_json()) + "\n")
        sys.stdout.flush()


def _retell(
    row_id: str,
    around: Surroundings,
    named: tuple[list[str] | None, list[str] | None],
    at: datetime | None,
    audit: tuple[Path | None, Path | None],
    *,
    as_json: bool,
) -> bool:
    """Tell the row again, and what the policy says now if one is named. True if it was (or now is) allowed.

    `named`: policies, and labels of the row's sandbox, which the record has not.
    """
    from egress import review  # noqa: PLC0415
    from egress.cli import explain_row, explain_text  # noqa: PLC0415

    policies, labels = named
    row = explain_row.row_named(row_id, audit if any(audit) else (around.audit, None))
    answer = None
    if policies or around.policies:
        loaded = around.load_named(policies or (), at=at, sandbox=row.sandbox)
        who = around.who(row.sandbox, labels) if labels else None
        loaded = loaded if who is None else _knowing(loaded, who)
        question = explain_row.question_of(row)
        answer = None if question is None else review.explain(question, loaded, pins=around.pins)
    if as_json:
        typer.echo(json.dumps(explain_row.row_json(row, answer)))
    else:
        explain_text.print_rows(explain_row.title(row), row.verdict, explain_row.rows(row))
        if answer is not None:
            typer.echo("")
            explain_text.print_answer("under the policy named here", answer)
        elif policies or around.policies:
            typer.echo("  what was refused before it could be read cannot be asked again")
    return row.verdict == "allow" if answer is None else answer.allowed
