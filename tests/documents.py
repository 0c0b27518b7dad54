"""The written documents as data: their fenced blocks, links, headings, and the command lines that they show."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^(?P<fence>`{3,})(?P<kind>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=fence)\s*$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
SUBSTITUTION = re.compile(r"\$\(([^()]+)\)")
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: the document, its line (from 1), the word after the fence, and the text inside."""

    document: Path
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True, slots=True)
class CommandLine:
    """One command line of ours that a document shows."""

    place: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place} {' '.join(self.words)}"


def documents() -> list[Path]:
    """Give every written document: those of the top folder and those under docs/."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def blocks(document: Path, *kinds: str) -> list[Block]:
    """Give a document's fenced blocks of these kinds; all, if none is named."""
    text = document.read_text()
    found = [
        Block(document, text.count("\n", 0, match.start()) + 1, match["kind"], match["text"])
        for match in FENCE.finditer(text)
    ]
    return [block for block in found if not kinds or block.kind in kinds]


def prose(document: Path) -> str:
    """Give a document without its fenced blocks."""
    return FENCE.sub("", document.read_text())


def links(document: Path) -> list[str]:
    """Give the targets of a document's links, images left out."""
    return LINK.findall(INLINE.sub("", prose(document)))


def anchors(document: Path) -> set[str]:
    """Give the anchors that a document's headings make, as the usual Markdown renderers do."""
    headings = re.findall(r"^#+\s+(.*)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def command_lines(document: Path, program: str) -> list[CommandLine]:
    """Give the lines of shell blocks, and the code in running text, that start with this program."""
    shown: list[tuple[str, str]] = []
    for block in blocks(document, "sh", "shell", "console", "bash"):
        joined = block.text.replace("\\\n", " ")
        shown += [(str(block), line.strip().removeprefix("$ ")) for line in joined.splitlines()]
    place = str(document.relative_to(ROOT))
    shown += [(place, code) for code in INLINE.findall(prose(document))]
    found = []
    for where, line in shown:
        found += [
            CommandLine(where, tuple(shlex.split(part, comments=True)))
            for part in (line, *SUBSTITUTION.findall(line))
            if re.match(rf"(\.venv/bin/)?{program}(\s|$)", part)
        ]
    return found
