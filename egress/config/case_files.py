"""Reads files of cases, for `egress policy test`: which requests a policy is asked, and what it must say to each.

1. A file with any problem is not used at all, and all of its problems are told at once, each with its line.
2. A file without a case is an error: a test that tests nothing passes for ever.
3. `policy` names policies as `--policy` does, with paths from the folder of the file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, Field, PlainValidator

from egress.config.checking import check
from egress.config.document import read_document
from egress.config.fields import MomentField, NameField, listed, text, wrong
from egress.config.policy_model import Strict, TextField, VerdictField
from egress.config.reading import read_text
from egress.config.sources import PolicySource, find_policy
from egress.config.wording import did_you_mean, kind_of, printable, quoted
from egress.errors import ConfigError, Problem
from egress.policy import Lane, Reason, Refusal, Verdict, parse_host

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from enum import StrEnum
    from pathlib import Path

    from egress.config.document import Document
    from egress.config.wording import Place

# Where keys of later versions are looked up; a file of cases has none.
_SECTION = "cases"
_START = "start with `policy: policy.yaml`, then `cases:`"
_EXAMPLE = "write `cases:`, and under it `- {request: GET https://api.example.com/, expect: deny}`"


@dataclass(frozen=True, slots=True)
class Case:
    """One request, as it is written, and what must come out of it. None: the case does not say.

    `headers` are `Name: value` texts. `rule` is a rule's name or `file:line`. `inject` are the names, in lower case, of
    all headers that are set. `body` is the request's, whole. `at`: when it is asked, for rules with `until`; None: now.
    """

    file: str
    line: int
    request: str
    method: str | None
    url: str
    expect: Verdict
    name: str | None = None
    headers: tuple[str, ...] = ()
    sandbox: str | None = None
    addresses: tuple[str, ...] = ()
    reason: Reason | None = None
    rule: str | None = None
    inject: frozenset[str] | None = None
    lane: Lane | None = None
    body: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CaseFile:
    """The cases of one file in order, and the policies that it names; none, if it leaves them to the command line."""

    file: str
    policies: tuple[PolicySource, ...]
    cases: tuple[Case, ...]


def read_cases(path: Path) -> CaseFile:
    """Read a file of cases. Raises ConfigError with every problem of the file."""
    name = printable(str(path))
    found = read_text(path)
    if found.text is None:
        raise ConfigError(found.problems)
    document, problems = read_document(found.text, name)
    problems = [_in_these_words(problem) for problem in problems]
    if document is None:
        raise ConfigError(problems)
    top = {key: value for key, value in document.data.items() if key != "cases"}
    model, told = check(_TopModel, top, document, (), _SECTION)
    problems.extend(told)
    sources = [] if model is None else _sources(model.policy or [], document, path.parent, problems)
    cases = _cases(document, problems)
    if problems:
        raise ConfigError(sorted(problems, key=lambda problem: problem.line or 0))
    return CaseFile(name, tuple(sources), tuple(cases))


def _in_these_words(problem: Problem) -> Problem:
    """A hint that speaks of policies, where the reader says that the whole file is none."""
    return replace(problem, hint=_START) if "`version: 1`" in problem.hint else problem


def _sources(texts: list[str], document: Document, folder: Path, problems: list[Problem]) -> list[PolicySource]:
    sources = []
    for index, name in enumerate(texts):
        try:
            source = find_policy(name)
        except ConfigError as error:
            problems.extend(document.problem(("policy", index), each.message, each.hint) for each in error.problems)
        else:
            sources.append(replace(source, path=folder / source.path))
    return sources


def _cases(document: Document, problems: list[Problem]) -> list[Case]:
    written = document.data.get("cases")
    if not isinstance(written, list) or not written:
        what = kind_of(written) if written != [] else "an empty one"
        message = "`cases` is missing" if "cases" not in document.data else f"should be a list of cases, not {what}"
        problems.append(document.problem(("cases",) if "cases" in document.data else (), message, _EXAMPLE))
        return []
    cases = []
    for index, item in enumerate(written):
        place: Place = ("cases", index)
        model, told = check(_CaseModel, item, document, place, _SECTION)
        problems.extend(told)
        if model is not None:
            cases.append(_case(model, document, place))
    return cases


def _case(model: _CaseModel, document: Document, place: Place) -> Case:
    method, url = model.request
    return Case(
        file=document.file,
        line=document.line(place),
        request=url if method is None else f"{method} {url}",
        method=method,
        url=url,
        expect=model.expect,
        name=model.name,
        headers=model.headers or (),
        sandbox=model.sandbox,
        addresses=tuple(model.address or ()),
        reason=model.reason,
        rule=model.rule,
        inject=None if model.inject is None else frozenset(name.lower() for name in model.inject),
        lane=model.lane,
        body=model.body,
        at=model.at,
    )


def _request(value: object) -> tuple[str | None, str]:
    """`METHOD URL`, or a URL alone, as `egress explain` takes them; the answer says what is wrong with a URL."""
    hint = "write `GET https://api.example.com/path`"
    match text(value).split():
        case [url] if not (url.isalpha() and url.isupper()):
            return None, url
        case [method, url]:
            return method, url
        case _:
            raise wrong(f"{quoted(value)} is not a request", hint)


def _headers(value: object) -> tuple[str, ...]:
    """`{Name: value}`; a list of values is a header that stands there several times."""
    if not isinstance(value, dict):
        raise wrong(f"should be a mapping, not {kind_of(value)}", "write `{Accept: text/html}`")
    found: list[str] = []
    for name, item in value.items():
        if not name or ":" in name:
            raise wrong(f"{quoted(name)} is not a header name", "write letters, digits and `-`, as in `Accept`")
        found += [f"{name}: {text(each)}" for each in (item if isinstance(item, list) else [item])]
    return tuple(found)


def _body(value: object) -> str:
    """Text as it is sent, or what becomes JSON."""
    if not isinstance(value, (str, dict, list)):
        raise wrong(
            f"should be a body, not {kind_of(value)}", 'write it as text, or as a mapping: `{query: "{ viewer }"}`'
        )
    return value if isinstance(value, str) else json.dumps(value)


def _address(value: object) -> str:
    address = text(value)
    host = parse_host(address, brackets=True)
    if isinstance(host, Refusal) or host.address is None:
        raise wrong(f"{quoted(address)} is not an IP address", "write what the name resolves to, as in `10.1.2.3`")
    return address


def _names(value: object) -> object:
    return value if value == [] else listed(value)


def _word(kind: type[StrEnum]) -> Callable[[object], StrEnum]:
    words = {member.value: member for member in kind}

    def read(value: object) -> StrEnum:
        if not isinstance(value, str) or value not in words:
            said = quoted(value) if isinstance(value, str) else kind_of(value)
            raise wrong(f"unknown word {said}", did_you_mean(str(value), words))
        return words[value]

    return read


class _TopModel(Strict):
    """What stands beside the cases."""

    policy: Annotated[list[TextField], BeforeValidator(listed)] | None = None


class _CaseModel(Strict):
    """One case."""

    name: NameField | None = None
    request: Annotated[tuple[str | None, str], PlainValidator(_request)] = Field()
    headers: Annotated[tuple[str, ...], PlainValidator(_headers)] | None = None
    sandbox: TextField | None = None
    address: Annotated[list[Annotated[str, PlainValidator(_address)]], BeforeValidator(listed)] | None = None
    expect: VerdictField = Field()
    reason: Annotated[Reason, PlainValidator(_word(Reason))] | None = None
    rule: TextField | None = None
    inject: Annotated[list[TextField], BeforeValidator(_names)] | None = None
    lane: Annotated[Lane, PlainValidator(_word(Lane))] | None = None
    body: Annotated[str, PlainValidator(_body)] | None = None
    at: MomentField | None = None
