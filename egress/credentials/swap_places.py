"""A placeholder becomes its secret's value, in one place each: a header, a query, a path, a body. Pure.

1. only whole values are changed: a header's, a parameter's, a path's segment, a JSON string; never a name or a key
2. the value is written as its place asks, so that it cannot end the place it stands in
3. what cannot be read in one way is not changed; who calls finds the placeholder still there, and refuses
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

# A JSON string, and what shows that it is a key.
_STRING: Final = re.compile(r'("(?:[^"\\]|\\.)*+")(\s*:)?', re.DOTALL)
# So much may values add to a request: a short placeholder, many times, would make a small body huge.
_GROWTH: Final = 256 * 1024
_CHARSET: Final = re.compile(r"charset\s*=[\s\"']*([^\s\"';,]*)", re.IGNORECASE)
_CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
_FORM: Final = "application/x-www-form-urlencoded"


class TooMuchError(Exception):
    """The placeholder is there so many times that the request would grow beyond reason."""


class Putting:
    """Puts one secret in place of its placeholder, within one request. INVARIANT bounded: `left` is what it may add."""

    __slots__ = ("left", "placeholder", "secret")

    def __init__(self, placeholder: str, secret: str, most: int = _GROWTH) -> None:
        self.placeholder = placeholder
        self.secret = secret
        self.left = most

    def into(self, text: str) -> str:
        """The text with the secret. Raises TooMuchError."""
        self.left -= text.count(self.placeholder) * len(self.secret)
        if self.left < 0:
            raise TooMuchError
        return text.replace(self.placeholder, self.secret)


def in_header(value: str, put: Putting) -> str | None:
    """The header's value with the secret, also inside HTTP Basic (RFC 7617); None if the placeholder is not there."""
    if put.placeholder in value:
        return put.into(value)
    scheme, _, rest = value.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        said = base64.b64decode(rest.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None
    user, _, _ = said.partition(":")
    if put.placeholder not in said or (put.placeholder in user and ":" in put.secret):
        return None
    return f"{scheme} {base64.b64encode(put.into(said).encode()).decode()}"


def in_query(query: str, put: Putting) -> str | None:
    """The query with the secret in the values of its parameters; None if the placeholder is in none."""
    fields = [_in_parameter(field, put) for field in query.split("&")]
    changed = "&".join(fields)
    return None if changed == query else changed


def in_path(path: str, put: Putting) -> str | None:
    """The path with the secret in its segments; None if the placeholder is in none."""
    segments = [_in_segment(segment, put) for segment in path.split("/")]
    changed = "/".join(segments)
    return None if changed == path else changed


def in_body(body: bytes, content_type: str, put: Putting) -> bytes | None:
    """The body with the secret in its strings or values; None if the placeholder is in none. Raises ValueError.

    ValueError: it is neither JSON nor a form, or says that it is written otherwise than we read it.
    """
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    if any(charset.lower() not in _CHARSETS for charset in _CHARSET.findall(parameters)):
        raise ValueError
    text = body.decode("utf-8")
    if kind == _FORM:
        changed = in_query(text, put)
    elif kind == "application/json" or kind.endswith("+json"):
        changed = _in_json(text, put)
    else:
        raise ValueError
    return None if changed is None else changed.encode()


def _in_parameter(field: str, put: Putting) -> str:
    name, equals, value = field.partition("=")
    said = unquote_plus(value)
    return f"{name}{equals}{quote_plus(put.into(said))}" if put.placeholder in said else field


def _in_segment(segment: str, put: Putting) -> str:
    said = unquote(segment)
    return quote(put.into(said), safe=":@") if put.placeholder in said else segment


def _in_json(text: str, put: Putting) -> str | None:
    try:
        # What is no JSON has strings that begin elsewhere than they seem to.
        json.loads(text)
    except RecursionError:
        raise ValueError from None

    def changed(match: re.Match[str]) -> str:
        if match[2] is not None:
            return match[0]
        said: str = json.loads(match[1])
        return json.dumps(put.into(said)) if put.placeholder in said else match[0]

    whole = _STRING.sub(changed, text)
    return None if whole == text else whole
