"""Header templates: literal text, `${name}` where a secret's value goes, `$$` for a dollar sign."""

from __future__ import annotations

import re
from typing import Final

from egress.config.wording import quoted
from egress.policy import SecretRef

SECRET_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}\Z")

_PIECE = re.compile(r"\$\$|\$\{[^{}]*\}|\$|[^$]+")
_LENGTH: Final = 4096


def read_template(text: str) -> tuple[str | SecretRef, ...]:
    """The parts of a template, in order. Raises ValueError with `message; hint`."""
    if not text or text != text.strip(" \t") or len(text) > _LENGTH:
        raise ValueError("a header's value has no space at its ends and is not empty; write `Bearer ${name}`")
    # A line break here would begin a header of its own in every request (CWE-113).
    if any(not " " <= char <= "~" for char in text):
        raise ValueError("a header's value is printable ASCII; remove the other characters")
    parts: list[str | SecretRef] = []
    for piece in _PIECE.findall(text):
        if piece == "$":
            raise ValueError("a `$` that begins no `${name}`; close the brace, or write `$$` for a dollar sign")
        if piece.startswith("${"):
            parts.append(SecretRef(_name(piece[2:-1])))
        else:
            literal = "$" if piece == "$$" else piece
            if parts and isinstance(parts[-1], str):
                parts[-1] += literal
            else:
                parts.append(literal)
    return tuple(parts)


def template_text(parts: tuple[str | SecretRef, ...]) -> str:
    """The template again, as a file writes it."""
    return "".join(f"${{{part.name}}}" if isinstance(part, SecretRef) else part.replace("$", "$$") for part in parts)


def _name(text: str) -> str:
    if not SECRET_NAME.match(text):
        raise ValueError(f"{quoted(text)} is not a secret's name; write letters, digits, `_` and `-`: `${{github}}`")
    return text
