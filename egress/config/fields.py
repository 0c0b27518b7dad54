"""The values inside a rule and how each is read: targets, ports, methods, paths, headers, templates, ranges.

Each reader takes what YAML gave and returns the policy core's value, or raises `wrong(message, hint)`, which pydantic
collects, so that every bad value of a file is told at once.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import PlainValidator
from pydantic_core import PydanticCustomError

from egress.config.sandbox_fields import MARK, read_chosen, read_target, sampled
from egress.config.wording import did_you_mean, kind_of, one_of, printable, quoted
from egress.policy import (
    AnyTarget,
    Mode,
    Network,
    PathPattern,
    PortRange,
    Protocol,
    Scheme,
    Target,
    TargetError,
    TlsMode,
    Verdict,
    compile_path,
    parse_network,
    parse_target,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from enum import Enum

READ_ONLY: Final = frozenset({"GET", "HEAD", "OPTIONS"})
HIGHEST_PORT: Final = 65535

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110, section 5.6.2
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?\Z")
# RFC 3339: date, time, and an offset that is never left out.
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})\Z"
)
_LABEL_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}\Z")
_LABEL_LENGTH: Final = 100
_NAME_LENGTH: Final = 100


def wrong(message: str, hint: str = "") -> PydanticCustomError:
    """An error of a value, with what to write."""
    # The texts travel as context: pydantic would read braces in the message itself as places to fill.
    return PydanticCustomError("wrong", "{message}", {"message": printable(message), "hint": printable(hint)})


def text(value: object) -> str:
    """`value`, which must be text."""
    if isinstance(value, str):
        return value
    # `012` and `3.10` in quotes, not `12` and `3.1`, which are other texts.
    written = getattr(value, "written", str(value).lower())
    hint = f'put it in quotes: `"{printable(written)}"`' if isinstance(value, (int, float)) else "write text"
    raise wrong(f"should be text, not {kind_of(value)}", hint)


def target(verdict: Verdict) -> Callable[[object], Target]:
    """A reader for a host, wildcard, address or range, each with or without `:port`."""

    def read(value: object) -> Target:
        written = text(value)
        parsed = read_target(written, verdict) if MARK in written else parse_target(written, verdict=verdict)
        if isinstance(parsed, TargetError):
            raise wrong(parsed.message, parsed.hint)
        return parsed

    return read


def bound_host(value: object) -> Target:
    """A host that a secret is bound to: a target that names something."""
    parsed = target(Verdict.ALLOW)(value)
    if MARK in str(value):
        raise wrong("a secret is bound to hosts that are written out, without templates", "name the hosts")
    if isinstance(parsed.what, AnyTarget):
        raise wrong("a secret is bound to hosts that are named, not to any", "name the hosts it may be sent to")
    return parsed


def port_range(value: object) -> PortRange:
    """`443` or `8000-8010`."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise wrong(f"should be a port or a range of ports, not {kind_of(value)}", "write `443` or `8000-8010`")
    found = _PORTS.match(str(value))
    if found is None:
        raise wrong(f"{quoted(value)} is not a port or a range of ports", "write `443` or `8000-8010`")
    first = int(found[1])
    last = int(found[2]) if found[2] else first
    if not 1 <= first <= HIGHEST_PORT or not 1 <= last <= HIGHEST_PORT:
        raise wrong(f"{quoted(value)} is outside the ports from 1 to {HIGHEST_PORT}", "write `443` or `8000-8010`")
    if first > last:
        raise wrong(f"the range {quoted(value)} ends before it begins", f"write `{last}-{first}`")
    return PortRange(first, last)


def method(value: object) -> str:
    """An upper-case method token."""
    token = text(value)
    if token == "read-only":  # noqa: S105  a word of the policy language
        raise wrong("`read-only` stands for a whole list of methods", "write `methods: read-only`, or name each method")
    if not _TOKEN.match(token):
        raise wrong(f"{quoted(token)} is not an HTTP method", "write upper-case methods, as in `[GET, POST]`")
    if token.lower().replace("_", "-") in {"read-only", "readonly", "read"}:
        raise wrong(f"unknown word {quoted(token)}", "did you mean `methods: read-only`?")
    if token != token.upper():
        raise wrong(
            f"methods are upper-case, and {quoted(token)} is another method than `{token.upper()}`",
            f"write `{token.upper()}`",
        )
    if token == "CONNECT":  # noqa: S105  a method
        raise wrong("`CONNECT` opens a tunnel and is judged by host and port", "remove it from `methods`")
    if token == "TRACE":  # noqa: S105  a method
        raise wrong("`TRACE` makes a server send back what it got, injected secrets too", "remove it from `methods`")
    return token


