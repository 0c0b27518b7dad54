"""Puts the values of parameters into the rules of a preset: `${param.NAME}` in targets, paths, ranges and headers.

1. A value stands only where its kind means what it says (`parameters`), `hosts` and `networks` never beside other text.
2. A list makes one entry of each value; two lists in one entry, one of each pair.
3. An optional secret that is not given leaves its header out, optional ranges or hosts their entry, and a rule that
   has no target left is left out. Only an `allow` may name them: a denial that could go missing is none.
4. A path in which a value's `*` would become part of a segment is left out of an `allow`, and the rule with its last
   path; in a `deny` or `ask` it is an error.
5. Nothing else is put into a rule, and a secret is named by a parameter alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Final, NamedTuple

from egress.config.document import Document
from egress.config.preset_parameters import Kind
from egress.config.wording import did_you_mean, kind_of, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from egress.config.preset_parameters import Value
    from egress.config.wording import Place
    from egress.errors import Problem

MAX_ENTRIES: Final = 10_000
# What `when` may say of a parameter that is no `word`.
GIVEN: Final = "given"
LEFT_OUT: Final = "left-out"

_VERBS: Final = ("allow", "deny", "ask")
_PIECE = re.compile(r"\$\$|\$\{param\.([^{}]*)\}")
_SECRET = re.compile(r"\$\$|\$\{(?!param\.)([^{}]*)\}")
# Where a key's text may hold a parameter, and of which kinds.
_KINDS: Final = {
    **dict.fromkeys(_VERBS, frozenset({Kind.HOSTS, Kind.LABELS, Kind.WORD})),
    "paths": frozenset({Kind.PATHS, Kind.LABELS, Kind.WORD}),
    "addresses": frozenset({Kind.NETWORKS}),
    "inject": frozenset({Kind.SECRET, Kind.WORD}),
}
_WHOLE: Final = frozenset({Kind.HOSTS, Kind.NETWORKS})


class Bound(NamedTuple):
    """A parameter with its value; None: optional, and not given. `words` are those that it could be."""

    kind: Kind
    value: Value | None
    words: Sequence[str] = ()


@dataclass(slots=True)
class Substitution:
    """Fills in the rules of one preset for one include. Collects problems, and the lines of what it wrote."""

    document: Document
    values: Mapping[str, Bound]
    problems: list[Problem] = field(default_factory=list)
    _lines: dict[Place, int] = field(default_factory=dict)
    _entries: int = 0

    def result(self) -> Document:
        """The document in which the filled-in rules have their lines."""
        return Document(self.document.file, self.document.data, {**self.document.lines, **self._lines})

    def rule(self, written: object, place: Place) -> object | None:
        """The rule with its values; None for one whose `when` does not hold."""
        if not isinstance(written, dict):
            return written
        if not self._holds(written.get("when"), (*place, "when"), stated="when" in written):
            return None
        filled: dict[str, object] = {}
        for key, value in written.items():
            if key == "inject" and isinstance(value, dict):
                filled[key] = self._headers(value, (*place, key))
            elif key == "sign":
                message = "a preset names no secret of its own, as `sign` would"
                self._problem((*place, key), message, "write the rule in the policy itself")
            elif key in _KINDS and key != "inject":
                filled[key] = self._entries_of(key, value, place, allows="allow" in written)
            elif key == "swap":
                message = "a preset names no secret of its own, and `swap` takes no parameter"
                self._problem((*place, key), message, "write `inject`, or a rule with `swap` beside the preset")
            elif key != "when":
                self._refuse(value, (*place, key))
                filled[key] = value
        # Without `addresses` or `inject` a rule says less; without its targets or paths it would say more.
        if any(filled.get(key) == _NOTHING for key in (*_VERBS, "paths")):
            return None
        return {key: value for key, value in filled.items() if value != _NOTHING}

    def _holds(self, when: object, place: Place, *, stated: bool) -> bool:
        if not stated:
            return True
        if not isinstance(when, dict) or not when:
            self._problem(place, f"should be a mapping of parameters, not {kind_of(when)}", "write `{access: write}`")
            return False
        holding = [self._is(name, wanted, (*place, name)) for name, wanted in when.items()]
        return all(holding)

    def _is(self, name: str, wanted: object, place: Place) -> bool:
        bound = self.values.get(name)
        if bound is None:
            self._problem(place, f"no parameter is named {quoted(name)}", did_you_mean(name, self.values))
            return False
        known, value = bound.words, bound.value
        if bound.kind is not Kind.WORD:
            known, value = (GIVEN, LEFT_OUT), LEFT_OUT if bound.value is None else GIVEN
        words = wanted if isinstance(wanted, list) else [wanted]
        for word in words:
            if word not in known:
                self._problem(place, f"unknown word {quoted(word)}", did_you_mean(str(word), known))
        return value in words

    def _entries_of(self, key: str, value: object, place: Place, *, allows: bool) -> object:
        at = (*place, key)
        if isinstance(value, str):
            return self._expand(key, value, at, allows=allows) if _PIECE.search(value) else value
        if not isinstance(value, list):
            self._refuse(value, at)
            return value
        found: list[object] = []
        for index, item in enumerate(value):
            new = [item]
            if isinstance(item, str) and _PIECE.search(item):
                new = list(self._expand(key, item, (*at, index), allows=allows))
            for offset in range(len(new)):
                self._lines[(*at, len(found) + offset)] = self.document.line((*at, index))
            found += new
        return found if found or not value else _NOTHING

    def _expand(self, key: str, text: str, place: Place, *, allows: bool) -> Sequence[object]:
        """Every entry that the text stands for."""
        pieces = _split(text)
        choices: list[Sequence[str]] = []
        for literal, name in pieces:
            if name is None:
                choices.append([literal])
                continue
            bound = self._bound(name, key, place, alone=len(pieces) == 1)
            if bound is None:
                return []
            if bound.value is None:
                if not allows:
                    message = f"{quoted(name)} may be left out, and this rule would say less without it"
                    self._problem(place, message, "give it a default, or make it required")
                return _NOTHING
            choices.append([bound.value] if isinstance(bound.value, str) else bound.value)
        return self._products(key, choices, place, allows=allows)

    def _products(self, key: str, choices: Sequence[Sequence[str]], place: Place, *, allows: bool) -> Sequence[object]:
        count = 1
        for choice in choices:
            count *= len(choice)
        self._entries += count
        if self._entries > MAX_ENTRIES:
            self._problem(place, f"the parameters make more than {MAX_ENTRIES} entries", "give fewer values")
            return []
        texts = ["".join(parts) for parts in product(*choices)]
        if key != "paths":
            return texts
        whole = [text for text in texts if not _has_part_wildcard(text)]
        if len(whole) < len(texts) and not allows:
            self._problem(place, "a `*` of the value would stand beside other text", "give whole names here")
        return whole or _NOTHING

    def _headers(self, written: dict[str, object], place: Place) -> object:
        found = {header: self._header(value, (*place, header)) for header, value in written.items()}
        filled = {header: value for header, value in found.items() if value != _NOTHING}
        return filled if filled or not written else _NOTHING

    def _header(self, written: object, place: Place) -> object:
        """A header's value, which may be a mapping of several; nothing where a secret that it needs is not given."""
        if isinstance(written, dict):
            parts = {key: self._header(value, (*place, key)) for key, value in written.items()}
            return _NOTHING if _NOTHING in parts.values() else parts
        if not isinstance(written, str):
            return written
        for match in _SECRET.finditer(written):
            if match[1] is not None:
                message = f"a preset names no secret of its own, as {quoted(match[0])} would"
                self._problem(place, message, "write `${param.secret}`, with a parameter of type `secret`")
        text = self._template(written, place)
        return _NOTHING if text is None else text

    def _template(self, template: str, place: Place) -> str | None:
        """The template with secrets' names; None where a secret that it needs is not given."""
        out = ""
        for literal, name in _split(template):
            if name is None:
                out += literal
                continue
            bound = self._bound(name, "inject", place, alone=False)
            if bound is None or not isinstance(bound.value, str):
                return None
            out += f"${{{bound.value}}}" if bound.kind is Kind.SECRET else bound.value
        return out

    def _bound(self, name: str, key: str, place: Place, *, alone: bool) -> Bound | None:
        bound = self.values.get(name)
        if bound is None:
            self._problem(place, f"no parameter is named {quoted(name)}", did_you_mean(name, self.values))
        elif bound.kind not in _KINDS[key]:
            self._problem(
                place, f"a parameter of type `{bound.kind}` cannot stand in `{key}`", "see the preset's parameters"
            )
            return None
        elif bound.kind in _WHOLE and not alone:
            self._problem(place, f"a parameter of type `{bound.kind}` stands alone", "write nothing beside it")
            return None
        return bound

    def _refuse(self, value: object, place: Place) -> None:
        """A parameter where none can stand would be taken as text, and the rule would mean something else."""
        if isinstance(value, str) and "${param." in value:
            message = "a parameter stands in targets, `paths`, `addresses` and `inject` only"
            self._problem(place, message, "write the value, or a rule of its own with `when`")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self._refuse(item, (*place, index))
        elif isinstance(value, dict):
            for key, item in value.items():
                self._refuse(item, (*place, key))

    def _problem(self, place: Place, message: str, hint: str) -> None:
        self.problems.append(self.document.problem(place, message, hint))


_NOTHING: Final[tuple[object, ...]] = ()


def _has_part_wildcard(path: str) -> bool:
    return any("*" in segment and segment not in {"*", "**"} for segment in path.split("/"))


def _split(text: str) -> list[tuple[str, str | None]]:
    """Literal pieces, and the names of parameters between them. `$$` stays as it is written."""
    pieces: list[tuple[str, str | None]] = []
    at = 0
    for match in _PIECE.finditer(text):
        if match[1] is None:
            continue
        if match.start() > at:
            pieces.append((text[at : match.start()], None))
        pieces.append(("", match[1]))
        at = match.end()
    if at < len(text):
        pieces.append((text[at:], None))
    return pieces
