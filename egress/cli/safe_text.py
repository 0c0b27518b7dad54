"""Text of requests and files as a terminal may have it. INVARIANT hostile-text: it is shown, never obeyed."""

from __future__ import annotations


def safe(text: str) -> str:
    """`text` with everything escaped that does not print, whatever its length."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
