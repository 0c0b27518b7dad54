"""`egress sandbox`: register sandboxes with a proxy that runs, look at those that there are, and remove them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from egress.cli.options import StateDir, object_of, state_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# A change waits for one that is under way, and for every process to take it over.
_SECONDS = 120.0
_TTL = re.compile(r"([0-9]{1,9})([smhd]?)\Z")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}

Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name: lower-case letters, digits and `-`.")]
Source = Annotated[
    list[str] | None,
    typer.Option("--source", metavar="CIDR", help="Where its clients come from. May be repeated. Default: anywhere."),
]
Uid = Annotated[
    list[int] | None,
    typer.Option("--uid", metavar="UID", help="The user of its clients, on a unix socket. May be repeated."),
]
Label = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="A label for rules. May be repeated.")
]
Session = Annotated[
    Path | None,
    typer.Option("--policy", metavar="FILE", help="A policy that narrows what all sandboxes may: its scope `session`."),
]
Ttl = Annotated[
    str | None, typer.Option("--ttl", metavar="TIME", help="When it ends: 90s, 30m, 1h, 2d. Default: when removed.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]

sandbox_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="""Tell clients apart: short-lived sandboxes, each with a token and rules of its own.

    \b
    Examples:
      egress sandbox add ci-7 --label team=data --ttl 1h
      egress sandbox list
      egress sandbox rm ci-7
    """,
)


def register(app: typer.Typer) -> None:
    """Add the `sandbox` commands to `app`."""
    app.add_typer(sandbox_app, name="sandbox")


@sandbox_app.command("add")
def add(
    name: Name,
    *,
    source: Source = None,
    uid: Uid = None,
    label: Label = None,
    policy: Session = None,
    ttl: Ttl = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Register a sandbox, and print how its clients name the proxy. The token is shown this once.

    \b
    Examples:
      egress sandbox add ci-7 --label team=data --ttl 1h
      egress sandbox add agent-3 --source 172.18.0.7 --policy session.yaml
      egress sandbox add build --uid 1001

    From the first sandbox on, clients that are none are refused.
    """  # noqa: D301 -- \b is click's mark for lines that must not be joined
    request: dict[str, object] = {"command": "sandbox-add", "name": name, "sources": list(source or ())}
    if uid:
        request["uids"] = list(uid)
    request["labels"] = object_of(label)
    if policy is not None:
        request["policy"] = _text(policy)
    if ttl is not None:
        request["ttl"] = _seconds(ttl)
    answer = _changed(request, state_dir)
    if as_json:
        typer.echo(json.dumps({**answer, "proxy": _url(answer)}))
        return
    if _on_unix(answer):
        typer.echo(f"listener {answer['listening']}\ntoken    {answer['name']}:{answer['token']}")
        return
    typer.echo(f"HTTPS_PROXY={_url(answer)}")


@sandbox_app.command("list")
def list_sandboxes(*, state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """List the sandboxes: source, labels, what is left of their time, and how many connections each has open.

    \b
    Examples:
      egress sandbox list
      egress sandbox list --json
    """  # noqa: D301 -- \b is click's mark for lines that must not be joined
    from egress.audit import printable  # noqa: PLC0415 -- `egress --help` needs none of it

    answer = _ask({"command": "sandbox-list"}, state_dir)
    if as_json:
        typer.echo(json.dumps(answer))
        return
    for line in _table(answer["sandboxes"]):
        typer.echo(printable(line))


@sandbox_app.command("rm")
def remove(name: Name, *, state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Remove a sandbox that was registered, and cut its connections.

    \b
    Examples:
      egress sandbox rm ci-7
    """  # noqa: D301 -- \b is click's mark for lines that must not be joined
    answer = _changed({"command": "sandbox-rm", "name": name}, state_dir)
    if as_json:
        typer.echo(json.dumps(answer))
        return
    cut = "1 connection" if answer["cut"] == 1 else f"{answer['cut']} connections"
    typer.echo(f"removed {name}; {cut} cut")


def _ask(request: Mapping[str, object], state_dir: Path | None) -> dict[str, Any]:
    from egress.errors import StateError  # noqa: PLC0415 -- `egress --help` needs none of it
    from egress.server.control_client import ask  # noqa: PLC0415

    answer = ask(state_folder(state_dir), request, seconds=_SECONDS)
    if "error" in answer:
        raise StateError(f"the proxy does not do it: {answer['error']}")
    return answer


def _changed(request: Mapping[str, object], state_dir: Path | None) -> dict[str, Any]:
    """The answer to a change that was made; else what is wrong with it, and exit 1."""
    from egress.audit import printable  # noqa: PLC0415

    answer = _ask(request, state_dir)
    if not answer.get("done"):
        for problem in answer.get("problems", ()):
            typer.echo(f"egress: {printable(str(problem))}", err=True)
        raise typer.Exit(1)
    return answer


def _on_unix(answer: Mapping[str, Any]) -> bool:
    return str(answer["listening"]).startswith("unix:")


def _url(answer: Mapping[str, Any]) -> str:
    """How its clients name the proxy; a unix socket's URL has no place for name and token."""
    where = str(answer["listening"])
    return where if _on_unix(answer) else f"http://{answer['name']}:{answer['token']}@{where}"


def _seconds(text: str) -> int:
    found = _TTL.match(text)
    if found is None:
        raise typer.BadParameter(f"`{text}` is no time: write `90s`, `30m`, `1h` or `2d`", param_hint="--ttl")
    return int(found[1]) * _UNITS[found[2]]


def _text(path: Path) -> str:
    """The text of the session's policy. Raises ConfigError."""
    from egress.config import read_text  # noqa: PLC0415
    from egress.errors import ConfigError  # noqa: PLC0415

    found = read_text(path)
    if found.text is None or found.problems:
        raise ConfigError(found.problems)
    return found.text


def _table(sandboxes: list[Mapping[str, Any]]) -> Iterator[str]:
    if not sandboxes:
        yield "no sandboxes"
        return
    rows = [("NAME", "FROM", "LABELS", "TTL", "CONNECTIONS"), *map(_row, sandboxes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _row(own: Mapping[str, Any]) -> tuple[str, ...]:
    uids = [f"uid={uid}" for uid in own.get("uids", ())]
    whence = [*own["sources"], *uids, *filter(None, [own["listener"]]), *(["token"] if own["token"] else [])]
    labels = " ".join(f"{key}={value}" for key, value in own["labels"].items()) or "-"
    lasts = "configured" if not own["registered"] else "until removed" if own["ttl"] is None else _left(own["ttl"])
    return own["name"], " ".join(whence), labels, lasts, str(own["connections"])


def _left(seconds: float) -> str:
    for unit in ("d", "h", "m"):
        if seconds >= 2 * _UNITS[unit]:
            return f"{int(seconds // _UNITS[unit])}{unit}"
    return f"{int(seconds)}s"
