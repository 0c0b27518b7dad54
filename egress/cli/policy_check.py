"""`egress policy check`: load policy files as the proxy would, lint them, and say what was found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from egress.cli.options import ConfigFile, Presets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from egress.cli.loading import Surroundings
    from egress.config import PolicySource
    from egress.review.lint import Checked


class Format(StrEnum):
    """How findings are printed."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"


Files = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SCOPE=]FILE...", help="Policy files, or names of shipped policies.", show_default=False),
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit 1 on warnings too.")]
FormatOption = Annotated[Format, typer.Option("--format", metavar="text|json|sarif", help="How to print findings.")]
Together = Annotated[
    bool, typer.Option("--together", help="Check all files as one policy, as `egress run` loads them.")
]


def check(
    files: Files = None,
    *,
    strict: Strict = False,
    form: FormatOption = Format.TEXT,
    together: Together = False,
    presets: Presets = None,
    config: ConfigFile = None,
) -> None:
    """Check policy files; each as if it stood alone. Exit 1 on what a reload would refuse.

    \b
    Examples:
      egress policy check policy.yaml
      egress policy check --strict --format sarif policies/*.yaml
      egress policy check --together org=org.yaml team=team.yaml mine.yaml
      egress policy check --config egress.yaml

    With --config its secrets and presets are known; without files, the policies that it names are checked together.
    """  # noqa: D301  # click keeps the lines of a paragraph that begins with a backspace
    if not files and config is None:
        raise typer.BadParameter("no policy is named: name files, or the server's `--config`", param_hint="FILE")
    parts = _check(files or [], config, presets or [], together=together)
    if form is Format.TEXT:
        _print_text(parts)
    else:
        _print_document(parts, form)
    if any(not _passes(part.checked, strict=strict) for part in parts):
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Part:
    """What is checked as one policy, and what was found."""

    name: str
    checked: Checked


def _check(files: Sequence[str], config: ConfigFile, presets: Sequence[Path], *, together: bool) -> list[_Part]:
    from egress.cli.loading import surroundings  # noqa: PLC0415  # loaded by the command, so that --help is fast
    from egress.errors import ConfigError  # noqa: PLC0415
    from egress.review.lint import unusable  # noqa: PLC0415

    try:
        around = surroundings(config, presets)
    except ConfigError as error:
        return [_Part(str(config), unusable(error))]
    if not files:
        return _check_server(str(config), around)
    groups = [list(files)] if together else [[text] for text in files]
    return [_Part(" ".join(group), _check_named(group, around)) for group in groups]


def _check_server(config: str, around: Surroundings) -> list[_Part]:
    """The files that all have in common, then those of each sandbox on top of them, each set of files once."""
    from egress.config import load_policies, policy_of  # noqa: PLC0415
    from egress.errors import ConfigError  # noqa: PLC0415
    from egress.review.lint import unusable  # noqa: PLC0415

    common = _Part(config, _check_sources(around.policies, around))
    if not around.sandboxes or not common.checked.usable:
        return [common]
    parts = [common] if around.policies else []
    seen: set[tuple[PolicySource, ...]] = {around.policies}
    for own in around.sandboxes:
        group = (*around.policies, *own.policies)
        name = f"{config}: sandbox {own.name}"
        if group not in seen:
            parts.append(_Part(name, _check_sources(group, around)))
            seen.add(group)
        try:
            # A second, empty group: beside others no file stands alone.
            loaded, _ = load_policies([group, ()], secrets=around.secrets, presets=around.presets)
            policy_of(loaded.policy, own.sandbox, whole=True)
        except ConfigError as error:
            parts.append(_Part(name, unusable(error)))
    return parts


def _check_named(texts: Sequence[str], around: Surroundings) -> Checked:
    from egress.cli.loading import find  # noqa: PLC0415
    from egress.errors import ConfigError  # noqa: PLC0415
    from egress.review.lint import unusable  # noqa: PLC0415

    try:
        sources = find(texts)
    except ConfigError as error:
        return unusable(error)
    return _check_sources(sources, around)


def _check_sources(sources: Sequence[PolicySource], around: Surroundings) -> Checked:
    from datetime import UTC, datetime  # noqa: PLC0415

    from egress.review.lint import check_sources  # noqa: PLC0415

    return check_sources(sources, secrets=around.secrets, presets=around.presets, now=datetime.now(UTC))


def _passes(checked: Checked, *, strict: bool) -> bool:
    from egress.review.lint import Severity  # noqa: PLC0415

    return checked.usable and not (strict and checked.count(Severity.WARNING))


def _print_text(parts: Sequence[_Part]) -> None:
    from egress.cli.findings_text import print_findings, print_summary  # noqa: PLC0415

    for part in parts:
        print_findings(part.checked.findings)
        print_summary(part.name, part.checked)


def _print_document(parts: Sequence[_Part], form: Format) -> None:
    from egress import __version__  # noqa: PLC0415
    from egress.review.lint import findings_json, findings_sarif  # noqa: PLC0415

    findings = list(dict.fromkeys(finding for part in parts for finding in part.checked.findings))
    make = findings_json if form is Format.JSON else findings_sarif
    # ASCII only: text of a file must not act on a terminal.
    typer.echo(json.dumps(make(findings, version=__version__), indent=2))
