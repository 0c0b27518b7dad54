"""Headers and query parameters of a rule, and how each is read: what must be there, what is set, what is removed."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import PlainValidator

from egress.config.fields import text, wrong
from egress.config.templates import read_template
from egress.config.wording import quoted
from egress.policy import SecretRef

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110, section 5.6.2
_HEADER_LENGTH: Final = 100
# Fields that frame the message, route it, or belong to one hop (RFC 9110, section 7.6.1): to change one is to let
# two servers disagree about where a request ends or whom it is for.
_FRAMING: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def header_name(value: object) -> str:
    """A header that a rule may set or remove."""
    name = text(value)
    if name.startswith(":"):
        raise wrong(f"{quoted(name)} is a pseudo-header of HTTP/2", "name an ordinary header")
    if not _TOKEN.match(name) or len(name) > _HEADER_LENGTH:
        raise wrong(f"{quoted(name)} is not a header name", "write letters, digits and `-`, as in `x-api-key`")
    lowered = name.lower()
    if lowered in _FRAMING:
        raise wrong(f"{quoted(name)} says where a request ends or goes, and rules cannot change it", "remove it")
    if lowered.startswith("x-egress-"):
        raise wrong(f"{quoted(name)} is a header of egress itself", "name another header")
    return name


def template(value: object) -> tuple[str | SecretRef, ...]:
    """A header value with `${name}` where a secret goes and `$$` for a dollar sign."""
    try:
        return read_template(text(value))
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        raise wrong(message, hint) from None


def named_value(value: object, *, what: str, example: str) -> tuple[str, str | None]:
    """`name`, or `name=pattern`, in which `*` stands for any text."""
    name, equals, pattern = text(value).partition("=")
    if not name or name != name.strip() or not name.isprintable() or "*" in name:
        raise wrong(f"{quoted(value)} names no {what}", f"write `{example}`, or the name alone")
    if not equals:
        return name, None
    if not pattern.isprintable():
        raise wrong(f"{quoted(value)} holds a control character", f"write `{example}`")
    return name, pattern


def query_value(value: object) -> tuple[str, str | None]:
    """A query parameter, decoded, perhaps with a pattern for its value."""
    found = named_value(value, what="query parameter", example="state=open")
    if "&" in found[0] or "%" in str(value):
        raise wrong(f"{quoted(value)} is encoded", "write names and values as they are after decoding, one an entry")
    return found


def header_value(value: object) -> tuple[str, str | None]:
    """A header, perhaps with a pattern for its value."""
    name, pattern = named_value(value, what="header", example="accept=application/json*")
    return header_name(name), pattern


type HeaderField = Annotated[str, PlainValidator(header_name, json_schema_input_type=str)]
type TemplateField = Annotated[tuple[str | SecretRef, ...], PlainValidator(template, json_schema_input_type=str)]
type QueryField = Annotated[tuple[str, str | None], PlainValidator(query_value, json_schema_input_type=str)]
type HeaderValueField = Annotated[tuple[str, str | None], PlainValidator(header_value, json_schema_input_type=str)]
