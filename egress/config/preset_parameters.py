"""The values of a preset's parameters: which kinds there are, and what each may hold.

A value is put into targets, paths and header templates, so its characters are few: none that could end a host, begin
another segment or line, or name a secret. Each kind may stand only where its values mean what they say:

1. `hosts`: a whole target.
2. `labels`: one label of a host, or one segment of a path.
3. `paths`: whole segments of a path, with `*` and `**` as in `paths`.
4. `word`: one of the words that the preset lists.
5. `secret`: the name of a secret, in a header template as `${param.NAME}`.
6. `networks`: a range in `addresses`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from egress.config.templates import SECRET_NAME
from egress.config.wording import did_you_mean, kind_of, quoted
from egress.policy import AnyTarget, TargetError, parse_network, parse_target

if TYPE_CHECKING:
    from collections.abc import Sequence

PARAMETER_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
MAX_VALUES: Final = 200

_HOST = re.compile(r"(\*\.|\.)?[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?\Z")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_SEGMENT = re.compile(r"[A-Za-z0-9._~@+-]+\Z")
_PATH_LENGTH: Final = 300


class Kind(StrEnum):
    """What a parameter holds."""

    HOSTS = "hosts"
    LABELS = "labels"
    PATHS = "paths"
    WORD = "word"
    SECRET = "secret"  # noqa: S105  a word of the policy language
    NETWORKS = "networks"


LISTS: Final = frozenset({Kind.HOSTS, Kind.LABELS, Kind.PATHS, Kind.NETWORKS})

type Value = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wrong:
    """A value that a parameter cannot hold. `index` is its place in a list."""

    message: str
    hint: str
    index: int | None = None


def read_value(kind: Kind, given: object, words: Sequence[str] = ()) -> Value | Wrong:
    """The value of a parameter of this kind. `words` are those that a `word` may be."""
    if kind in LISTS:
        return _read_list(kind, given)
    if not isinstance(given, str):
        return Wrong(f"should be text, not {kind_of(given)}", f"write {_EXAMPLES[kind]}")
    if kind is Kind.WORD and given not in words:
        return Wrong(f"unknown word {quoted(given)}", did_you_mean(given, words))
    if kind is Kind.SECRET and not SECRET_NAME.match(given):
        return Wrong(f"{quoted(given)} is not a secret's name", f"write {_EXAMPLES[kind]}, never its value")
    return given


def _read_list(kind: Kind, given: object) -> Value | Wrong:
    items = [given] if isinstance(given, str) else given
    if not isinstance(items, (list, tuple)):
        return Wrong(f"should be text or a list of texts, not {kind_of(given)}", f"write {_EXAMPLES[kind]}")
    if not items:
        return Wrong("this list is empty, so nothing could match", "name at least one, or remove the key")
    if len(items) > MAX_VALUES:
        return Wrong(f"more than {MAX_VALUES} values", "write a rule of your own with `{file: PATH}` for long lists")
    for index, item in enumerate(items):
        wrong = _item_wrong(kind, item)
        if wrong is not None:
            return replace(wrong, index=index)
    return tuple(dict.fromkeys(items))


def _item_wrong(kind: Kind, item: object) -> Wrong | None:
    hint = f"write {_EXAMPLES[kind]}"
    if not isinstance(item, str):
        return Wrong(f"should be text, not {kind_of(item)}", hint)
    match kind:
        case Kind.HOSTS:
            return _host_wrong(item, hint)
        case Kind.NETWORKS:
            network = parse_network(item)
            return Wrong(network.message, network.hint) if isinstance(network, TargetError) else None
        case Kind.LABELS:
            return None if _LABEL.match(item) else Wrong(f"{quoted(item)} is not one label of a host name", hint)
        case _:
            usable = len(item) <= _PATH_LENGTH and all(_is_segment(segment) for segment in item.split("/"))
            return None if usable else Wrong(f"{quoted(item)} is not a path of plain segments", hint)


def _host_wrong(item: str, hint: str) -> Wrong | None:
    if not _HOST.match(item):
        return Wrong(f"{quoted(item)} is not a host", hint)
    target = parse_target(item)
    if isinstance(target, TargetError):
        return Wrong(target.message, target.hint)
    return Wrong("`**` is not a host", hint) if isinstance(target.what, AnyTarget) else None


def _is_segment(segment: str) -> bool:
    # `.` and `..` would climb out of the place that the preset gives the value.
    return segment in {"*", "**"} or (_SEGMENT.match(segment) is not None and segment not in {".", ".."})


_EXAMPLES: Final = {
    Kind.HOSTS: "`[packages.corp.example]`, with `:port` if it is not the usual one",
    Kind.LABELS: "`[acme]`: lower-case letters, digits and `-`",
    Kind.PATHS: "`[acme/app]`: letters, digits, `.`, `_`, `-` between slashes, or `*` for one segment",
    Kind.WORD: "one of its words",
    Kind.SECRET: "the name of a secret, as in `github`",
    Kind.NETWORKS: "`[10.0.0.0/8]`",
}


def example(name: str, kind: Kind, words: Sequence[str] = ()) -> str:
    """How an include gives this parameter, for hints."""
    values = {
        Kind.HOSTS: "[packages.corp.example]",
        Kind.LABELS: "[acme]",
        Kind.PATHS: "[acme/app]",
        Kind.WORD: next(iter(words), "WORD"),
        Kind.SECRET: "NAME",
        Kind.NETWORKS: "[10.0.0.0/8]",
    }
    return f"{name}: {values[kind]}"
