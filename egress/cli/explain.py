"""`egress explain`: what a policy says to a request, or what a reason code means. No network, no proxy."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from egress.cli.options import Policies, Presets, Resolve

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from egress.config import LoadedPolicy
    from egress.policy import Address, ReasonText
    from egress.review import Explanation

What = Annotated[
    str,
    typer.Argument(
        metavar="URL|CODE|-",
        help="A URL, host:port, a reason code, or - to read requests as JSON lines.",
        show_default=False,
    ),
]
Method = Annotated[str | None, typer.Option("--method", metavar="M", help="The HTTP method.  [default: GET]")]
Sandbox = Annotated[str | None, typer.Option("--sandbox", metavar="S", help="The sandbox that asks.")]
Header = Annotated[
    list[str] | None,
    typer.Option("--header", metavar="'K: V'", help="A header of the request. May be repeated.", show_default=False),
]
AddressOption = Annotated[
    list[str] | None,
    typer.Option(
        "--address", metavar="IP", help="What the URL's host resolves to. May be repeated.", show_default=False
    ),
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
    method: Method = None,
    sandbox: Sandbox = None,
    resolve: Resolve = None,
    header: Header = None,
    address: AddressOption = None,
    as_json: Json = False,
) -> None:
    """Explain a decision: verdict, reason, rule and line, lane, and what each scope says. Exit 0: allowed, 1: not.

    \b
    Examples:
      egress explain https://api.github.com/user --policy coding-agent
      egress explain https://api.example.com/v1 --method POST --policy policy.yaml --address 10.1.2.3
      egress explain tcp://db.corp.example:5432 --policy policy.yaml --resolve db.corp.example:10.1.2.3
      egress explain --json - --policy policy.yaml < requests.jsonl
      egress explain host-not-allowed

    With --json - each line is an object with `url` and, if wanted, `method`, `sandbox`, `headers`, `address`; each is
    answered by one line, in order.
    """  # noqa: D301  # click keeps the lines of a paragraph that begins with a backspace
    from egress import review  # noqa: PLC0415  # loaded by the command, so that --help is fast

    text = review.explain_reason(what)
    if text is not None:
        _print_reason(what, text[1], as_json=as_json)
        return
    loaded = _load(policy, presets)
    pins = _pins(resolve)
    if what == "-":
        if not as_json:
            raise typer.BadParameter("requests are read as JSON lines: write `egress explain --json -`")
        _answer_lines(loaded, pins)
        return
    question = review.make_question(
        what, method=method, sandbox=sandbox, headers=tuple(header or ()), addresses=tuple(address or ())
    )
    answer = review.explain(question, loaded, pins=pins)
    if as_json:
        typer.echo(json.dumps(answer.as_json()))
    else:
        _print(what, answer)
    if not answer.allowed:
        raise typer.Exit(1)


def _load(policies: list[str] | None, presets: list[Path] | None) -> LoadedPolicy:
    from egress.config import find_policy, load_policy  # noqa: PLC0415

    if not policies:
        raise typer.BadParameter("no policy is named: add `--policy NAME` or `--policy FILE`")
    loaded = load_policy([find_policy(text) for text in policies], presets=presets or ())
    for warning in loaded.warnings:
        typer.echo(f"warning: {warning}", err=True)
    return loaded


def _pins(texts: list[str] | None) -> Mapping[str, tuple[Address, ...]]:
    from egress.config import PinError, parse_pin  # noqa: PLC0415

    pins: dict[str, tuple[Address, ...]] = {}
    for text in texts or ():
        pin = parse_pin(text)
        if isinstance(pin, PinError):
            raise typer.BadParameter(f"{pin.message}; {pin.hint}", param_hint="--resolve")
        pins[pin.name] = (*pins.get(pin.name, ()), *pin.addresses)
    return pins


def _answer_lines(loaded: LoadedPolicy, pins: Mapping[str, tuple[Address, ...]]) -> None:
    from egress import review  # noqa: PLC0415

    for line in review.read_lines(sys.stdin.buffer):
        answer = review.explain(review.read_question(line), loaded, pins=pins)
        # ASCII only, so that text of the request cannot act on a terminal; flushed, so that a pipe can converse.
        sys.stdout.write(json.dumps(answer.as_json()) + "\n")
        sys.stdout.flush()


def _print_reason(code: str, text: ReasonText, *, as_json: bool) -> None:
    if as_json:
        fields = {"reason": code, "title": text.title, "sentence": text.sentence, "hint": text.hint}
        typer.echo(json.dumps(fields | {"status": text.status}))
        return
    typer.echo(f"{code}: {text.title}\n\n{text.sentence}")
    if text.hint:
        typer.echo(f"What to do: {text.hint}.")
    typer.echo(f"Status of the page: {text.status}")


def _print(what: str, answer: Explanation) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=True)
    colour = {"allow": "bold green", "ask": "bold yellow"}.get(answer.verdict.value, "bold red")
    # Every value is a `Text`, never markup: a URL must not style, hide or link anything.
    console.print(Text.assemble((answer.verdict.value.upper(), colour), " ", _safe(what)))
    rows = _rows(answer)
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        console.print(Text.assemble((f"  {label:<{width}}  ", "dim"), _safe(value)))


def _rows(answer: Explanation) -> list[tuple[str, str]]:
    from egress.review import lane_text  # noqa: PLC0415

    rows = [("reason", f"{answer.reason.value}: {answer.detail or answer.text.sentence}")]
    fields = answer.as_json()
    if answer.rule is not None:
        rows.append(("rule", _rule(fields["rule"])))
    if answer.request is not None:
        rows.append(
            ("destination", f"{answer.request.host.text} port {answer.request.port}, {answer.request.protocol.value}")
        )
    if answer.decision is not None:
        for say in answer.decision.says:
            verdict = say.verdict.value if say.verdict is not None else "nothing"
            place = f" ({say.rule.file}:{say.rule.line})" if say.rule is not None else ""
            rows.append((f"scope {say.scope.value}", f"{verdict}, {say.reason.value}{place}"))
        if answer.allowed:
            rows.append(("tls", answer.decision.tls.word))
            rows.extend(
                ("sets", f"{injection.header} (secret {', '.join(injection.secrets) or 'none'})")
                for injection in answer.decision.inject
            )
            if answer.decision.remove:
                rows.append(("removes", ", ".join(answer.decision.remove)))
    if answer.lane is not None and answer.request is not None:
        rows.append(("lane", f"{answer.lane.value}: {lane_text(answer.lane, answer.request.protocol)}"))
    if answer.addresses is not None:
        rows.extend(("may dial", address) for address in answer.addresses.allowed)
        rows.extend(("never dials", f"{address} ({why})") for address, why in answer.addresses.dropped)
    rows.extend(("note", note) for note in answer.notes)
    if not answer.allowed and answer.text.hint:
        rows.append(("what to do", answer.text.hint))
    return rows


def _rule(rule: object) -> str:
    if not isinstance(rule, dict):
        return ""
    name = f"{rule['name']}, " if rule["name"] else ""
    place = rule["file"] if rule["line"] is None else f"{rule['file']}:{rule['line']}"
    return f"{name}{place} (scope {rule['scope']})"


def _safe(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
