"""What somebody asks of a policy: a URL and what the request would carry. Read from JSON, one object a line."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from egress.policy import Address, Reason, Refusal, parse_host

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

MAX_LINE_BYTES: Final = 262_144
_MAX_FIELDS: Final = 100
_MAX_ADDRESSES: Final = 100

KEYS: Final = ("url", "method", "sandbox", "headers", "address", "query", "body")
DEFAULT_SANDBOX: Final = "default"
# The id of a decision, as the audit has it: 26 characters of Crockford's base 32.
DECISION_ID: Final = re.compile(r"[0-9a-hjkmnp-tv-z]{26}\Z")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110, section 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*\Z")  # RFC 9110, section 5.5: no CR, LF, NUL or other control


@dataclass(frozen=True, slots=True)
class Question:
    """One question. `method` None: GET where a request has one. `addresses`: what the name resolves to, if known.

    `ignored` are keys of the JSON object that mean nothing here. `body` is the whole of the request's, None for none.
    """

    url: str
    method: str | None = None
    sandbox: str = DEFAULT_SANDBOX
    headers: tuple[tuple[str, str], ...] = ()
    addresses: tuple[Address, ...] = ()
    ignored: tuple[str, ...] = ()
    body: bytes | None = None


class _Bad(Exception):  # noqa: N818  carries a refusal out of nested reading, and never leaves this module
    def __init__(self, detail: str, reason: Reason = Reason.REQUEST_MALFORMED) -> None:
        super().__init__(detail)
        self.refusal = Refusal(reason, detail)


def read_lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """The lines of a stream without their ends; None for one over `MAX_LINE_BYTES`, whose rest is passed over."""
    while line := stream.readline(MAX_LINE_BYTES + 1):
        if line.endswith(b"\n") or len(line) <= MAX_LINE_BYTES:
            yield line.rstrip(b"\r\n")
            continue
        while (rest := stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        yield None


def read_question(line: bytes | None) -> Question | Refusal:
    """One question from one JSON line. Total: any bytes give a question or a refusal."""
    if line is None:
        return Refusal(Reason.REQUEST_MALFORMED, f"the line is longer than {MAX_LINE_BYTES} bytes")
    try:
        found = json.loads(line.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant)
        if not isinstance(found, dict):
            raise _Bad("the line is not a JSON object")  # noqa: TRY301  one place turns all of them into a refusal
        return _question(found)
    except _Bad as bad:
        return bad.refusal
    except (ValueError, RecursionError):
        return Refusal(Reason.REQUEST_MALFORMED, "the line is not JSON in UTF-8")


def make_question(
    url: str,
    *,
    method: str | None = None,
    sandbox: str | None = None,
    headers: Sequence[str] = (),
    addresses: Sequence[str] = (),
    query: Sequence[str] = (),
    body: bytes | None = None,
) -> Question | Refusal:
    """A question from a command line's texts; headers as `Name: value`, `query` as `name=value`, not encoded."""
    pairs: list[object] = []
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon:
            return Refusal(Reason.REQUEST_MALFORMED, "a header is written as `Name: value`")
        pairs.append([name, value.strip(" \t")])
    try:
        found = tuple(_address(text) for text in addresses)
        return Question(_with_query(url, query), method, sandbox or DEFAULT_SANDBOX, _headers(pairs), found, body=body)
    except _Bad as bad:
        return bad.refusal


def _with_query(url: str, parameters: Sequence[str]) -> str:
    """The URL with these parameters after those that it has."""
    if not parameters:
        return url
    pairs = [parameter.partition("=") for parameter in parameters]
    encoded = "&".join(quote(name, safe="") + mark + quote(value, safe="") for name, mark, value in pairs)
    return f"{url}{'&' if '?' in url else '?'}{encoded}"


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    # Readers disagree about which of two equal keys counts.
    if len(found) != len(pairs):
        raise _Bad("the line names a key twice")
    return found


def _constant(_text: str) -> object:
    raise _Bad("the line holds a number that JSON does not know")


def _question(found: dict[str, object]) -> Question:
    url = found.get("url")
    if not isinstance(url, str):
        raise _Bad("the line has no `url`" if url is None else "`url` is not text")
    return Question(
        url=_with_query(url, _parameters(found.get("query"))),
        method=_optional_text(found, "method"),
        sandbox=_optional_text(found, "sandbox") or DEFAULT_SANDBOX,
        headers=_headers(found.get("headers")),
        addresses=_addresses(found.get("address")),
        ignored=tuple(key for key in found if key not in KEYS),
        body=_body(_optional_text(found, "body")),
    )


def _body(text: str | None) -> bytes | None:
    try:
        return None if text is None else text.encode()
    except UnicodeEncodeError:
        raise _Bad("`body` holds a lone surrogate") from None


def _optional_text(found: dict[str, object], key: str) -> str | None:
    value = found.get(key)
    if value is not None and not isinstance(value, str):
        raise _Bad(f"`{key}` is not text")
    return value


def _headers(value: object) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[object, object]] = []
    match value:
        case None:
            pass
        case dict():
            for name, item in value.items():
                pairs.extend((name, each) for each in (item if isinstance(item, list) else [item]))
        case list():
            for item in value:
                if not isinstance(item, list) or len(item) != 2:  # noqa: PLR2004  a pair
                    raise _Bad("`headers` is neither an object nor a list of [name, value]")
                pairs.append((item[0], item[1]))
        case _:
            raise _Bad("`headers` is neither an object nor a list of [name, value]")
    if len(pairs) > _MAX_FIELDS:
        raise _Bad(f"more than {_MAX_FIELDS} headers", Reason.LIMIT_HEAD)
    return tuple(_header(name, item) for name, item in pairs)


def _parameters(value: object) -> list[str]:
    """`{name: value}` or a list of `name=value`, not encoded."""
    if isinstance(value, dict):
        value = [name if item is None else f"{name}={item}" for name, item in value.items()]
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _Bad("`query` is neither an object nor a list of `name=value`")
    return value


def _header(name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, str) or not isinstance(value, str):
        raise _Bad("a header's name or value is not text")
    if not _TOKEN.match(name):
        raise _Bad("a header's name is not a token")
    if not _VALUE.match(value):
        raise _Bad("a header's value holds a control character")
    return name, value


def _addresses(value: object) -> tuple[Address, ...]:
    if value is None:
        return ()
    texts = value if isinstance(value, list) else [value]
    if len(texts) > _MAX_ADDRESSES:
        raise _Bad(f"more than {_MAX_ADDRESSES} addresses")
    return tuple(_address(text) for text in texts)


def _address(text: object) -> Address:
    if not isinstance(text, str):
        raise _Bad("`address` is not text")
    host = parse_host(text, brackets=True)
    if isinstance(host, Refusal) or host.address is None:
        raise _Bad("`address` is not an IP address")
    return host.address
