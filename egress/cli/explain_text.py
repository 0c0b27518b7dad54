"""An explanation for people: a title, then a row for each thing that there is to say.

Every value is a `Text`, never markup, and escaped: a URL must not style, hide or link anything.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import typer
from rich.console import Console
from rich.text import Text

from egress.cli.safe_text import safe
from egress.review import Outcome, dialable, lane_text, limits_values, signing_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from egress.policy import Decision, ReasonText, RuleRef, Say
    from egress.review import Explanation, ScopeTried, Tried

# Of one scope no more rules are told; JSON has them all.
SHOWN: Final = 20


def print_reason(code: str, text: ReasonText, *, as_json: bool) -> None:
    """Tell what a reason code means."""
    if as_json:
        fields = {"reason": code, "title": text.title, "sentence": text.sentence, "hint": text.hint}
        typer.echo(json.dumps(fields | {"status": text.status}))
        return
    typer.echo(f"{code}: {text.title}\n\n{text.sentence}")
    if text.hint:
        typer.echo(f"What to do: {text.hint}.")
    typer.echo(f"Status of the page: {text.status}")


def print_answer(what: str, answer: Explanation) -> None:
    """Tell an answer."""
    print_rows(what, answer.verdict.value, list(answer_rows(answer)))


def print_rows(what: str, verdict: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print a verdict, what it is about, and labelled values below; a label that repeats is left out."""
    console = Console(highlight=False, soft_wrap=True)
    colour = {"allow": "bold green", "ask": "bold yellow"}.get(verdict, "bold red")
    console.print(Text.assemble((verdict.upper(), colour), " ", safe(what)))
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        console.print(Text.assemble((f"  {label:<{width}}  ", "dim"), safe(value)))


def answer_rows(answer: Explanation) -> Iterator[tuple[str, str]]:
    """What there is to say of an answer, by label; an empty one belongs to the label above."""
    yield "reason", f"{answer.reason.value}: {answer.detail or answer.text.sentence}"
    if answer.rule is not None:
        yield "rule", _rule(answer.rule)
    if answer.request is not None:
        request = answer.request
        yield "destination", f"{request.host.text} port {request.port}, {request.protocol.value}"
    if answer.decision is not None:
        yield from _scopes(answer.asked or answer.decision, answer.tried)
        if answer.sent is not None:
            sent = answer.sent
            yield "rewritten to", f"{sent.host.text} port {sent.port}, {sent.protocol.value}, {sent.path}"
            yield from _scopes(answer.decision, ())
        if answer.allowed:
            yield from _changes(answer.decision)
    if answer.lane is not None and answer.request is not None:
        yield "lane", f"{answer.lane.value}: {lane_text(answer.lane, answer.request.protocol)}"
    yield from _addresses(answer)
    for note in answer.notes:
        yield "note", note
    if not answer.allowed and answer.text.hint:
        yield "what to do", answer.text.hint


def _scopes(decision: Decision, tried: Sequence[ScopeTried]) -> Iterator[tuple[str, str]]:
    """What each scope says, and below it each rule that was tried."""
    rules = {scope.scope: scope for scope in tried}
    for say in decision.says:
        yield f"scope {say.scope.value}", _say(say)
        own = rules.get(say.scope)
        if own is None:
            continue
        for each in own.rules[:SHOWN]:
            yield "", _tried(each)
        left = len(own.rules) - SHOWN
        more = [f"{left} more rules that name it"] if left > 0 else []
        more += [f"{own.others} that name{'s' if own.others == 1 else ''} other destinations"] if own.others else []
        if more:
            yield "", f"and {', '.join(more)}"


def _say(say: Say) -> str:
    verdict = say.verdict.value if say.verdict is not None else "nothing"
    place = f" ({_place(say.rule)})" if say.rule is not None else ""
    return f"{verdict}, {say.reason.value}{place}"


def _tried(each: Tried) -> str:
    name = f" {each.rule.name}" if each.rule.name else ""
    mark = {Outcome.SPEAKS: "=>", Outcome.MISSES: "- ", Outcome.NOT_TRIED: "  "}[each.outcome]
    return f"{mark} {_place(each.rule)} {each.verdict.value}{name}: {each.outcome.value}, {each.why}"


def _changes(decision: Decision) -> Iterator[tuple[str, str]]:
    yield "tls", decision.tls.word
    for injection in decision.inject:
        yield "sets", f"{injection.header} (secret {', '.join(injection.secrets) or 'none'})"
    for swap in decision.swap:
        places = (*swap.headers, *sorted(place.value for place in swap.places))
        needed = ", required" if swap.required else ""
        yield "swaps", f"the placeholder of {swap.secret} in {', '.join(places)}{needed}"
    if decision.remove:
        yield "removes", ", ".join(decision.remove)
    if decision.sign is not None:
        yield "signed with", signing_text(decision.sign)
    for _, limits in decision.limits:
        yield "limits", ", ".join(f"{name}: {value}" for name, value in (limits_values(limits) or {}).items())
    if decision.labels:
        yield "labels", ", ".join(f"{name}: {value}" for name, value in decision.labels)


def _addresses(answer: Explanation) -> Iterator[tuple[str, str]]:
    if answer.addresses is not None:
        for address in answer.addresses.allowed:
            yield "may dial", address
        for address, why in answer.addresses.dropped:
            yield "never dials", f"{address} ({why})"
    elif answer.allowed and answer.decision is not None:
        yield "may dial", ", ".join(["public addresses", *dialable(answer.decision)])


def _rule(rule: RuleRef) -> str:
    name = f"{rule.name}, " if rule.name else ""
    return f"{name}{_place(rule)} (scope {rule.scope.value})"


def _place(rule: RuleRef) -> str:
    return rule.file if rule.line is None else f"{rule.file}:{rule.line}"
