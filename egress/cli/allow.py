"""`egress allow` and `egress deny`: put one rule into a policy file, and say what the file then does."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from egress.cli.options import AuditFile, ConfigFile, Policies, Presets, StateDir

if TYPE_CHECKING:
    from egress.cli.allow_rule import Conditions
    from egress.cli.loading import Surroundings
    from egress.cli.policy_files import PolicyFile
    from egress.config import LoadedPolicy, PolicySource
    from egress.review.edit import NewRule
    from egress.review.placing import Place

What = Annotated[
    str,
    typer.Argument(
        metavar="TARGET|ID",
        help="A host, wildcard, address or range, or the id of a row of the audit.",
        show_default=False,
    ),
]
Methods = Annotated[str | None, typer.Option("--methods", metavar="M,..", help="Methods, or `read-only`.")]
Paths = Annotated[str | None, typer.Option("--paths", metavar="P,..", help="Path patterns.")]
Ports = Annotated[str | None, typer.Option("--ports", metavar="N,..", help="Ports and ranges.")]
Protocols = Annotated[
    str | None, typer.Option("--protocol", metavar="WORD,..", help="http, https, ws, wss, grpc, tcp or dns.")
]
Ttl = Annotated[str | None, typer.Option("--ttl", metavar="1h", help="How long the rule holds: 90s, 30m, 1h, 7d, 2w.")]
Why = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="A comment above the rule.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Write without asking.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and write nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Write a rule that another one overrules, or that overrules one.")]


def register(app: typer.Typer) -> None:
    """Add `allow` and `deny` to `app`."""
    app.command("allow")(allow)
    app.command("deny")(deny)


def allow(
    what: What,
    *,
    policy: Policies = None,
    presets: Presets = None,
    config: ConfigFile = None,
    methods: Methods = None,
    paths: Paths = None,
    ports: Ports = None,
    protocol: Protocols = None,
    ttl: Ttl = None,
    reason: Why = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    force: Force = False,
    audit_file: AuditFile = None,
    state_dir: StateDir = None,
) -> None:
    """Allow a target: put a rule into the last --policy FILE, show the change, and ask before it is written.

    \b
    Examples:
      egress allow api.example.com --policy policy.yaml
      egress allow api.example.com --methods GET,HEAD --paths '/v1/**' --policy policy.yaml
      egress allow db.example.com --ports 5432 --protocol tcp --ttl 1h --reason 'migration' --policy policy.yaml
      egress allow 01j0000000000000000000000a --policy policy.yaml

    Policies before the last one are not changed; they are judged along, since their rules count too.
    """  # noqa: D301  # click keeps the lines of a paragraph that begins with a backspace
    from egress.cli.allow_rule import Conditions, rule_of  # noqa: PLC0415  # loaded late, so that --help is fast
    from egress.cli.loading import surroundings  # noqa: PLC0415

    conditions = Conditions(methods, paths, ports, protocol, ttl, reason)
    wish = _Wish(yes, dry_run, force)
    _edit(rule_of("allow", what, (audit_file, state_dir)), policy, surroundings(config, presets), conditions, wish)


def deny(
    what: What,
    *,
    policy: Policies = None,
    presets: Presets = None,
    config: ConfigFile = None,
    methods: Methods = None,
    paths: Paths = None,
    ports: Ports = None,
    protocol: Protocols = None,
    ttl: Ttl = None,
    reason: Why = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    force: Force = False,
    audit_file: AuditFile = None,
    state_dir: StateDir = None,
) -> None:
    """Deny a target: put a rule before all others of the last --policy FILE; else as `egress allow`.

    \b
    Examples:
      egress deny upload.example.com --policy policy.yaml
      egress deny api.example.com --methods DELETE --policy policy.yaml --yes
      egress deny 198.51.100.0/24 --reason 'not ours any more' --policy policy.yaml
    """  # noqa: D301  # click keeps the lines of a paragraph that begins with a backspace
    from egress.cli.allow_rule import Conditions, rule_of  # noqa: PLC0415  # loaded late, so that --help is fast
    from egress.cli.loading import surroundings  # noqa: PLC0415

    conditions = Conditions(methods, paths, ports, protocol, ttl, reason)
    wish = _Wish(yes, dry_run, force)
    _edit(rule_of("deny", what, (audit_file, state_dir)), policy, surroundings(config, presets), conditions, wish)


@dataclass(frozen=True, slots=True)
class _Wish:
    yes: bool
    dry_run: bool
    force: bool


def _edit(
    asked: NewRule, policies: list[str] | None, around: Surroundings, conditions: Conditions, wish: _Wish
) -> None:
    from egress.cli import policy_files  # noqa: PLC0415  # loaded by the command, so that --help is fast
    from egress.cli.allow_told import show, told  # noqa: PLC0415
    from egress.config.document import read_document  # noqa: PLC0415
    from egress.errors import ConfigError  # noqa: PLC0415
    from egress.review.edit import insert_rule  # noqa: PLC0415
    from egress.review.placing import place  # noqa: PLC0415

    rule = conditions.on(asked)
    sources = around.sources(_named(policies))
    file = policy_files.read(sources[-1])
    loaded = around.load(sources)
    _check_rule(rule, file)
    if _is_said_already(rule, loaded, file):
        return
    document, _ = read_document(file.text, file.name)
    if document is None:  # it was loaded a moment ago
        raise typer.Exit(1)
    where = place(rule, loaded, document)
    _refuse_conflict(where, file, wish)
    edit = insert_rule(file.text, file.name, rule, where.index)
    tried = policy_files.Trial(file, edit.text, sources, around)
    said = tried.look(lambda new, name: told(rule, edit, new, name, file, loaded))
    show(file, edit, where)
    for line in said.lines:
        typer.echo(line)
    if said.refused:
        raise ConfigError(said.refused)
    if said.void and not wish.force:
        typer.echo("egress: not written: the rule would change nothing, add `--force` to write it", err=True)
        raise typer.Exit(1)
    if _is_wanted(file, wish):
        policy_files.replace_file(file, edit.text)
        typer.echo(f"written to {file.name}")


def _named(policies: list[str] | None) -> list[PolicySource]:
    from egress.cli.loading import find  # noqa: PLC0415
    from egress.config import shipped_policies  # noqa: PLC0415

    if not policies:
        raise typer.BadParameter("no policy is named: add `--policy FILE`", param_hint="--policy")
    sources = find(policies)
    if sources[-1].path in shipped_policies().values():
        message = "comes with egress and is not changed; copy it, and name the copy last"
        raise typer.BadParameter(f"`{policies[-1]}` {message}", param_hint="--policy")
    return sources


def _check_rule(rule: NewRule, file: PolicyFile) -> None:
    """A target that is none is told before anything is judged."""
    from egress.errors import ConfigError, Problem  # noqa: PLC0415
    from egress.policy import TargetError, parse_target  # noqa: PLC0415

    for target in rule.targets:
        parsed = parse_target(target, verdict=rule.verdict)
        if isinstance(parsed, TargetError):
            raise ConfigError([Problem(file.name, None, "", parsed.message, parsed.hint)])


def _is_said_already(rule: NewRule, loaded: LoadedPolicy, file: PolicyFile) -> bool:
    from egress.review.placing import Standing, judge  # noqa: PLC0415

    judged = judge(rule, loaded)
    if judged.standing is not Standing.EVERY:
        return False
    by = judged.shown.rule
    line = "" if by is None else f", by {by.file}:{by.line}"
    word = "allowed" if rule.verdict == "allow" else "denied"
    typer.echo(f"{', '.join(rule.targets)} is {word} already{line}; {file.name} is left as it is")
    return True


def _refuse_conflict(where: Place, file: PolicyFile, wish: _Wish) -> None:
    from egress.errors import ConfigError, Problem  # noqa: PLC0415

    found = where.conflict
    if found is not None and not wish.force:
        message = f"this rule says `{found.verdict}` to the same target"
        hint = "change or remove it, or add `--force` to put the new rule before it"
        raise ConfigError([Problem(file.name, found.line, "", message, hint)])


def _is_wanted(file: PolicyFile, wish: _Wish) -> bool:
    if wish.dry_run:
        typer.echo("nothing is written")
        return False
    if wish.yes:
        return True
    if not sys.stdin.isatty():
        typer.echo("egress: not written: there is no terminal to ask on, add `--yes`", err=True)
        raise typer.Exit(1)
    if not typer.confirm(f"Write this to {file.name}?"):
        raise typer.Exit(1)
    return True