def path_pattern(value: object) -> str:
    """A path pattern that the policy core can compile, as written."""
    pattern = text(value)
    if "?" in pattern or "#" in pattern:
        raise wrong(
            f"{quoted(pattern)} holds a query or fragment", "write the path alone; it is matched without its query"
        )
    sample = sampled(pattern)
    if isinstance(sample, TargetError):
        raise wrong(sample.message, sample.hint)
    compiled = compile_path(sample)
    if not isinstance(compiled, PathPattern):
        raise wrong(compiled.message, compiled.hint)
    return pattern


def chosen_sandbox(value: object) -> str:
    """`NAME` of a sandbox, or `label=value`."""
    found = read_chosen(text(value))
    if isinstance(found, TargetError):
        raise wrong(found.message, found.hint)
    return found


def one_word[Meaning](words: Mapping[str, Meaning]) -> Callable[[object], Meaning]:
    """Reads one of these words."""

    def read(value: object) -> Meaning:
        if not isinstance(value, str):
            raise wrong(f"should be {one_of(words)}, not {kind_of(value)}")
        if value not in words:
            raise wrong(f"unknown word {quoted(value)}", did_you_mean(value, words))
        return words[value]

    return read


def word(kind: type[Protocol | TlsMode | Verdict | Mode | Scheme]) -> Callable[[object], Enum]:
    """A reader for one of a fixed set of words."""
    return one_word({member.word if isinstance(member, TlsMode) else member.value: member for member in kind})


def network(value: object) -> Network:
    """An address or a CIDR range."""
    parsed = parse_network(text(value))
    if isinstance(parsed, TargetError):
        raise wrong(parsed.message, parsed.hint)
    return parsed


def rule_name(value: object) -> str:
    """A rule's name: one line of text."""
    name = text(value)
    if not name.strip() or not name.isprintable() or len(name) > _NAME_LENGTH:
        raise wrong("a name is one line of 1 to 100 printable characters", "write `name: model API`")
    return name


def moment(value: object) -> datetime:
    """A time with its offset from UTC (RFC 3339)."""
    written = text(value)
    hint = "write `2026-12-31T18:00:00Z`"
    if not _MOMENT.match(written):
        raise wrong(f"{quoted(written)} is not a date and time with an offset", hint)
    try:
        return datetime.fromisoformat(written.upper())
    except ValueError:
        raise wrong(f"{quoted(written)} is no such time", hint) from None


def label(value: object) -> str:
    """A label's value: one short line of text."""
    found = text(value)
    if not found.isprintable() or not found.strip() or len(found) > _LABEL_LENGTH:
        raise wrong(f"a label is one line of 1 to {_LABEL_LENGTH} printable characters", "write `ticket: OPS-1`")
    return found


def label_name(value: object) -> str:
    """A label's name."""
    name = text(value)
    if not _LABEL_NAME.match(name):
        raise wrong(f"{quoted(name)} is not a name for a label", "write letters, digits, `_`, `.` and `-`: `ticket`")
    return name


def listed(value: object) -> object:
    """One value stands for a list of it; an empty list is a mistake in every place."""
    if value == []:
        raise wrong("this list is empty, so nothing could match", "name at least one, or remove the key")
    return [value] if isinstance(value, (str, int, float)) else value


type AllowedField = Annotated[Target, PlainValidator(target(Verdict.ALLOW), json_schema_input_type=str)]
type RefusedField = Annotated[Target, PlainValidator(target(Verdict.DENY), json_schema_input_type=str)]
type BoundHostField = Annotated[Target, PlainValidator(bound_host, json_schema_input_type=str)]
type PortField = Annotated[PortRange, PlainValidator(port_range, json_schema_input_type=int | str)]
type MethodField = Annotated[str, PlainValidator(method, json_schema_input_type=str)]
type PathField = Annotated[str, PlainValidator(path_pattern, json_schema_input_type=str)]
type NetworkField = Annotated[Network, PlainValidator(network, json_schema_input_type=str)]
type MomentField = Annotated[datetime, PlainValidator(moment, json_schema_input_type=str)]
type LabelField = Annotated[str, PlainValidator(label, json_schema_input_type=str)]
type LabelNameField = Annotated[str, PlainValidator(label_name, json_schema_input_type=str)]
type SandboxField = Annotated[str, PlainValidator(chosen_sandbox, json_schema_input_type=str)]
type NameField = Annotated[str, PlainValidator(rule_name, json_schema_input_type=str)]
