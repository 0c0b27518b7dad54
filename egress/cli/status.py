"""`egress status`: what the proxy of a state folder is doing, and whether it is ready."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from egress.cli.options import StateDir, state_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The proxy waits one second for its processes.
_SECONDS = 5.0
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400

Ready = Annotated[bool, typer.Option("--ready", help="Only whether it is ready, fast: for probes.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, with everything.")]


def register(app: typer.Typer) -> None:
    """Add the `status` command to `app`."""
    app.command("status")(status)


def status(*, state_dir: StateDir = None, as_json: AsJson = False, ready: Ready = False) -> None:
    """Show the policy in force, the processes, and what they count. Fit as a health check.

    \b
    Examples:
      egress status
      egress status --state-dir .state
      egress status --json | jq .counters
      egress status --ready

    Exit 0: ready, which means that a policy is in force, the hub and all workers serve, and the
    audit can be written. Exit 1: not ready, or no proxy runs.
    """  # noqa: D301 -- \b is click's mark for lines that must not be joined
    from egress.errors import StateError  # noqa: PLC0415 -- `egress --help` needs none of it
    from egress.server.control_client import ask  # noqa: PLC0415

    answer = ask(state_folder(state_dir), {"command": "status"}, seconds=_SECONDS)
    if "ready" not in answer:
        raise StateError(f"the proxy does not tell: {answer.get('error')}")
    if as_json:
        told = {key: answer[key] for key in ("ready", "checks", "reasons")} if ready else answer
        typer.echo(json.dumps(told))
    elif ready and answer["ready"]:
        # Nothing else is loaded: an orchestrator asks every few seconds.
        typer.echo("ready")
    else:
        from egress.audit import printable  # noqa: PLC0415 -- loads more than a probe needs

        for line in answer["reasons"] if ready else _lines(answer):
            typer.echo(printable(line))
    if not answer["ready"]:
        raise typer.Exit(1)


def _lines(answer: Mapping[str, Any]) -> Iterator[str]:
    yield "ready" if answer["ready"] else "NOT READY"
    yield from (f"  {reason}" for reason in answer["reasons"])
    policy = answer["policy"]
    reporting = policy["reporting"]
    if reporting:
        yield f"REPORT MODE: what scope {' and scope '.join(reporting)} would refuse PASSES, recorded as would-deny"
    if policy["last_good"]:
        yield f"WARNING: {policy['last_good']}"
        yield from (f"  {problem}" for problem in policy["problems"])
    yield f"proxy        {answer['listening']}, egress {answer['version']}, up {_duration(answer['uptime'])}"
    yield from (_listener(one) for one in answer["listeners"] if one["kind"] != "proxy")
    if answer.get("upstream_proxy"):
        yield f"way out      {answer['upstream_proxy']}"
    yield f"policy       generation {policy['generation']}, {policy['digest']}"
    yield f"  loaded     {_moment(policy['loaded'])}{'' if policy['watched'] else ', files are not watched'}"
    yield from (f"  scope      {_scope(scope)}" for scope in policy["scopes"])
    if policy["sandboxes"] is not None:
        yield f"  sandboxes  {policy['sandboxes']}, a client that is none of them is refused"
    yield from (f"  file       {path}" for path in policy["files"])
    yield from _reload(answer["reload"])
    yield from (_process(process) for process in answer["processes"])
    yield f"connections  {answer['connections']}, requests and tunnels under way {answer['open']}"
    yield from _counters(answer["counters"])


def _listener(one: Mapping[str, Any]) -> str:
    destination = f" to {one['destination']}" if one["destination"] else ""
    mode = f", mode {one['mode']}" if one["mode"] else ""
    return f"{one['kind']:<12} {one['address']}{destination}{mode}"


def _scope(scope: Mapping[str, Any]) -> str:
    rules = "1 rule" if scope["rules"] == 1 else f"{scope['rules']} rules"
    default = "no default" if scope["default"] is None else f"default {scope['default']}"
    mode = "" if scope["mode"] is None else f", mode {scope['mode']}"
    return f"{scope['scope']}: {rules}, {default}{mode}"


def _reload(last: Mapping[str, Any] | None) -> Iterator[str]:
    if last is None:
        return
    if last["done"]:
        yield f"last reload  {_moment(last['moment'])}, {last['cut']} cut"
        return
    yield f"last reload  {_moment(last['moment'])}, REFUSED: the policy was kept"
    yield from (f"  {problem}" for problem in last["problems"])


def _process(process: Mapping[str, Any]) -> str:
    state = {"ready": "", "silent": ", DOES NOT ANSWER", "starting": ", starting"}[process["state"]]
    lanes = f", lanes {' and '.join(process['lanes'])}" if process["lanes"] else ""
    return f"{process['name']:<12} pid {process['pid']}, up {_duration(process['uptime'])}{lanes}{state}"


def _counters(counters: Mapping[str, Any]) -> Iterator[str]:
    if counters["since"] is None:
        return
    verdicts = counters["verdicts"]
    told = [f"{verdicts.get('allow', 0)} allowed", f"{verdicts.get('deny', 0)} denied"]
    told += [f"{count} {verdict}" for verdict, count in sorted(verdicts.items()) if verdict not in {"allow", "deny"}]
    yield f"decisions    {', '.join(told)}, since {_moment(counters['since'])}"
    yield f"audit        {counters['recorded']} rows recorded, {counters['refused']} refused"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")


def _duration(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h" if seconds < _DAY else f"{seconds / _DAY:.1f} d"
