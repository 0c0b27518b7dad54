"""A file of another tool as plain values with lines: YAML, or JSON read as YAML, and as strictly as our own files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress.config.document import read_document
from egress.config.wording import kind_of, place_text, printable
from egress.errors import ConfigError
from egress.review.convert.loss import ConversionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.config.document import Document
    from egress.config.wording import Place

_TABS = re.compile(r"^\t+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Source:
    """A part of a foreign document: its values, and where it stands."""

    document: Document
    data: Mapping[str, object]
    place: Place = ()

    def line(self, *inner: str | int) -> int:
        """The line of something inside."""
        return self.document.line((*self.place, *inner))

    def mapping(self, key: str) -> Source | None:
        """The mapping at `key`; None if there is none. Raises ConversionError for anything else."""
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(f"should be a mapping, not {kind_of(value)}", key)
        return Source(self.document, value, (*self.place, key))

    def mappings(self, key: str) -> list[Source]:
        """The list of mappings at `key`."""
        found: list[Source] = []
        for index, item in enumerate(self._list(key)):
            if not isinstance(item, dict):
                raise self.wrong(f"should be a mapping, not {kind_of(item)}", key, index)
            found.append(Source(self.document, item, (*self.place, key, index)))
        return found

    def texts(self, key: str) -> list[tuple[str, int]]:
        """The list of texts at `key`, each with its line."""
        found: list[tuple[str, int]] = []
        for index, item in enumerate(self._list(key)):
            if not isinstance(item, str):
                raise self.wrong(f"should be text, not {kind_of(item)}", key, index)
            found.append((item, self.line(key, index)))
        return found

    def text(self, key: str) -> str | None:
        """The text at `key`; None if there is none."""
        value = self.data.get(key)
        if value is None or isinstance(value, str):
            return value
        raise self.wrong(f"should be text, not {kind_of(value)}", key)

    def word(self, key: str, *words: str) -> str | None:
        """One of `words` in any case, as it stands in `words`; None if the key is missing."""
        value = self.text(key)
        if value is None:
            return None
        known = {word.lower(): word for word in words}
        if value.lower() not in known:
            raise self.wrong(f"`{printable(value)}` is none of {', '.join(words)}", key)
        return known[value.lower()]

    def unknown(self, *known: str) -> list[str]:
        """The keys that are not among `known`."""
        return [printable(key) for key in self.data if key not in known]

    def wrong(self, message: str, *inner: str | int) -> ConversionError:
        """An error at something inside."""
        where = place_text((*self.place, *inner))
        return ConversionError(f"{self.document.file}:{self.line(*inner)}: {where}: {message}")

    def _list(self, key: str) -> list[object]:
        value = self.data.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(f"should be a list, not {kind_of(value)}", key)
        return value


def read_source(text: str, file: str) -> Source:
    """A foreign file. Raises ConfigError with what YAML says wrong."""
    # JSON may be indented with tabs, and no text of JSON's goes over a line's end.
    if text.lstrip().startswith("{"):
        text = _TABS.sub(lambda found: "  " * len(found[0]), text)
    document, problems = read_document(text, file)
    if document is None or problems:
        raise ConfigError(problems)
    return Source(document, document.data)
