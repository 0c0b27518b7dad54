"""Values that must be seen nowhere, the forms that they might be seen in, and the search for them.

A form is searched for in any case of its letters, so that a digit of an escape hides nothing.
"""

from __future__ import annotations

import base64
import json
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


class Form(StrEnum):
    """How a value might be written."""

    PLAIN = "plain"
    BASE64 = "base64"
    URL = "url"
    JSON = "json"
    HTML = "html"
    HEX = "hex"
    REVERSED = "reversed"
    HALF = "half"


# What the scrubbing of answers takes out; the others are stated in docs/limits.md.
PROMISED = frozenset({Form.PLAIN, Form.BASE64, Form.URL, Form.JSON, Form.HTML})


def canary(name: str, *, harmless: bool = False) -> str:
    """A value like no other, with characters that every way of writing escapes; none of them if `harmless`."""
    digits = sha256(name.encode()).hexdigest()
    return f"Cn{digits[:16]}-{digits[16:32]}~9" if harmless else f'Cn{digits[:16]}/+"&{digits[16:32]}=9'


def spellings(value: str) -> Iterator[tuple[Form, bytes]]:
    """What is searched for."""
    data = value.encode()
    yield Form.PLAIN, data
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + data)
        # The characters that hang on the value alone, whatever stands around it.
        kept = coded[-(-shift * 8 // 6) : (shift + len(data)) * 8 // 6]
        yield Form.BASE64, kept
        yield Form.BASE64, kept.translate(bytes.maketrans(b"+/", b"-_"))
    yield Form.URL, quote(value, safe="").encode()
    yield Form.URL, quote_plus(value).encode()
    yield Form.URL, b"".join(b"%%%02x" % byte for byte in data)
    yield Form.JSON, json.dumps(value)[1:-1].encode()
    yield Form.JSON, b"".join(b"\\u%04x" % byte for byte in data)
    yield Form.HTML, b"".join(b"&#%d;" % byte for byte in data)
    yield Form.HEX, data.hex().encode()
    yield Form.REVERSED, data[::-1]
    yield Form.HALF, data[: len(data) // 2]
    yield Form.HALF, data[len(data) // 2 :]


def echoes(value: str) -> list[bytes]:
    """What a server may send that was sent the value: each form that is promised to be taken out, in either case."""
    data = value.encode()
    texts = [text for form, text in spellings(value) if form in PROMISED - {Form.BASE64}]
    coded = [base64.b64encode(b"u" * before + data + b"v" * 3) for before in range(3)]
    coded += [base64.urlsafe_b64encode(b"u" * before + data) for before in range(3)]
    escaped = [b"".join(style % byte for byte in data) for style in (b"%%%02X", b"\\u%04X", b"\\x%02x", b"&#x%x;")]
    return [*texts, *coded, *escaped]


def found(data: bytes, canaries: Mapping[str, str], forms: Iterable[Form] = Form) -> list[str]:
    """Which values stand in `data`, and in which form."""
    lower, wanted = data.lower(), frozenset(forms)
    return [
        f"`{name}` as {form}"
        for name, value in canaries.items()
        for form, text in spellings(value)
        if form in wanted and text.lower() in lower
    ]


def found_below(folder: Path, canaries: Mapping[str, str], but: Iterable[Path] = ()) -> list[str]:
    """Which values stand in a file, or in a file's name, below a folder. Databases are read as the bytes they are."""
    left_out = frozenset(but)
    return [
        f"{path.relative_to(folder)}: {what}"
        for path in sorted(folder.rglob("*"))
        if path not in left_out and not left_out & frozenset(path.parents)
        for what in found(
            str(path).encode() + b"\n" + (path.read_bytes() if path.is_file() else b""),
            canaries,
        )
    ]
