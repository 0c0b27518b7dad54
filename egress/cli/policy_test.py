"""`egress policy test`: runs files of cases against policies. Exit 0: all pass, 1: some fail, 2: a file is unusable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from egress.cli.options import ConfigFile, OutputFormat, Policies, Presets

if TYPE_CHECKING:
    from egress.cli.loading import Surroundings
    from egress.config import PolicySource
    from egress.review import CaseResult, FileResult

_FAILED = 1
_UNUSABLE = 2

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of cases.", show_default=False)]
JunitFile = Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write the results as JUnit XML, too.")]


def run_cases(
    files: Files,
    *,
    policy: Policies = None,
    presets: Presets = None,
    config: ConfigFile = None,
    junit: JunitFile = None,
    output_format: OutputFormat = "text",
) -> None:
    """Run cases (a request, and what the policy must say to it). Exit 0: all pass, 1: some fail, 2: unusable.

    \b
    Examples:
      egress policy test tests/*.yaml
      egress policy test --policy policy.yaml tests/api.yaml
      egress policy test --junit results.xml tests/*.yaml

    --policy takes the place of the policies that the files name; with --config, the server's other scopes stand beside.
    """  # noqa: D301  # click keeps the lines of a paragraph that begins with a backspace
    from egress.cli.loading import find, surroundings  # noqa: PLC0415  # loaded by the command, so that --help is fast
    from egress.review import results_json  # noqa: PLC0415

    sources = find(policy)
    around = surroundings(config, presets)
    results = [_run(path, sources, around) for path in files]
    if junit is not None:
        _write_junit(junit, results)
    if output_format == "json":
        typer.echo(json.dumps(results_json(results)))
    for result in results:
        for problem in result.problems:
            typer.echo(str(problem), err=True)
        if output_format == "text" and not result.problems:
            _print(result)
    if any(result.problems for result in results):
        raise typer.Exit(_UNUSABLE)
    if any(result.failed for result in results):
        raise typer.Exit(_FAILED)


def _run(path: Path, sources: list[PolicySource], around: Surroundings) -> FileResult:
    from egress.config import printable, read_cases  # noqa: PLC0415
    from egress.errors import ConfigError, Problem  # noqa: PLC0415
    from egress.review import FileResult, verify  # noqa: PLC0415

    name = printable(str(path))
    try:
        file = read_cases(path)
        policies = around.sources(sources or file.policies)
        if not policies:
            hint = "write `policy: policy.yaml` at its top, or add `--policy`"
            raise ConfigError([Problem(name, 1, "", "the file names no policy", hint)])  # noqa: TRY301
        loaded = around.load(policies)
    except ConfigError as error:
        return FileResult(name, problems=error.problems)
    return FileResult(name, tuple(verify(case, loaded) for case in file.cases))


def _write_junit(path: Path, results: list[FileResult]) -> None:
    from egress.errors import EgressError  # noqa: PLC0415
    from egress.review.junit import junit_text  # noqa: PLC0415

    try:
        path.write_text(junit_text(results), encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise EgressError(f"{path} cannot be written ({reason})", hint="name another file with --junit") from error


def _print(file: FileResult) -> None:
    for result in file.results:
        if not result.passed:
            _print_failure(result)
    count = len(file.results)
    cases = f"{count} case" if count == 1 else f"{count} cases"
    typer.echo(f"{file.file}: " + (f"{file.failed} of {cases} failed" if file.failed else f"{cases}, all passed"))


def _print_failure(result: CaseResult) -> None:
    from egress.config import printable  # noqa: PLC0415

    case = result.case
    name = f"{case.name}: " if case.name else ""
    typer.echo(printable(f"{case.file}:{case.line}: {name}{case.request}"))
    for each in result.mismatches:
        typer.echo(printable(f"  {each.what}: expected {each.expected}, found {each.found}"))
    typer.echo(printable(f"  explained: {result.telling}"))
